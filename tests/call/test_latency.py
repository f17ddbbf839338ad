"""What a turn's waterfall and an interruption tell, against a script that is known to the millisecond."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from telbridge.call.call import Call, CallPlan
from telbridge.call.events import (
    AgentAudio,
    AgentInterrupted,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    SessionReady,
    ToolCall,
)
from telbridge.call.playout import Heard
from telbridge.call.summary import CallSummary
from telbridge.call.turns import PARTS, Turn, TurnBook
from tests.call.sides import MS_NS, HandAgents, HandLeg, HandOutside, HandSession, a_script

TICK_MS = 20
SPEAK_AFTER_MS = 15
LOUD = (np.random.default_rng(1).standard_normal(160) * 3000).astype("<i2").tobytes()
QUIET = bytes(320)


class SlowSession(HandSession):
    """Takes as long as the script says to put audio onto its socket."""

    def __init__(self, leg: HandLeg) -> None:
        super().__init__()
        self._leg = leg
        self.takes_us = 0

    def send_audio(self, frame: bytes) -> None:
        super().send_audio(frame)
        self._leg.now_ns += self.takes_us * 1000


class EagerLeg(HandLeg):
    """As a media stream: takes a frame as soon as there is one."""

    def wake(self) -> None:
        super().wake()
        assert self.media is not None
        self.media.speech(self.now_ns, ahead=True)


class Stage:
    """A call whose time passes in ticks of the leg; what the agent does is due at a time of its own."""

    def __init__(self, leg: HandLeg, session: SlowSession, call: Call) -> None:
        self.leg, self.session, self.call = leg, session, call
        self.turn_over: list[Turn] = []
        self.wire_us = 0
        self._due: list[tuple[int, object]] = []
        self._tick_ns = 0
        self._replies = 0

    def at(self, in_ms: float, event: object) -> int:
        """Let the agent tell this, so long after now; the time in ns."""
        at_ns = self.leg.now_ns + round(in_ms * MS_NS)
        self._due.append((at_ns, event))
        return at_ns

    def new_reply(self) -> ReplyId:
        self._replies += 1
        return ReplyId(self._replies)

    async def passes(self, ms: int, *, loud: bool = False) -> bytes:
        """So many ms, the caller loud or quiet; what the caller heard."""
        heard = b""
        media = self.leg.media
        assert media is not None
        for _ in range(ms // TICK_MS):
            self._tick_ns += TICK_MS * MS_NS
            await self._tell_until(self._tick_ns)
            self.leg.now_ns = self._tick_ns
            media.uplink(LOUD if loud else QUIET, self._tick_ns)
            speak_ns = self._tick_ns + SPEAK_AFTER_MS * MS_NS
            await self._tell_until(speak_ns)
            self.leg.now_ns = speak_ns + self.wire_us * 1000
            heard += bytes(media.downlink(speak_ns))
            await asyncio.sleep(0)
        return heard

    async def _tell_until(self, until_ns: int) -> None:
        for at_ns, event in sorted(self._due, key=lambda due: due[0]):
            if at_ns <= until_ns:
                self._due.remove((at_ns, event))
                self.leg.now_ns = max(self.leg.now_ns, at_ns)
                self.session.emit(event)  # type: ignore[arg-type]
                await asyncio.sleep(0)


@dataclass(frozen=True)
class Delays:
    """Of one turn, in ms."""

    decision: float
    thinking: float
    uplink: float
    wire: float


@asynccontextmanager
async def staged(leg: HandLeg | None = None) -> AsyncIterator[tuple[Stage, asyncio.Task[CallSummary]]]:
    leg = leg or HandLeg()
    session = SlowSession(leg)
    plan = CallPlan(a_script("tools.look = { description = 'x', use = 'hangup' }"), False, b"", b"", 1e6)
    log = structlog.get_logger().bind(call_id="c1")
    call = Call(leg, HandAgents(session), plan, HandOutside(), clock=leg.clock, log=log)
    stage, task = Stage(leg, session, call), asyncio.create_task(call.run())
    await session.running.wait()
    session.emit(SessionReady(leg.now_ns))
    for _ in range(10):
        await asyncio.sleep(0)
    await stage.passes(1000)
    yield stage, task
    if not task.done():
        leg.caller_hangs_up()
        await task


async def _over(stage: Stage, task: asyncio.Task[CallSummary]) -> CallSummary:
    stage.leg.caller_hangs_up()
    return await asyncio.wait_for(task, 30)


async def test_a_hundred_turns_show_the_delays_of_their_script() -> None:
    dice = random.Random(8)
    script = [
        Delays(dice.uniform(40, 900), dice.uniform(20, 1500), dice.uniform(0, 4), dice.uniform(0, 3))
        for _ in range(100)
    ]
    truths: list[dict[str, float]] = []
    async with staged() as (stage, task):
        for delays in script:
            stage.session.takes_us, stage.wire_us = round(delays.uplink * 1000), round(delays.wire * 1000)
            stage.at(60, CallerStartedSpeaking(0, interrupts=True))
            await stage.passes(400, loud=True)
            # The last voiced frame came with the last tick.
            truths.append(await _answered(stage, delays))
            await stage.passes(400)
        summary = await _over(stage, task)
    turns = [turn for turn in summary.turns if turn.gap_ms is not None]
    assert len(turns) == 100
    for turn, truth in zip(turns, truths, strict=True):
        assert turn.parts_ms == pytest.approx(truth, abs=0.01)
        assert sum(turn.parts_ms.values()) == pytest.approx(turn.gap_ms, abs=1e-6)


async def _answered(stage: Stage, delays: Delays) -> dict[str, float]:
    """The agent decides and answers after these delays; what the waterfall must be."""
    last_ns = stage._tick_ns
    sent_ns = last_ns + stage.session.takes_us * 1000
    decided_ns = sent_ns + round(delays.decision * MS_NS)
    audio_ns = decided_ns + round(delays.thinking * MS_NS)
    reply = stage.new_reply()
    stage._due += [
        (decided_ns, CallerStoppedSpeaking(decided_ns)),
        (audio_ns, AgentAudio(reply, LOUD * 10, audio_ns)),
        (audio_ns + 1, ReplyDone(reply, ReplyStatus.COMPLETED)),
    ]
    await stage.passes(round((audio_ns - last_ns) / MS_NS / TICK_MS + 2) * TICK_MS)
    first_tick = next(
        at
        for at in range(last_ns + SPEAK_AFTER_MS * MS_NS, audio_ns + 10**9, TICK_MS * MS_NS)
        if at >= audio_ns
    )
    return {
        "uplink": (sent_ns - last_ns) / MS_NS,
        "end_of_turn": (decided_ns - sent_ns) / MS_NS,
        "first_audio": (audio_ns - decided_ns) / MS_NS,
        "downlink": (first_tick - audio_ns) / MS_NS,
        "wire": stage.wire_us / 1000,
    }


async def test_an_interruption_tells_when_it_was_noticed_and_when_it_was_quiet() -> None:
    async with staged() as (stage, task):
        reply = stage.new_reply()
        stage.at(5, AgentAudio(reply, LOUD * 500, stage.leg.now_ns))
        await stage.passes(1000)
        onset_ns = stage._tick_ns + TICK_MS * MS_NS  # with the next tick
        event_ns = onset_ns + 230 * MS_NS
        stage._due.append((event_ns, CallerStartedSpeaking(event_ns, interrupts=True)))
        await stage.passes(600, loud=True)
        await stage.passes(600)
        summary = await _over(stage, task)
    (cut,) = [turn.interruption for turn in summary.turns if turn.interruption]
    assert cut.by == "api"
    assert cut.detect_ms == pytest.approx(230)
    # The last frame is the fade, at the leg's next tick after the event.
    assert cut.stop_ms == pytest.approx(5)
    assert cut.talk_over_ms == pytest.approx(235)
    assert cut.heard_ms + cut.discarded_ms == 10_000


async def test_an_api_that_is_quicker_than_our_meter_still_gets_its_detect_time() -> None:
    async with staged() as (stage, task):
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 500, 0))
        await stage.passes(1000)
        event_ns = stage._tick_ns + 25 * MS_NS
        stage._due.append((event_ns, CallerStartedSpeaking(event_ns, interrupts=True)))
        await stage.passes(600, loud=True)
        summary = await _over(stage, task)
    (cut,) = [turn.interruption for turn in summary.turns if turn.interruption]
    assert cut.detect_ms == pytest.approx(5)


async def test_long_talk_over_that_the_api_never_notices_is_a_missed_interruption() -> None:
    async with staged() as (stage, task):
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 500, 0))
        await stage.passes(1000)
        await stage.passes(1700, loud=True)
        await stage.passes(1000)
        await stage.passes(800, loud=True)  # "Yes, I see": no interruption.
        await stage.passes(1000)
        summary = await _over(stage, task)
    assert [turn.missed_interruptions for turn in summary.turns] == [1]
    assert summary.turns[0].interruption is None


@pytest.mark.parametrize(("goes_on_ms", "interrupted"), [(200, False), (800, True)])
async def test_an_agent_that_begins_while_the_caller_speaks_interrupts_unless_they_just_ended(
    goes_on_ms: int, interrupted: bool
) -> None:
    async with staged() as (stage, task):
        stage.at(60, CallerStartedSpeaking(0, interrupts=True))
        stage.at(590, CallerStoppedSpeaking(0))
        stage.at(590, AgentAudio(stage.new_reply(), LOUD * 20, 0))
        await stage.passes(600, loud=True)
        await stage.passes(goes_on_ms, loud=True)
        await stage.passes(1000)
        summary = await _over(stage, task)
    (turn,) = [turn for turn in summary.turns if turn.agent_first_frame_ms]
    assert (turn.agent_over_caller_ms is not None) == interrupted
    if interrupted:
        assert turn.agent_over_caller_ms == pytest.approx(goes_on_ms, abs=20)
        assert turn.gap_ms is None


@pytest.mark.parametrize("follows", ["Wait!", ""])
async def test_a_barge_in_without_words_was_false(follows: str) -> None:
    async with staged() as (stage, task):
        stage.session.emit(CallerTranscript("Hello?"))  # This API does send transcripts.
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 500, 0))
        await stage.passes(500)
        stage.at(60, CallerStartedSpeaking(0, interrupts=True))
        await stage.passes(100, loud=True)
        stage.at(1, CallerStoppedSpeaking(0))
        await stage.passes(500)
        if follows:
            stage.session.emit(CallerTranscript(follows))
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 10, 0))
        await stage.passes(500)
        summary = await _over(stage, task)
    (cut,) = [turn.interruption for turn in summary.turns if turn.interruption]
    assert cut.false is (not follows)


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize("cut_by", [CallerStartedSpeaking, AgentInterrupted])
async def test_without_transcripts_our_own_meter_says_whether_a_barge_in_was_false(
    cut_by: type[CallerStartedSpeaking | AgentInterrupted], speaks: bool
) -> None:
    """The API heard the caller, or cut itself for whatever it took for an interruption; then it went on."""
    async with staged() as (stage, task):
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 500, stage.leg.now_ns + 5 * MS_NS))
        await stage.passes(3000)
        at_ns = stage.leg.now_ns + 60 * MS_NS
        cut = AgentInterrupted(at_ns) if cut_by is AgentInterrupted else CallerStartedSpeaking(at_ns, True)
        stage.at(60, cut)
        await stage.passes(500, loud=speaks)
        await stage.passes(500)
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 10, stage.leg.now_ns + 5 * MS_NS))
        await stage.passes(500)
        summary = await _over(stage, task)
    (found,) = [turn.interruption for turn in summary.turns if turn.interruption]
    assert found.false is (not speaks)


async def test_a_call_tells_how_far_it_has_come_and_goes_on_as_if_nobody_had_asked() -> None:
    async with staged() as (stage, task):
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 100, stage.leg.now_ns + 5 * MS_NS))
        await stage.passes(1000)
        now_ms = stage.leg.now_ns / MS_NS
        told = stage.call.so_far()
        ((began_ms, until_ms),) = told.agent_speech
        assert (began_ms, until_ms) == (pytest.approx(now_ms - 1000, abs=40), pytest.approx(now_ms, abs=40))
        assert told.turns[0].replies and told.answered_ms is not None and told.sessions[0].connect_ms == 0
        await stage.passes(2000)
        summary = await _over(stage, task)
    ((again_ms, ended_ms),) = summary.agent_speech
    assert again_ms == began_ms and ended_ms == pytest.approx(began_ms + 2000, abs=40)


async def test_a_leg_that_takes_speech_the_moment_it_is_queued_has_a_waterfall_too() -> None:
    async with staged(EagerLeg()) as (stage, task):
        await stage.passes(400, loud=True)
        reply = stage.new_reply()
        told_ns = stage.at(300, CallerStoppedSpeaking(stage.leg.now_ns + 300 * MS_NS))
        stage.at(500, AgentAudio(reply, LOUD * 20, told_ns + 200 * MS_NS))
        await stage.passes(1000)
        summary = await _over(stage, task)
    (turn,) = [turn for turn in summary.turns if turn.gap_ms is not None]
    assert turn.parts_ms["downlink"] == pytest.approx(0)
    assert turn.parts_ms["first_audio"] == pytest.approx(200)


async def test_the_time_of_a_tool_call_is_kept() -> None:
    async with staged() as (stage, task):
        stage.at(5, ToolCall("t1", "nowhere", "{}"))
        await stage.passes(100)
        summary = await _over(stage, task)
    ((tool,),) = [turn.tools for turn in summary.turns]
    assert (tool.name, tool.took_ms) == ("nowhere", pytest.approx(0))


# ------------------------------------------------------------------ the book alone


@dataclass
class Voice:
    """A caller's, as the test says."""

    speaking: bool = False
    onset_ns: int | None = None
    last_voiced_ns: int | None = None


