"""When a call is on tape: consent, pauses, masked digits, and only what was heard."""

from __future__ import annotations

import asyncio

import structlog

from telbridge.call import taping
from telbridge.call.call import Call, CallPlan
from telbridge.call.events import AgentAudio, Dtmf, Held, Resumed
from telbridge.call.taping import Tape
from tests.call.sides import HandAgents, HandLeg, HandOutside, HandSession, a_script
from tests.call.test_call import FRAME as OCTETS
from tests.call.test_call import MOMENT, R1, SORRY, Scene, _soon

FRAME = bytes(OCTETS)


class HandTape(Tape):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.caller_frames = self.agent_frames = 0

    def begin(self, at_ns: int, from_ms: float) -> None:
        self.heard.append("begin")

    def caller(self, frame: bytes | memoryview, now_ns: int) -> None:
        self.caller_frames += 1

    def agent(self, frame: bytes | memoryview, now_ns: int) -> None:
        self.agent_frames += 1

    def agent_ahead(self, frame: bytes | memoryview, now_ns: int) -> None:
        self.agent_frames += 1

    def unplayed(self, length_ms: int) -> None:
        self.heard.append(f"unplayed {length_ms}")

    def pause(self, at_ns: int) -> None:
        self.heard.append("pause")

    def end(self, at_ns: int) -> None:
        self.heard.append("end")


class Taped:
    """A call that was answered, with its tape."""

    def __init__(self, dialplan: str = "", *, asks_first: bool = False, recorded: bool = True) -> None:
        self.leg, self.session, self.tape = HandLeg(), HandSession(), HandTape()
        plan = CallPlan(
            a_script(dialplan), False, SORRY, MOMENT, 60.0,
            tape=self.tape if recorded else None, asks_first=asks_first,
        )  # fmt: skip
        agents, world = HandAgents(self.session), HandOutside()
        call = Call(self.leg, agents, plan, world, clock=self.leg.clock, log=structlog.get_logger())
        self.scene = Scene(self.leg, self.session, call)

    async def __aenter__(self) -> Taped:
        await self.scene.answered()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leg.caller_hangs_up()
        await _soon(self.scene.task)

    def talks(self) -> tuple[int, int]:
        """A frame each way: how many of both are on tape since the last look."""
        before = self.tape.caller_frames, self.tape.agent_frames
        self.leg.speaks(FRAME)
        self.leg.hears()
        return self.tape.caller_frames - before[0], self.tape.agent_frames - before[1]

    async def presses(self, keys: str) -> None:
        for key in keys:
            self.leg.now_ns += 900_000_000
            self.leg.emit(Dtmf(key, "rfc4733", 100, self.leg.now_ns))
            await asyncio.sleep(0)


async def test_from_the_answer_to_the_end() -> None:
    async with Taped() as call:
        assert call.talks() == (1, 1)
    assert call.tape.heard == ["begin", "end"]


async def test_nothing_before_consent() -> None:
    async with Taped('recording = "after_consent"\nkeys.1 = "record"', asks_first=True) as call:
        assert call.talks() == (0, 0)
        await call.presses("1")
        assert call.talks() == (1, 1)
    assert call.tape.heard == ["begin", "end"]


async def test_the_key_of_a_notice_may_be_the_consent() -> None:
    text = 'notice = { say = "Recorded. Press 1.", accept = "1", consent = true }'
    async with Taped(text, asks_first=True) as call:
        assert call.talks() == (0, 0)
        await call.presses("1")
        assert call.talks() == (1, 1)


async def test_without_consent_there_is_no_recording() -> None:
    async with Taped(asks_first=True) as call:
        call.talks()
    assert call.tape.heard == ["end"]


async def test_pause_resume_stop() -> None:
    keys = ("pause", "resume", "stop", "start")
    text = "\n".join(f'keys.{key} = {{ record = "{what}" }}' for key, what in enumerate(keys, 1))
    async with Taped(text) as call:
        await call.presses("1")
        assert call.talks() == (0, 0)
        await call.presses("2")
        assert call.talks() == (1, 1)
        await call.presses("3")
        assert call.talks() == (0, 0)
        await call.presses("4")  # Stopped is stopped.
        assert call.talks() == (0, 0)
    assert call.tape.heard == ["begin", "pause", "end", "end"]


async def test_masked_digits_are_on_neither_channel(monkeypatch) -> None:
    monkeypatch.setattr(taping, "MASKED_TAIL_S", 0.0)
    text = 'keys.1 = { collect = "pin", masked = true, max = 4, tries = 1 }'
    async with Taped(text) as call:
        await call.presses("1")
        assert call.talks() == (0, 0)
        await call.presses("1234")
        for _ in range(5):  # The tail is a timer.
            await asyncio.sleep(0.001)
        assert call.talks() == (1, 1)


async def test_a_pause_of_the_dialplans_outlasts_masked_digits(monkeypatch) -> None:
    monkeypatch.setattr(taping, "MASKED_TAIL_S", 0.0)
    text = 'keys.1 = [{ record = "pause" }, { collect = "pin", masked = true, max = 1, tries = 1 }]'
    async with Taped(text) as call:
        await call.presses("15")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert call.talks() == (0, 0)


async def test_a_call_that_is_not_recorded_says_so_to_its_dialplan() -> None:
    async with Taped('keys.1 = { record = "start", on_error = { tag = "no" } }', recorded=False) as call:
        await call.presses("1")
        await asyncio.sleep(0)
    summary = call.scene.task.result()
    assert summary.marks.tags == ["no"]


async def test_music_on_hold_is_heard_and_taped_either_way() -> None:
    async with Taped("keys.1 = { hold_music = true }") as call:
        await call.presses("1")
        assert call.talks() == (1, 1)
        call.leg.emit(Held(call.leg.now_ns))  # Now the caller's own side plays music, and takes nothing.
        assert call.talks() == (1, 0)
        call.leg.emit(Resumed(call.leg.now_ns))
        assert call.talks() == (1, 1)


async def test_what_a_carrier_threw_away_is_told() -> None:
    async with Taped("keys.1 = { mute = 'agent' }") as call:
        call.session.emit(AgentAudio(R1, FRAME * 10, call.leg.now_ns))
        call.leg.unplayed_ms = 120
        await call.presses("1")
    assert "unplayed 120" in call.tape.heard
