"""A real ingress on loopback, real WebSockets, and agents that a test plays by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from telbridge.audio.formats import PCMU_8K
from telbridge.call.call import Call, CallPlan
from telbridge.call.events import AgentAudio, CallerStartedSpeaking, ReplyAudioDone, ReplyId, SessionReady
from telbridge.call.summary import CallSummary
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.line import DialEnd
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.twiml import Dial
from telbridge.caller.streams.webhook import Account
from telbridge.config import Settings
from telbridge.legs.streams.leg import StreamLeg
from telbridge.serving.ingress import Ingress
from tests.call.sides import HandAgents, HandOutside, HandSession, a_script
from tests.ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef"
PATIENCE_S = 20.0
TRIES, SETTLED_S = 10, 1.5


@dataclass(frozen=True)
class Worker:
    """One of several, see `Ingress`."""

    number: int
    siblings: Path
    by_sip: Callable[[], int] = lambda: 0


class Side:
    """The bridge's side of one call: its leg, and its agent in the test's hands."""

    def __init__(self, leg: StreamLeg, dialplan: str = "") -> None:
        self.leg = leg
        self.session = HandSession(PCMU_8K, PCMU_8K)
        plan = CallPlan(a_script(dialplan), False, apology=b"", filler=b"", reply_timeout_s=60)
        agents, clock = HandAgents(self.session), time.monotonic_ns
        self.call = Call(leg, agents, plan, HandOutside(), clock=clock, log=structlog.get_logger())
        self.task: asyncio.Task[CallSummary] = asyncio.create_task(self.call.run())
        self._replies = 0

    async def ready(self) -> None:
        await self.session.running.wait()
        self.session.emit(SessionReady(time.monotonic_ns()))
        await until(lambda: self.call._way.talking)

    def says(self, audio: bytes, *, done: bool = True) -> ReplyId:
        """One more reply of the agent, in one burst."""
        self._replies += 1
        reply = ReplyId(self._replies)
        self.session.emit(AgentAudio(reply, audio, time.monotonic_ns()))
        if done:
            self.session.emit(ReplyAudioDone(reply))
        return reply

    def hears_the_caller(self) -> int:
        """The API says so; the time of it."""
        now_ns = time.monotonic_ns()
        self.session.emit(CallerStartedSpeaking(now_ns, interrupts=True))
        return now_ns

    async def summary(self) -> CallSummary:
        return await asyncio.wait_for(self.task, PATIENCE_S)


class StreamBed:
    """One ingress and one telephone."""

    def __init__(self, ingress: Ingress, phone: StreamPhone, port: int, audiosocket_port: int) -> None:
        self.ingress, self.phone, self.port = ingress, phone, port
        self.audiosocket_port = audiosocket_port
        self.sides: list[Side] = []

    @property
    def twilio(self) -> str:
        return f"twilio+ws://127.0.0.1:{self.port}/twilio/stream"

    @property
    def generic(self) -> str:
        return f"ws://127.0.0.1:{self.port}/generic/stream"

    def chan_websocket(self, codec: str = "ulaw", control: str = "json", login: str = "") -> str:
        address = f"{login}127.0.0.1:{self.port}/asterisk/media"
        return f"asterisk-ws://{address}?format={codec}&control={control}"

    def audiosocket(self, uuid: str = "", rate_hz: int = 8000) -> str:
        """Announced first, if there is no `uuid`."""
        query = f"?rate={rate_hz}" + ("" if uuid else f"&announce={self.http('/asterisk/announce')}")
        return f"audiosocket://127.0.0.1:{self.audiosocket_port}/{uuid}{query}"

    def http(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def dial(self, url: str | None = None) -> tuple[StreamCall, Side]:
        """A call that is up: both ends of it."""
        before = len(self.sides)
        call = await self.phone.call(url or self.twilio)
        await until(lambda: len(self.sides) > before)
        side = self.sides[-1]
        await side.ready()
        return call, side


async def say_until(side: Side, words: bytes, condition: Callable[[], bool]) -> None:
    """The agent says it (μ-law, 8 kHz), and again where a machine that stood still has torn it."""
    for _ in range(TRIES):
        side.says(words)
        with suppress(TimeoutError):
            await until(condition, len(words) / 8_000 + SETTLED_S)
            return
    pytest.fail(f"not so after the words were said {TRIES} times")


async def until(condition: Any, within_s: float = PATIENCE_S) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in objects without events
            await asyncio.sleep(0.001)


@asynccontextmanager
async def stream_bed(
    *,
    environ: Mapping[str, str] | None = None,
    account: Account | None = None,
    dialplan: str = "",
    on_dial: Callable[[Dial], Awaitable[DialEnd]] | None = None,
    ticket_key: bytes | None = None,
    worker: Worker | None = None,
    **sections: Any,
) -> AsyncIterator[StreamBed]:
    """`sections`: settings over test-friendly ones. `dialplan`: of every call. `on_dial`: see the phone.
    `worker`: which one of several this is."""
    port = free_port()
    http = {"port": port, "requests_per_second": 1000, **sections.pop("http", {})}
    audiosocket = {"port": free_port(), **sections.pop("audiosocket", {})}
    settings = Settings.model_validate({"http": http, "audiosocket": audiosocket, **sections})
    sides: list[Side] = []
    ingress = Ingress(
        settings,
        lambda leg: sides.append(Side(leg, dialplan)),
        structlog.get_logger(),
        environ={"TWILIO_AUTH_TOKEN": TOKEN} if environ is None else environ,
        ticket_key=ticket_key,
        **({} if worker is None else asdict(worker)),
    )
    await ingress.start()
    try:
        account = account or Account(TEST_ACCOUNT, TOKEN)
        async with StreamPhone(account=account, on_dial=on_dial) as phone:
            bed = StreamBed(ingress, phone, port, audiosocket["port"])
            bed.sides = sides
            yield bed
    finally:
        await ingress.stop()
        for side in sides:
            side.session.close()
            await side.task