Times = st.integers(0, 3_000)


@given(times=st.lists(st.tuples(st.sampled_from(range(6)), Times), max_size=40))
def test_whatever_happens_in_whatever_order_the_parts_are_the_whole(times: list[tuple[int, int]]) -> None:
    voice, reply = Voice(), ReplyId(1)
    over: list[Turn] = []
    book = TurnBook(0, voice, "local", over.append)
    now_ns = 0
    for what, later_ms in times:
        now_ns += later_ms * MS_NS
        match what:
            case 0:
                voice.speaking, voice.onset_ns, voice.last_voiced_ns = True, now_ns, now_ns
                book.voice_changed()
            case 1:
                if voice.speaking:
                    voice.speaking, voice.last_voiced_ns = False, now_ns
                    book.sent_ns = now_ns + 1000
                    book.voice_changed()
            case 2:
                book.caller_started(now_ns)
            case 3:
                book.caller_stopped(now_ns)
            case 4:
                reply = ReplyId(reply + 1)
                book.agent_audio(reply, now_ns)
                book.agent_frame(reply, now_ns + 5 * MS_NS, now_ns + 6 * MS_NS)
                book.sounds(now_ns + 5 * MS_NS)
            case _:
                book.interrupted([Heard(reply, 100, 100, 8000)], now_ns)
                book.silent(now_ns + 20 * MS_NS)
    book.close()
    assert over == book.turns
    for turn in book.turns:
        if turn.gap_ms is None:
            assert turn.parts_ms == {}
            continue
        assert sum(turn.parts_ms.values()) == pytest.approx(turn.gap_ms, abs=1e-6)
        assert all(length_ms >= 0 for length_ms in turn.parts_ms.values())
        assert list(turn.parts_ms) == [name for name in PARTS if name in turn.parts_ms]
        if (cut := turn.interruption) is not None and cut.talk_over_ms is not None:
            assert cut.talk_over_ms >= (cut.detect_ms or 0.0) >= 0
