"""The two telephone sides of a load, alike to whoever measures: a floor, a bridge, a crowd of calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bench.crowd import Cores, Counting
from bench.lines import Line, LinePhone
from bench.processes import Build, bridge, child
from bench.stream_lines import TOKEN, StreamLine, StreamPhone
from bench.usage import named
from telbridge.caller import CallHandle
from tests.e2e.bridge import Bridge

CALL_EVERY_S: Final = 0.05
"""20 calls a second; what set-up takes at a given rate is the matter of `bench.call_setup`."""
ANSWER_S: Final = 10.0
MOST_STREAMS: Final = 1_000
"""More than any ladder has."""


class Crowd(Protocol):
    """Calls that go on at the same time."""

    setup_ms: list[float]
    """Of each call that was begun."""

    @property
    def lines(self) -> Sequence[Counting]: ...

    @property
    def ended(self) -> int:
        """Calls that are over though nobody here ended them."""

    @property
    def skipped(self) -> int:
        """Frames that the load never sent because it stood still."""

    async def resize(self, calls: int) -> None:
        """So many from now on. Raises what a call that cannot be had raises."""


class SipCrowd:
    """By telephone."""

    def __init__(self, phone: LinePhone, uri: str, *, pulses: bool) -> None:
        self.setup_ms: list[float] = []
        self._phone, self._uri, self._pulses = phone, uri, pulses
        self.calls: list[tuple[CallHandle, Line]] = []

    @property
    def lines(self) -> Sequence[Counting]:
        return [line for _, line in self.calls]

    @property
    def ended(self) -> int:
        return sum(call.ended is not None for call, _ in self.calls)

    @property
    def skipped(self) -> int:
        return self._phone.skipped

    async def resize(self, calls: int) -> None:
        gone, self.calls = self.calls[calls:], self.calls[:calls]
        await asyncio.gather(*(call.hang_up() for call, _ in gone))
        new = []
        while len(self.calls) < calls:
            new.append(self._phone.dial(self._uri, pulses=self._pulses))
            self.calls.append(new[-1])
            await asyncio.sleep(CALL_EVERY_S)
        for call, _ in new:
            answered = await call.wait_answered(ANSWER_S)
            self.setup_ms.append((answered.at_ns - call.times.invited_ns) / 1e6)


class StreamCrowd:
    """By media streams."""

    def __init__(self, phone: StreamPhone) -> None:
        self.setup_ms: list[float] = []
        self._phone = phone
        self.calls: list[StreamLine] = []

    @property
    def lines(self) -> Sequence[Counting]:
        return self.calls

    @property
    def ended(self) -> int:
        return sum(line.over for line in self.calls)

    @property
    def skipped(self) -> int:
        return self._phone.skipped

    async def resize(self, calls: int) -> None:
        gone, self.calls = self.calls[calls:], self.calls[:calls]
        for line in gone:
            self._phone.leave(line)
        new = []
        for _ in range(calls - len(self.calls)):
            new.append(asyncio.create_task(self._phone.dial()))
            await asyncio.sleep(CALL_EVERY_S)
        for line, took_ms in await asyncio.gather(*new):
            self.calls.append(line)
            self.setup_ms.append(took_ms)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    name: str
    floor_name: str
    floor_module: str
    floor_delay_counts: bool
    """The floor's own delay is taken off: it is the load's and the network's. pjsua2's loop-back has a delay
    of its own that is no part of ours."""
    multiple_calls: int
    """At which the CPU is judged as a multiple of the floor."""
    multiple: float
    half_knee_p50_ms: float | None
    half_knee_p95_ms: float
    to_floor: Callable[[Mapping[str, Any]], AbstractAsyncContextManager[Crowd]]
    to_bridge: Callable[[Bridge, str], AbstractAsyncContextManager[Crowd]]


@asynccontextmanager
async def sip(uri: str, *, pulses: bool) -> AsyncIterator[Crowd]:
    async with LinePhone() as phone:
        crowd = SipCrowd(phone, uri, pulses=pulses)
        try:
            yield crowd
        finally:
            await crowd.resize(0)


@asynccontextmanager
async def streams(base: str, *, webhook: bool) -> AsyncIterator[Crowd]:
    async with StreamPhone(base, webhook=webhook) as phone:
        crowd = StreamCrowd(phone)
        try:
            yield crowd
        finally:
            await crowd.resize(0)


SIP: Final = Side(
    "sip",
    "all-C loop-back",
    "bench.floor",
    floor_delay_counts=False,
    multiple_calls=80,
    multiple=4.0,
    half_knee_p50_ms=40.0,
    half_knee_p95_ms=50.0,
    to_floor=lambda ready: sip(f"sip:loop@127.0.0.1:{ready['port']}", pulses=True),
    to_bridge=lambda bridge, brain: sip(bridge.uri, pulses=brain != "monologue"),
)
STREAMS: Final = Side(
    "streams",
    "bare aiohttp echo",
    "bench.stream_floor",
    floor_delay_counts=True,
    multiple_calls=120,
    multiple=3.0,
    half_knee_p50_ms=None,
    half_knee_p95_ms=5.0,
    to_floor=lambda ready: streams(f"ws://127.0.0.1:{ready['port']}/twilio/stream", webhook=False),
    to_bridge=lambda bridge, brain: streams(f"http://127.0.0.1:{bridge.http_port}", webhook=True),
)
SIDES: Final = (SIP, STREAMS)

# ----------------------------------------------------------------------------- the other end: brains

MONOLOGUE: Final = """
# Half a minute in one burst, and the next before it is over.
[[step]]
on = "configured"
reply = { tone_hz = 440, ms = 30000 }

