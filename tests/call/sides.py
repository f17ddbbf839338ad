"""A telephone and an agent that a test plays by hand: both sides of a call, without a network."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from telbridge.audio.formats import PCM_8K, PCMU_8K, AudioFormat
from telbridge.call.director import Script
from telbridge.call.events import (
    AgentEvent,
    CallFacts,
    Ending,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegQuality,
    Said,
    SessionEnd,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import (
    Greeting,
    Media,
    OutsideFailed,
    Session,
    SessionImpossible,
    TextRole,
    UpdateImpossible,
)
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.model import Dialplan
from telbridge.dialplan.orders import CallHttp, CallPython, CallWebhook
from telbridge.dialplan.plan import Plan, Wanted, resolved
from telbridge.dialplan.vocabulary import Json, NeutralSettings

MS_NS = 1_000_000


class HandLeg:
    """The telephone side. `at_ms` moves the one clock that call and test share."""

    format = PCM_8K
    frame_ms = 20

    def __init__(self) -> None:
        self.facts = CallFacts("c1", "sip", "alice", "bob", "127.0.0.1:5061", PCMU_8K)
        self.said: list[str] = []
        self.now_ns = 0
        self.woken = 0
        self.unplayed_ms = 0
        """What a carrier would hold."""
        self.media: Media | None = None
        self._on_event: Callable[[LegEvent], None] | None = None

    def clock(self) -> int:
        return self.now_ns

    def attach(self, media: Media, on_event: Callable[[LegEvent], None]) -> None:
        self.media, self._on_event = media, on_event

    def ring(self) -> None:
        self.said.append("180")

    def answer(self) -> None:
        self.said.append("200")
        asyncio.get_running_loop().call_soon(self.emit, LegAnswered(self.now_ns))

    def reject(self, status: int, *, retry_after_s: int | None = None) -> None:
        self.said.append(str(status))
        self._end(Ending.DRAINED)

    def hang_up(self) -> None:
        if "BYE" not in self.said and "over" not in self.said:
            self.said.append("BYE")
            self._end(Ending.AGENT_HUNG_UP)

    def _end(self, ending: Ending) -> None:
        asyncio.get_running_loop().call_soon(self.emit, LegEnded(ending, self.now_ns))

    def caller_hangs_up(self) -> None:
        self.said.append("over")
        self.emit(LegEnded(Ending.CALLER_HUNG_UP, self.now_ns))

    def wake(self) -> None:
        self.woken += 1

    def flush(self) -> int:
        self.said.append("flush")
        return self.unplayed_ms

    def transfer(self, target: str, *, timeout_s: float) -> None:
        self.said.append(f"REFER {target}")

    def send_dtmf(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        self.said.append(f"keys {digits}")

    def quality(self) -> LegQuality | None:
        return None

    def emit(self, event: LegEvent) -> None:
        assert self._on_event is not None
        self._on_event(event)

    def hears(self, frames: int = 1) -> bytes:
        """Pull so many frames, 20 ms apart."""
        assert self.media is not None
        heard = b""
        for _ in range(frames):
            self.now_ns += 20 * MS_NS
            heard += bytes(self.media.downlink(self.now_ns))
        return heard

    def speaks(self, frame: bytes) -> None:
        assert self.media is not None
        self.media.uplink(frame, self.now_ns)


class HandSession:
    """The agent side; `downlink_format` is linear so that a test can recognise samples."""

    def __init__(self, uplink: AudioFormat = PCM_8K, downlink: AudioFormat = PCM_8K) -> None:
        self.uplink_format, self.downlink_format = uplink, downlink
        self.uplink: list[bytes] = []
        self.greetings: list[Greeting] = []
        self.texts: list[str] = []
        self.asked: list[tuple[str, str]] = []
        """Everything else that was asked, in order: kind and text or id."""
        self.heard: list[Heard] = []
        self.reading = True
        self.closed = False
        self.uplink_dropped_ms = 0
        self.connected_ns: int | None = None
        self.said: list[Said] = []
        self.says_exactly = True
        self.refuses = ""
        """Why an update is impossible."""
        self.emit: Callable[[AgentEvent], None] = lambda event: None
        self._end: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()
        self.running = asyncio.Event()

    async def run(self, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        self.emit = on_event
        self.running.set()
        return await self._end

    def ends(self, ending: Ending, detail: str = "") -> None:
        self._end.set_result(SessionEnd(ending, detail))

    def breaks(self, error: Exception) -> None:
        self._end.set_exception(error)

    def send_audio(self, frame: bytes) -> None:
        self.uplink.append(frame)

    def greet(self, greeting: Greeting) -> None:
        self.greetings.append(greeting)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        self.texts.append(text)

    def say(self, text: str) -> None:
        self.asked.append(("say", text))

    def request_reply(self, instructions: str | None = None) -> None:
        self.asked.append(("reply", instructions or ""))

    def interrupt(self) -> None:
        self.asked.append(("interrupt", ""))

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool = False) -> None:
        self.asked.append(("failed" if failed else "result", tool_call_id))

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        if self.refuses:
            raise UpdateImpossible("voice", self.refuses)
        self.asked.append(("update", str(sorted(neutral.model_fields_set))))

    def report_heard(self, heard: Sequence[Heard]) -> None:
        self.heard += heard

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True
        if not self._end.done():
            self.ends(Ending.AGENT_HUNG_UP)


class HandAgents:
    """Gives the sessions that the test made, in their order."""

    def __init__(self, *sessions: HandSession) -> None:
        self.left = list(sessions)
        self.wanted: list[Wanted] = []
        self.told: list[Sequence[Said]] = []
        self.replies_from = 0

    def open(self, wanted: Wanted, *, said: Sequence[Said] = (), replies_from: int = 0) -> Session:
        self.wanted.append(wanted)
        self.told.append(said)
        self.replies_from = replies_from
        if not self.left:
            raise SessionImpossible("no more agents here")
        return self.left.pop(0)


class HandOutside:
    """The world outside, as the test wishes it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        """By URL or entry point; an exception is raised, what is missing fails."""
        self.voice: bytes | None = None
        self.wavs: dict[str, bytes] = {}

    async def _answer(self, what: str) -> Any:
        self.asked.append(what)
        await asyncio.sleep(0)
        if what not in self.answers:
            raise OutsideFailed("no answer")
        return self.answers[what]

    async def webhook(self, order: CallWebhook) -> Any:
        return await self._answer(order.url)

    async def http(self, order: CallHttp) -> Any:
        return await self._answer(order.url)

    async def python(self, order: CallPython) -> Any:
        return await self._answer(order.entry)

    async def speech(self, text: str) -> bytes:
        self.asked.append(f"voice: {text}")
        await asyncio.sleep(0)
        if self.voice is None:
            raise OutsideFailed("there is no voice")
        return self.voice

    def recording(self, file: str) -> bytes:
        if file not in self.wavs:
            raise OutsideFailed(f"{file} was not read")
        return self.wavs[file]

    def music(self) -> bytes:
        return b"\x40\x01" * 16_000


def a_script(dialplan: str = "") -> Script:
    """A dialplan as its author would write it, for the leg of these tests."""
    model = Dialplan.model_validate(tomllib.loads(dialplan))
    sessions = {name: resolved(profile, model.profiles) for name, profile in model.profiles.items()}
    sessions[""] = resolved(model.session, model.profiles)
    plan = Plan("test", "test.toml", "v1", model, sessions, model.hours, ("local", "deepgram"))
    facts = Facts("c1", "sip", "alice", "bob", datetime(2026, 11, 23, 10, 30, tzinfo=UTC))
    return Script(plan, facts, "local")
