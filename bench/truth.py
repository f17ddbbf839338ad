"""Scripted truth: an agent whose delays are known to the millisecond; does the call's record show them?

The caller speaks in noise that begins and ends with a packet; the agent tells and answers after delays that
it draws by lot and notes as they really were. Every second answer is interrupted. What the record says of
each turn is held against the notes of caller and agent: one clock, that of this machine.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from bench.figures import Figure, at_least, at_most, exactly, percentile, told
from bench.judge import compare, judge
from bench.phone import SETTLE_S, spread_phone, undisturbed
from bench.processes import CpuClock, bridge, worker_pid
from bench.recorded import as_figures
from bench.scripted_agent import ScriptedAgent, Session, scripted_agent
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller import CallHandle
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import StreamPhone
from telbridge.caller.timeline import DECODERS
from tests.e2e.bridge import Bridge

Way = Literal["sip", "streams"]
LIMITS_MS: Final[Mapping[Way, float]] = {"sip": 20.0, "streams": 10.0}
CALLS: Final = 4
TURNS: Final = 40
"""Of each call: 160 each way, of which a busy machine leaves well over 100 that are known well."""
WELL_KNOWN: Final = 100
NOISE, TONE_HZ, AMPLITUDE = 3_000, 500, 8_000
LOUD: Final = 600
MISSING, SUM = "turns missing in the record", "sum of the parts of a gap"
SHORT_S, LONG_S = 0.4, 2.5
LATE_MS: Final = 2.0
"""Of this script's own timer: more, and others had the machine. Then nobody knows the truth to the
millisecond, and what is reported of that moment is only told."""
_LOUD_CODES: Final = bytes(np.abs(np.frombuffer(DECODERS[0](bytes(range(256))), "<i2").astype(int)) > LOUD)
Call = CallHandle | StreamCall


@dataclass(slots=True)
class Truth:
    """One turn as caller and agent know it; monotonic ns."""

    onset_ns: int
    """The first packet of the caller's words is sent."""
    ended_ns: int
    """The last one is."""
    told_ns: int
    """The agent says that somebody speaks."""
    stopped_ns: int = 0
    """The agent says that they have finished."""
    reply_ns: int = 0
    """The agent answers."""
    cut: bool = False
    """The words interrupted the answer before."""


@dataclass(slots=True)
class Talk:
    """A call, with all that both ends noted."""

    call: Call
    session: Session
    turns: list[Truth] = field(default_factory=list)
    heard_ns: list[int] = field(default_factory=list)
    """The agent got audio of the caller that is loud."""
    said_ns: list[int] = field(default_factory=list)
    """The caller got audio of the agent that is loud."""

    def listen(self) -> None:
        self.session.on_audio = _noting(self.heard_ns)
        if isinstance(self.call, StreamCall):
            self.call.on_audio.append(_noting(self.said_ns))

    def close(self) -> None:
        """All packets have come."""
        if isinstance(self.call, CallHandle):
            self.said_ns = [packet.at_ns for packet in self.call.received if _is_loud(packet.payload)]


def _noting(times: list[int]) -> Callable[[int, bytes], None]:
    def note(at_ns: int, payload: bytes) -> None:
        if _is_loud(payload):
            times.append(at_ns)

    return note


def _is_loud(payload: bytes) -> bool:
    return 1 in payload.translate(_LOUD_CODES)


async def measure() -> list[Figure]:
    figures: list[Figure] = []
    for way in LIMITS_MS:
        figures += await _measure(way)
    return figures


async def _measure(way: Way) -> list[Figure]:
    late = Lateness()
    async with scripted_agent() as agent, _bridge_to(agent.url) as running, AsyncExitStack() as stack:
        talks = await _calls(way, running, agent, stack)
        worker = CpuClock.read(worker_pid(running))
        await asyncio.sleep(SETTLE_S)
        with undisturbed():
            async with late:
                await asyncio.gather(*(_converse(talk, seed) for seed, talk in enumerate(talks)))
        waited = worker.since().waited
        await asyncio.gather(*(talk.call.hang_up() for talk in talks))
        for talk in talks:
            talk.close()
        records = {record["caller"]: record for record in await running.records(len(talks))}
        checked = [_checked(talk, records[f"truth{number}"], way) for number, talk in enumerate(talks)]
        compared = [
            one
            for record in records.values()
            for one in compare(judge(Path(record["recording"]["path"])), record)
        ]
    return [
        *_figures(way, [error for errors in checked for error in errors], late),
        *as_figures(f"truth, {way}", compared),
        told(f"truth, {way}: this script's timer late, p99", percentile(late.all_ms, 99), "ms"),
        told(f"truth, {way}: this script's timer late, most", max(late.all_ms), "ms"),
        told(f"truth, {way}: the worker waited for a core", waited, "% of the time"),
    ]


