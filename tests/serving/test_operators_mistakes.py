"""What an operator sets, however oddly, reaches the calls or is told; what a drain and a new stream leave."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import AgentAudio, CallFacts, ReplyId, SessionReady
from telbridge.config import ConfigErrors, Settings, load
from telbridge.legs.sip.backlog import WINDOW_TICKS
from telbridge.legs.sip.leg import LegParts, SipLeg, _State
from telbridge.legs.sip.ports import CallbackPort
from telbridge.serving import sessions
from telbridge.serving.dialplans import HANG_UP_TOOL
from telbridge.serving.messages import WorkerStart
from telbridge.serving.own_words import own_words
from telbridge.serving.sessions import Sessions
from telbridge.serving.worker import Worker
from telbridge.sessions.providers import PROVIDERS
from tests.call.sides import HandAgents, HandLeg, HandSession
from tests.legs.test_backlog import LOUD, QUIET
from tests.serving.test_sessions import asked_of, settings_for

FACTS = CallFacts("c1", "sip", "a", "b", "127.0.0.1:5061", PCMU_8K)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "raw", "found"),
    [
        ("AZURE_VOICE_LIVE__API_VERSION", "2026-04-10", lambda s: s.azure_voice_live.api_version),
        ("SESSION__USER_ID", "4711", lambda s: s.session.user_id),
        ("CALL__GREETING", "1984", lambda s: s.call.greeting),
        ("SESSION__MAX_OUTPUT_TOKENS", "inf", lambda s: s.session.max_output_tokens),
    ],
)
def test_a_text_that_looks_like_something_else_can_be_set_in_the_environment(
    name: str, raw: str, found: Any
) -> None:
    assert found(load(None, {f"TELBRIDGE__{name}": raw})) == raw


def test_a_mistake_in_a_table_of_several_kinds_is_blamed_on_the_environment() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(None, {"TELBRIDGE__OPENAI_REALTIME__TURN_DETECTION__THRESHOLD": "7"})
    assert str(caught.value).startswith("environment TELBRIDGE__OPENAI_REALTIME__TURN_DETECTION__THRESHOLD: ")


def test_settings_that_load_reach_the_worker(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[local_agent]\nmax_session_s = inf\n", "utf-8")
    try:
        settings = load(file, {})
    except ConfigErrors:
        return  # Told at check time: as good.
    line = WorkerStart(settings=settings, agent_port=None).model_dump_json(exclude_unset=True)
    assert WorkerStart.model_validate_json(line).settings == settings


def test_the_tool_that_hangs_up_stands_beside_an_mcp_server() -> None:
    tool = {"type": "mcp", "server_label": "s", "server_url": "https://x/y", "require_approval": "never"}
    section = {"url": "ws://127.0.0.1:1", "tools": [tool]}
    settings = settings_for("openai_realtime", openai_realtime=section)
    shown = asked_of(Sessions(settings, None), settings)
    assert "https://x/y" in shown
    assert HANG_UP_TOOL in shown


# ---------------------------------------------------------------- serving


async def test_any_failure_to_fetch_a_secret_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = 0

    def fetch(settings: object) -> dict[str, str]:
        nonlocal times
        times += 1
        if times == 2:
            raise ValueError("a credential's own exception")
        return {"TELBRIDGE_AZURE_ENTRA_TOKEN": f"token-{times}"}

    azure = PROVIDERS["azure_voice_live"]
    other = type(azure)(**{name: getattr(azure, name) for name in azure.__slots__} | {"fetch_secrets": fetch})
    monkeypatch.setitem(sessions.PROVIDERS, "azure_voice_live", other)  # type: ignore[arg-type]
    monkeypatch.setattr(sessions, "REFRESH_S", 0.0)
    monkeypatch.setattr(sessions, "TRY_AGAIN_S", 0.0)
    made = Sessions(
        settings_for("azure_voice_live", azure_voice_live={"resource": "mine", "entra": True}), None
    )
    keeping = asyncio.create_task(made.keep_secrets_fresh())
    async with asyncio.timeout(20):
        while times < 4:
            assert not keeping.done(), "nobody refreshes the token any more"
            await asyncio.sleep(0)
    keeping.cancel()


def test_a_wav_that_is_none_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "filler.wav"
    file.write_text("no wave")
    with pytest.raises(ConfigErrors) as caught:
        own_words(Settings.model_validate({"call": {"filler_wav": file}}))
    assert "call.filler_wav" in str(caught.value)


class LiveLeg(HandLeg):
    """Takes a frame every 20 ms."""

    heard = b""

    async def play(self) -> None:
        while "BYE" not in self.said:
            self.heard += self.hears()
            await asyncio.sleep(0.02)


class Slow(HandSession):
    """Takes its time to say farewell."""

    def close(self) -> None:
        asyncio.get_running_loop().call_later(1.0, super().close)


async def test_a_call_that_is_drained_hears_all_of_the_apology_and_leaves_its_record(tmp_path: Path) -> None:
    records = tmp_path / "calls.jsonl"
    settings = Settings.model_validate({"records": {"path": records}, "serve": {"drain_s": 0}})
    worker = Worker(WorkerStart(settings=settings, agent_port=1))
    leg, session = LiveLeg(), Slow()
    worker._http = object()  # type: ignore[assignment]
    agents = HandAgents(session)
    worker._sessions = SimpleNamespace(of_call=lambda *_: agents, default="local")  # type: ignore[assignment]
    worker._on_call(leg)  # type: ignore[arg-type]
    await session.running.wait()
    session.emit(SessionReady(0))
    await asyncio.sleep(0.01)
    session.emit(AgentAudio(ReplyId(1), b"\x01\x02" * 8000 * 20, 0))  # amid a long answer
    playing = asyncio.create_task(leg.play())
    await asyncio.sleep(0.1)
    (stop := asyncio.Event()).set()
    await worker._drain(stop, asyncio.Event())
    playing.cancel()
    assert worker._words.apology in leg.heard
    (line,) = records.read_text().splitlines()
    assert json.loads(line)["ending"] == "drained"


# ---------------------------------------------------------------- the jitter buffer


class HandPort:
    """A stream whose jitter buffer the test fills."""

    pieces = 1

    def __init__(self) -> None:
        self.live = True
        self.buffer: deque[memoryview] = deque()
        self.invented = 0

    @property
    def waiting(self) -> int:
        return len(self.buffer)

    def stream_created(self, parameters: Any) -> None:
        self.live = True

    def stream_gone(self) -> None:
        self.live = False
        self.buffer.clear()

    def read(self) -> memoryview | None:
        if not self.buffer:
            self.invented += 1
            return memoryview(bytes(320))  # what pjmedia conceals a gap with
        return self.buffer.popleft()

    def write(self, frame: bytes) -> None: ...
    def close(self) -> None: ...


class Ear:
    def __init__(self) -> None:
        self.heard: list[memoryview] = []

    def uplink(self, frame: memoryview, now_ns: int) -> None:
        self.heard.append(frame)

    def downlink(self, now_ns: int) -> bytes:
        return bytes(320)


@pytest.fixture
async def line() -> tuple[SipLeg, HandPort, Ear]:
    """A call on which 6 frames too many stand in the buffer, and which has just found that out."""
    port, ear = HandPort(), Ear()
    call = SimpleNamespace()
    leg = SipLeg(
        LegParts(
            FACTS,
            SimpleNamespace(),
            call,
            port,
            SimpleNamespace(),
            asyncio.get_running_loop(),  # type: ignore[arg-type]
            lambda: 0,
            structlog.get_logger(),
            30.0,
            fixed_tone=False,
        )
    )
    leg._media, leg._state, leg._watch.next_look_ns = ear, _State.TALKING, 1 << 62
    port.buffer.extend([LOUD] * 6)
    for _ in range(WINDOW_TICKS):
        port.buffer.append(LOUD)
        leg.listen(1, 0)
    assert leg._backlog.surplus > 2
    return leg, port, ear


def quiet_line(leg: SipLeg, port: HandPort, ear: Ear, ticks: int) -> int:
    """Frames of the caller that did not get through, a quiet voice at one frame a tick."""
    ear.heard.clear()
    soft = QUIET.obj
    came = [memoryview(bytes(soft)) for _ in range(ticks)]  # type: ignore[arg-type]
    for frame in came:
        port.buffer.append(frame)
        leg.listen(1, 0)
    return sum(not any(heard is frame for heard in ear.heard) for frame in came)


async def test_two_frames_become_one_and_none_is_lost(line: tuple[SipLeg, HandPort, Ear]) -> None:
    leg, port, ear = line
    waiting = len(port.buffer)
    ear.heard.clear()
    soft = [memoryview(bytes([number, 0] * 160)) for number in range(100)]
    for frame in soft:
        port.buffer.append(frame)
        leg.listen(1, 0)
    gone = waiting - len(port.buffer)
    assert gone >= waiting - 1 > 0
    assert len(ear.heard) == 100
    assert port.invented == 0
    joined = [heard for heard in ear.heard if not any(heard is frame for frame in (*soft, LOUD))]
    assert len(joined) == gone


async def test_a_new_stream_owes_nothing_for_the_one_before(line: tuple[SipLeg, HandPort, Ear]) -> None:
    leg, port, ear = line
    leg.stream_destroyed()
    leg.stream_created(SimpleNamespace(streamIdx=0))
    assert quiet_line(leg, port, ear, WINDOW_TICKS - 1) == 0
    assert port.invented == 0


async def test_after_a_gap_such_as_a_key_makes_nothing_is_skipped_that_is_not_too_much(
    line: tuple[SipLeg, HandPort, Ear],
) -> None:
    leg, port, ear = line
    for _ in range(8):  # a key is pressed: no audio comes, the buffer runs empty
        leg.listen(1, 0)
    port.invented = 0
    assert quiet_line(leg, port, ear, WINDOW_TICKS - 9) == 0
    assert port.invented == 0


def test_what_waited_for_a_stream_that_is_gone_is_not_said_into_the_next_one() -> None:
    port = CallbackPort.__new__(CallbackPort)
    port._media = SimpleNamespace(heard=deque([b"h"]), to_say=deque([b"stale"]))
    port._stream = object()
    port.stream_gone()
    assert not port._media.to_say