[[step]]
on = "reply_started"
after_ms = 29000
times = 0
reply = { tone_hz = 440, ms = 30000 }
"""
CONVERSATION: Final = """
# A turn every three seconds: three seconds of answer in one burst, cut by the caller after two.
[[step]]
on = "configured"
reply = { tone_hz = 440, ms = 3000, words = "The agent speaks for three seconds." }

[[step]]
on = "reply_started"
after_ms = 2000
times = 0
event = "speech_started"

[[step]]
on = "reply_started"
after_ms = 2600
times = 0
event = "speech_stopped"
heard = "The caller interrupts."

[[step]]
on = "reply_started"
after_ms = 3000
times = 0
reply = { tone_hz = 440, ms = 3000, words = "The agent speaks for three seconds." }
"""
BRAINS: Final = ("echo", "monologue", "conversation")
_SCRIPTS: Final = {"monologue": MONOLOGUE, "conversation": CONVERSATION}


@asynccontextmanager
async def running(
    cores: Cores,
    brain: str,
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    build: Build = "built",
) -> AsyncIterator[Bridge]:
    """A bridge on its core, with the embedded agent as the other end on the load's."""
    agent: dict[str, Any] = {"brain": "echo"}
    if (script := _SCRIPTS.get(brain)) is not None:
        file = folder / f"{brain}.toml"
        file.write_text(script, "utf-8")
        agent = {"brain": "script", "script": str(file)}
    os.environ["TWILIO_AUTH_TOKEN"] = TOKEN
    merged: dict[str, dict[str, Any]] = {"local_agent": agent, "streams": {"max_calls": MOST_STREAMS}}
    for section, values in (settings or {}).items():
        merged.setdefault(section, {}).update(values)
    async with AsyncExitStack() as stack:
        with cores.bridges_start():
            one = await stack.enter_async_context(bridge(build, merged))
        if (agent_pid := named(one).get("agent")) is not None:
            cores.to_load(agent_pid)
        yield one


@asynccontextmanager
async def floor(cores: Cores, side: Side) -> AsyncIterator[Mapping[str, Any]]:
    """The floor's process on telbridge's core: what it said, with its `pid`."""
    async with AsyncExitStack() as stack:
        with cores.bridges_start():
            ready = await stack.enter_async_context(child(side.floor_module))
        yield ready