# -------------------------------------------------------------------- the conversation


@asynccontextmanager
async def _bridge_to(url: str) -> AsyncIterator[Bridge]:
    with tempfile.TemporaryDirectory(prefix="telbridge-truth-") as folder:
        key = Path(folder) / "key"
        key.write_text("no-secret")
        settings = {
            "call": {"agent": "openai_realtime"},
            "openai_realtime": {"url": url, "audio": "g711", "api_key": f'{{ file = "{key}" }}'},
            "recording": {"calls": "on", "folder": folder},
        }
        async with bridge("built", settings) as running:
            yield running


async def _calls(way: Way, running: Bridge, agent: ScriptedAgent, stack: AsyncExitStack) -> list[Talk]:
    """One by one: sessions do not name their call."""
    talks = []
    if way == "sip":
        phone = await stack.enter_async_context(spread_phone(CALLS))
    else:
        streams = await stack.enter_async_context(StreamPhone(phases=CALLS))
    for number in range(CALLS):
        call: Call
        if way == "sip":
            call = await phone.call(running.uri, from_user=f"truth{number}")
            await call.wait_answered(10)
        else:
            call = await streams.call(running.generic, caller=f"truth{number}")
        talk = Talk(call, await agent.next_session())
        talk.listen()
        talks.append(talk)
    return talks


async def _converse(talk: Talk, seed: int) -> None:
    chance = random.Random(seed)
    await asyncio.sleep(chance.uniform(0, 0.5))
    cut = False
    for number in range(TURNS):
        turn = await _words(talk, chance, cut=cut)
        talk.turns.append(turn)
        # Silence of less than 400 ms between two replies is a pause to who judges by energy.
        await asyncio.sleep(chance.uniform(0.3, 0.6))
        turn.stopped_ns = time.monotonic_ns()
        await talk.session.caller_stops()
        await asyncio.sleep(chance.uniform(0.05, 0.5))
        cut = number % 2 == 0 and number < TURNS - 1
        reply = await talk.session.say(_tone(LONG_S if cut else SHORT_S))
        turn.reply_ns = reply.sent_ns
        await asyncio.sleep(chance.uniform(0.5, 0.9) if cut else SHORT_S + 0.4)


async def _words(talk: Talk, chance: random.Random, *, cut: bool) -> Truth:
    """The caller speaks, and the agent says so while they do."""
    playing = talk.call.play(_noise(chance))
    await asyncio.sleep(chance.uniform(0.1, 0.3))
    told_ns = await talk.session.caller_speaks()
    played = await playing
    assert played.first_ns is not None
    assert played.last_ns is not None
    return Truth(played.first_ns, played.last_ns, told_ns, cut=cut)


def _noise(chance: random.Random) -> bytes:
    """Whole packets."""
    samples = 160 * chance.randint(20, 30)
    values = np.random.default_rng(chance.randrange(2**32)).standard_normal(samples) * NOISE
    return values.clip(-32_000, 32_000).astype("<i2").tobytes()


def _tone(length_s: float) -> bytes:
    angles = 2 * np.pi * TONE_HZ * (np.arange(int(length_s * 8_000)) + 1) / 8_000
    return pcm16_to_ulaw(np.rint(AMPLITUDE * np.cos(angles)).astype("<i2").tobytes())


class Lateness:
    """How late a timer of 5 ms is, in the process that plays caller and agent."""

    def __init__(self) -> None:
        self.all_ms: list[float] = []
        self._at_ns: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lateness:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(0.005)
            self._at_ns.append(time.monotonic_ns())
            self.all_ms.append((self._at_ns[-1] - before_ns) / 1e6 - 5.0)

    def around(self, at_ns: float) -> float:
        """How late it was at that moment, in ms."""
        after = bisect_left(self._at_ns, at_ns)
        return max(self.all_ms[max(0, after - 1) : after + 2], default=math.inf)


# -------------------------------------------------------------------- held against the record


@dataclass(frozen=True, slots=True)
class Error:
    """Of one reported interval, against the truth; infinite if it is not in the record."""

    interval: str
    off_ms: float
    points_ns: tuple[float, ...] = ()
    """Between which it lies."""


def _checked(talk: Talk, record: Mapping[str, Any], way: Way) -> list[Error]:
    reported = [turn for turn in record["turns"] if turn["agent_on_wire_ms"] is not None]
    errors = [Error(MISSING, abs(len(reported) - len(talk.turns)))]
    cut_before: Mapping[str, Any] | None = None
    for truth, turn in zip(talk.turns, reported, strict=False):
        errors += _of_turn(talk, truth, turn)
        if truth.cut:
            errors += _of_cut(talk, truth, cut_before, way)
        cut_before = turn["interruption"]
    return errors


def _of_turn(talk: Talk, truth: Truth, turn: Mapping[str, Any]) -> list[Error]:
    agent_heard_ns = _last(talk.heard_ns, truth.onset_ns, truth.stopped_ns)
    wire_ns = _first(talk.said_ns, truth.reply_ns)
    parts = turn["parts_ms"]
    known = {
        "turn gap": (truth.ended_ns, wire_ns, turn["gap_ms"]),
        "uplink": (truth.ended_ns, agent_heard_ns, parts.get("uplink")),
        "end of turn": (agent_heard_ns, truth.stopped_ns, parts.get("end_of_turn")),
        "first audio": (truth.stopped_ns, truth.reply_ns, parts.get("first_audio")),
        "downlink and wire": (truth.reply_ns, wire_ns, _sum(parts, "downlink", "wire")),
    }
    whole = math.inf if turn["gap_ms"] is None else sum(parts.values()) - turn["gap_ms"]
    return [*_errors(known), Error(SUM, whole)]


def _of_cut(talk: Talk, truth: Truth, cut: Mapping[str, Any] | None, way: Way) -> list[Error]:
    if isinstance(talk.call, StreamCall):
        silent_ns = _first([clear.at_ns for clear in talk.call.facts.clears], truth.told_ns)
    else:
        silent_ns = _last(talk.said_ns, truth.onset_ns, truth.reply_ns)
    cut = cut or {}
    return _errors(
        {
            "detect": (truth.onset_ns, truth.told_ns, cut.get("detect_ms")),
            "stop": (truth.told_ns, silent_ns, cut.get("stop_ms")),
            "talk-over": (truth.onset_ns, silent_ns, cut.get("talk_over_ms")),
        }
    )


def _errors(known: Mapping[str, tuple[float, float, float | None]]) -> list[Error]:
    return [
        Error(
            name,
            math.inf if reported_ms is None else reported_ms - (to_ns - from_ns) / 1e6,
            (from_ns, to_ns),
        )
        for name, (from_ns, to_ns, reported_ms) in known.items()
    ]


def _sum(parts: Mapping[str, float], *names: str) -> float | None:
    return sum(parts[name] for name in names) if all(name in parts for name in names) else None


def _first(times: Sequence[int], after_ns: int) -> float:
    return next((at_ns for at_ns in times if at_ns >= after_ns), math.inf)


def _last(times: Sequence[int], after_ns: int, before_ns: int) -> float:
    return max((at_ns for at_ns in times if after_ns <= at_ns < before_ns), default=-math.inf)


def _figures(way: Way, errors: Sequence[Error], late: Lateness) -> list[Figure]:
    figures: list[Figure] = []
    for name in dict.fromkeys(error.interval for error in errors):
        these = [error for error in errors if error.interval == name]
        most = max(abs(error.off_ms) for error in these)
        title = f"truth, {way}: {name}"
        if name == MISSING:
            figures.append(exactly(f"{title} of {CALLS * TURNS}", sum(error.off_ms for error in these), 0))
        elif name == SUM:
            figures.append(at_most(f"{title} off by, most", most, 0.05, "ms"))
        else:
            known = [error.off_ms for error in these if max(map(late.around, error.points_ns)) <= LATE_MS]
            most_known = max(map(abs, known), default=math.inf)
            figures.append(at_most(f"{title} off by, most of {len(known)}", most_known, LIMITS_MS[way], "ms"))
            figures.append(told(f"{title} off by, mean", statistics.fmean(known or [math.inf]), "ms"))
            figures.append(told(f"{title} off by, most of {len(these)}, this script late too", most, "ms"))
            if name == "turn gap":
                figures.append(at_least(f"{title}s whose truth is known well", len(known), WELL_KNOWN))
    return figures
