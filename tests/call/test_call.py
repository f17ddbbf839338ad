"""The call: what a caller hears, and how both sides end, whatever fails first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from telbridge.audio.formats import PCMU_8K
from telbridge.call import goodbye, recovery
from telbridge.call.call import Call, CallPlan
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentInterrupted,
    AgentLatency,
    AgentTranscript,
    AgentWarning,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Dtmf,
    Ending,
    Held,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    Resumed,
    SessionBack,
    SessionExpiring,
    SessionLost,
    SessionReady,
    SessionUpdated,
    ToolCall,
    ToolCallCancelled,
    Unknown,
    UpdateRefused,
)
from telbridge.call.owed import UNANSWERED_TURNS
from telbridge.call.summary import CallSummary
from telbridge.call.way import DOWNLINK_HIGH_MS
from tests.call.sides import HandAgents, HandLeg, HandOutside, HandSession, a_script

R1, R2 = ReplyId(1), ReplyId(2)
FRAME = 320
SORRY = b"\x21\x12" * 400
MOMENT = b"\x31\x13" * 400
WORDS = b"\x01\x02" * 1600  # 200 ms
HANG_UP_TOOL = "hang_up"


def greets(words: str) -> str:
    """The line of a dialplan."""
    return f'greeting = "{words}"\n' if words else ""


HANGS_UP = 'tools.hang_up = { description = "Ends the call.", use = "hangup" }'


class Scene:
    """A call with its two sides in the test's hands."""

    def __init__(self, leg: HandLeg, session: HandSession, call: Call) -> None:
        self.leg, self.session, self.call = leg, session, call
        self.task = asyncio.create_task(call.run())

    async def settled(self) -> None:
        """Let everything that is due run."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def answered(self) -> None:
        await self.session.running.wait()
        self.session.emit(SessionReady(self.leg.now_ns))
        await self.settled()

    async def until_hung_up(self) -> bytes:
        """Play frames, as the telephone does, until the call says goodbye."""
        heard = b""
        for _ in range(1000):
            if self.task.done() or {"BYE", "over"} & set(self.leg.said):
                break
            heard += self.leg.hears()
            await self.settled()
        return heard

    async def summary(self) -> CallSummary:
        return await _soon(self.task)


async def _soon(wait: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(wait, 30)


@asynccontextmanager
async def a_call(
    session: HandSession | None = None,
    *,
    greeting: str = "Hello.",
    reply_timeout_s: float = 60.0,
    dialplan: str = HANGS_UP,
) -> AsyncIterator[Scene]:
    leg, session = HandLeg(), session or HandSession()
    script = a_script(greets(greeting) + dialplan)
    plan = CallPlan(script, False, SORRY, MOMENT, reply_timeout_s)
    log = structlog.get_logger().bind(call_id="c1")
    call = Call(leg, HandAgents(session), plan, HandOutside(), clock=leg.clock, log=log)
    scene = Scene(leg, session, call)
    try:
        yield scene
    finally:
        if not scene.task.done():
            leg.caller_hangs_up()
            await _soon(scene.task)
    assert len(asyncio.all_tasks()) == 1, "the call left a task behind"


# ---------------------------------------------------------------- beginning


async def test_the_phone_rings_until_the_agent_is_ready() -> None:
    async with a_call() as scene:
        await scene.settled()
        assert scene.leg.said == ["180"]
        await scene.answered()
        assert scene.leg.said == ["180", "200"]


async def test_the_greeting_is_asked_for_while_it_rings_and_kept_until_somebody_hears_it() -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.session.emit(SessionReady(0))
        assert [greeting.text for greeting in scene.session.greetings] == ["Hello."]
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        assert scene.leg.hears(5) == bytes(5 * FRAME)
        await scene.settled()
        assert scene.leg.hears(5) == WORDS[: 5 * FRAME]


async def test_without_a_greeting_the_agent_waits() -> None:
    async with a_call(greeting="") as scene:
        await scene.answered()
        assert scene.session.greetings == []


async def test_nobody_hears_the_caller_before_the_answer() -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.leg.speaks(bytes(FRAME))
        assert scene.session.uplink == []
        await scene.answered()
        scene.leg.speaks(WORDS[:FRAME])
        assert scene.session.uplink == [WORDS[:FRAME]]


async def test_audio_is_brought_into_the_sessions_format_and_back() -> None:
    async with a_call(HandSession(PCMU_8K, PCMU_8K)) as scene:
        await scene.answered()
        scene.leg.speaks(bytes(FRAME))
        assert scene.session.uplink == [b"\xff" * 160]
        scene.session.emit(AgentAudio(R1, b"\xff" * 320, 0))
        assert scene.leg.hears(2) == bytes(2 * FRAME)


# ---------------------------------------------------------------- interruption


async def test_a_barge_in_silences_the_agent_within_a_frame_and_reports_what_was_heard() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS * 10, 0))
        scene.leg.hears(10)
        scene.session.emit(CallerStartedSpeaking(scene.leg.now_ns, interrupts=True))
        (fate,) = scene.session.heard
        assert (fate.reply, fate.heard_ms, fate.discarded_ms) == (R1, 205, 1795)
        assert "flush" in scene.leg.said
        assert scene.leg.hears()[80:] == bytes(FRAME - 80)
        assert scene.leg.hears() == bytes(FRAME)
    turn = (await scene.summary()).turns[0]
    assert turn.interruption is not None
    assert turn.interruption.stop_ms == pytest.approx(20)
    assert turn.interruption.heard_ms == 205


async def test_late_audio_of_the_cut_reply_is_not_played_and_the_next_reply_is() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.hears()
        scene.session.emit(CallerStartedSpeaking(0, interrupts=True))
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.hears()
        scene.session.emit(AgentAudio(R2, SORRY, 0))
        assert scene.leg.hears() == SORRY[:FRAME]


async def test_speech_while_nothing_is_played_reports_nothing() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(CallerStartedSpeaking(0, interrupts=True))
        assert scene.session.heard == []


async def test_with_barge_in_off_the_agent_goes_on() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.hears()
        scene.session.emit(CallerStartedSpeaking(0, interrupts=False))
        assert scene.leg.hears() == WORDS[FRAME : 2 * FRAME]
        assert scene.session.heard == []


# ---------------------------------------------------------------- in between


async def test_on_hold_speech_is_kept_and_music_is_not_passed_on() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.emit(Held(0))
        assert scene.leg.hears(3) == bytes(3 * FRAME)
        scene.leg.speaks(SORRY[:FRAME])
        assert scene.session.uplink == []
        scene.leg.emit(Resumed(0))
        assert scene.leg.hears() == WORDS[:FRAME]


async def test_a_key_reaches_the_agent_as_text() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.leg.emit(Dtmf("5", "rfc4733", 100, 0))
        assert scene.session.texts == ["[DTMF] caller pressed 5"]


async def test_a_flood_is_held_back_at_the_socket_and_never_dropped() -> None:
    async with a_call() as scene:
        await scene.answered()
        flood = WORDS * (DOWNLINK_HIGH_MS // 200 + 1)
        scene.session.emit(AgentAudio(R1, flood, 0))
        assert not scene.session.reading
        heard = scene.leg.hears(len(flood) // FRAME)
        assert heard == flood
        assert scene.session.reading


async def test_the_last_milliseconds_of_a_reply_are_played() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS[: FRAME + 100], 0))
        scene.session.emit(ReplyAudioDone(R1))
        assert scene.leg.hears(2)[: FRAME + 100] == WORDS[: FRAME + 100]


async def test_turns_hold_what_was_said_and_when() -> None:
    async with a_call() as scene:
        await scene.answered()
        emit = scene.session.emit
        emit(AgentAudio(R1, WORDS, scene.leg.now_ns))
        emit(ReplyAudioDone(R1))
        emit(AgentTranscript(R1, "Hello."))
        scene.leg.hears(12)
        emit(CallerStartedSpeaking(1_000_000_000, interrupts=True))
        emit(CallerStoppedSpeaking(2_000_000_000))
        scene.leg.now_ns = 2_300_000_000
        emit(AgentAudio(R2, WORDS, scene.leg.now_ns))
        emit(CallerTranscript("A table, please."))
        emit(AgentTranscript(R2, "For how many?"))
        scene.leg.hears(2)
    greeting, answer = (await scene.summary()).turns
    assert (greeting.agent_text, greeting.caller_text) == ("Hello.", "")
    assert (answer.caller_text, answer.agent_text) == ("A table, please.", "For how many?")
    assert answer.caller_stopped_ms == 2000
    assert answer.agent_first_audio_ms == 2300
    assert answer.agent_first_frame_ms == 2320


async def test_a_cough_that_was_never_transcribed_does_not_move_what_is_said_later() -> None:
    async with a_call() as scene:
        await scene.answered()
        emit = scene.session.emit
        for reply, words in ((R1, ""), (R2, "A table, please."), (ReplyId(3), "For two.")):
            emit(CallerStartedSpeaking(0, interrupts=False))
            emit(CallerStoppedSpeaking(0))
            if words:
                emit(CallerTranscript(words))
            emit(AgentAudio(reply, WORDS, 0))
            emit(ReplyAudioDone(reply))
            scene.leg.hears(12)
    assert [turn.caller_text for turn in (await scene.summary()).turns] == [
        "",
        "A table, please.",
        "For two.",
    ]


# ---------------------------------------------------------------- ends


async def test_when_the_caller_hangs_up_the_session_is_closed() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.leg.caller_hangs_up()
        summary = await scene.summary()
    assert summary.ending is Ending.CALLER_HUNG_UP
    assert scene.session.closed


async def test_a_caller_who_gives_up_while_it_rings_is_never_answered() -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.leg.caller_hangs_up()
        await scene.summary()
    assert scene.leg.said == ["180", "over"]
    assert scene.session.closed


async def test_an_agent_that_hangs_up_is_heard_to_its_end() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R1))
        scene.session.ends(Ending.AGENT_HUNG_UP)
        await scene.settled()
        assert (await scene.until_hung_up()).startswith(WORDS)
        assert (await scene.summary()).ending is Ending.AGENT_HUNG_UP


@pytest.mark.parametrize("ending", [Ending.AGENT_UNREACHABLE, Ending.AGENT_REFUSED])
async def test_a_session_that_never_gets_ready_ends_in_a_spoken_apology(ending: Ending) -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.session.ends(ending, "no route")
        await scene.settled()
        assert scene.leg.said[:2] == ["180", "200"]
        assert SORRY in await scene.until_hung_up()
        assert (await scene.summary()).ending is ending


async def test_a_session_lost_in_mid_call_ends_in_a_spoken_apology() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.ends(Ending.AGENT_LOST)
        await scene.settled()
        heard = await scene.until_hung_up()
        assert heard.startswith(WORDS)
        assert SORRY in heard


async def test_a_bug_in_the_session_ends_this_call_with_an_apology() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.breaks(KeyError("a bug"))
        await scene.settled()
        assert SORRY in await scene.until_hung_up()
        assert (await scene.summary()).ending is Ending.INTERNAL_ERROR


async def test_a_refused_configuration_ends_in_a_spoken_apology() -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.session.emit(AgentError("invalid_value", "secret text", at_setup=True))
        await scene.settled()
        assert SORRY in await scene.until_hung_up()
        summary = await scene.summary()
    assert (summary.ending, summary.detail) == (Ending.AGENT_REFUSED, "invalid_value")


async def test_garbage_before_the_session_is_ready_ends_in_a_spoken_apology() -> None:
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.session.emit(BadMessage("not JSON"))
        await scene.settled()
        assert SORRY in await scene.until_hung_up()


async def test_a_greeting_that_never_comes_ends_in_a_spoken_apology() -> None:
    async with a_call(reply_timeout_s=0.05) as scene:
        await scene.answered()
        await _soon(scene.call._moments.broken)
        await scene.settled()
        assert SORRY in await scene.until_hung_up()
        assert (await scene.summary()).ending is Ending.AGENT_LOST


async def test_an_agent_that_leaves_turn_after_turn_unanswered_counts_as_lost() -> None:
    async with a_call(greeting="", reply_timeout_s=0.05) as scene:
        await scene.answered()
        for _ in range(UNANSWERED_TURNS):
            scene.session.emit(CallerStartedSpeaking(0, interrupts=True))
            scene.session.emit(CallerStoppedSpeaking(0))
        await _soon(scene.call._moments.broken)
        await scene.settled()
        assert SORRY in await scene.until_hung_up()


async def test_a_failed_reply_ends_in_a_spoken_apology() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(ReplyDone(R1, ReplyStatus.FAILED, "insufficient_quota"))
        await scene.settled()
        assert SORRY in await scene.until_hung_up()


async def test_messages_nobody_knows_are_counted_logged_once_and_change_nothing() -> None:
    with structlog.testing.capture_logs() as lines:
        async with a_call() as scene:
            await scene.answered()
            for _ in range(3):
                scene.session.emit(Unknown("response.sparkle"))
            scene.session.emit(BadMessage("audio of an unknown reply"))
            scene.session.emit(AgentAudio(R1, WORDS, 0))
            assert scene.leg.hears() == WORDS[:FRAME]
        assert (await scene.summary()).faults == {"unknown_message": 3, "bad_message": 1}
    told = [(line["kind"], line["what"]) for line in lines if line["event"] == "session_fault"]
    assert told == [
        ("unknown_message", "response.sparkle"),
        ("bad_message", "audio of an unknown reply"),
    ]


async def test_an_error_of_a_running_session_is_counted_and_the_call_goes_on() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentError("server_error", "secret text"))
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        assert scene.leg.hears() == WORDS[:FRAME]
    assert (await scene.summary()).faults == {"agent_error": 1}


async def test_draining_ends_an_answered_call_with_words_and_refuses_a_ringing_one() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.call.end()
        await scene.settled()
        assert SORRY in await scene.until_hung_up()
        assert (await scene.summary()).ending is Ending.DRAINED
    async with a_call() as scene:
        await scene.session.running.wait()
        scene.call.end()
        await scene.summary()
    assert scene.leg.said[:2] == ["180", "503"]


async def test_a_transcript_that_grows_replaces_what_was_told_of_the_reply_before() -> None:
    async with a_call() as scene:
        await scene.answered()
        emit = scene.session.emit
        emit(AgentAudio(R1, WORDS, 0))
        emit(AgentTranscript(R1, "We are"))
        emit(AgentTranscript(R1, "We are open."))
        emit(AgentAudio(R2, WORDS, 0))
        emit(AgentTranscript(R2, "Anything else?"))
    (turn,) = (await scene.summary()).turns
    assert turn.agent_text == "We are open. Anything else?"


# ---------------------------------------------------------------- what the API decides by itself


async def test_an_api_that_stops_its_own_reply_silences_what_is_played() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.hears(3)
        scene.session.emit(AgentInterrupted(scene.leg.now_ns))
        scene.leg.hears(1)
        assert scene.leg.hears(5) == bytes(5 * FRAME)
        assert [fate.reply for fate in scene.session.heard] == [R1]
        assert "flush" in scene.leg.said


async def test_what_the_api_tells_of_itself_is_kept_and_ends_nothing() -> None:
    async with a_call() as scene:
        await scene.answered()
        for event in (
            AgentWarning("slow_think", "private words"),
            UpdateRefused("immutable_field", "private words"),
            SessionExpiring(60.0),
            SessionUpdated(0),
            ToolCallCancelled("t1"),
            AgentLatency({"total": 730.0}),
        ):
            scene.session.emit(event)
        scene.leg.caller_hangs_up()
        summary = await scene.summary()
    assert summary.faults == {"agent_warning": 1, "update_refused": 1}
    assert summary.turns[-1].server_latency_ms == {"total": 730.0}


# ---------------------------------------------------------------- tools


async def test_an_agent_may_end_the_call_and_is_heard_to_the_end_of_its_goodbye(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(goodbye, "PARTING_S", 0.0)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(ToolCall("t1", HANG_UP_TOOL, "{}"))
        assert scene.session.asked == [("result", "t1")]
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R1))
        scene.session.emit(ReplyDone(R1, ReplyStatus.COMPLETED))
        await asyncio.sleep(0.01)
        heard = await scene.until_hung_up()
        assert WORDS in heard
        assert (await scene.summary()).ending is Ending.AGENT_HUNG_UP


async def test_the_reply_that_called_the_tool_is_not_taken_for_the_goodbye_that_follows() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(ToolCall("t1", HANG_UP_TOOL, "{}"))
        scene.session.emit(ReplyDone(R1, ReplyStatus.COMPLETED))
        await scene.settled()
        scene.session.emit(AgentAudio(R2, WORDS, 0))
        await scene.settled()
        assert not scene.task.done()
        assert scene.leg.hears(10) == WORDS


async def test_a_tool_that_nobody_has_is_answered_with_a_failure() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(ToolCall("t1", "launch_rocket", "{}"))
        assert scene.session.asked == [("failed", "t1")]
        scene.leg.caller_hangs_up()
        assert (await scene.summary()).faults == {"unknown_tool": 1}


# ---------------------------------------------------------------- a session that broke and came back


async def test_while_a_lost_session_is_got_back_the_caller_hears_a_filler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.0)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(SessionLost(0, "1006"))
        await asyncio.sleep(0.01)
        assert scene.leg.hears(3).startswith(MOMENT)
        scene.session.emit(SessionBack(0, resumed=False))
        assert [kind for kind, _ in scene.session.asked] == ["say"]
        scene.session.emit(AgentAudio(R2, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R2))
        assert WORDS in scene.leg.hears(12)
        scene.leg.caller_hangs_up()
        assert (await scene.summary()).session_losses == 1


async def test_a_greeting_that_was_lost_with_its_session_is_said_again() -> None:
    async with a_call(greeting="Welcome.") as scene:
        await scene.answered()
        scene.session.emit(SessionLost(0, "1006"))
        scene.session.emit(SessionBack(0, resumed=False))
        assert scene.session.asked == [("say", "Welcome.")]


async def test_a_session_that_is_back_at_once_was_not_missed() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R1))
        scene.leg.hears(11)
        scene.session.emit(SessionLost(0, "1006"))
        scene.session.emit(SessionBack(0, resumed=True))
        await scene.settled()
        assert scene.leg.hears(5) == bytes(5 * FRAME)
        assert scene.session.asked == []


async def test_what_had_come_of_a_reply_is_heard_before_the_filler_and_the_agent_is_told_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.0)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.leg.hears(2)
        scene.session.emit(SessionLost(0, "1006"))
        await asyncio.sleep(0.01)
        assert scene.leg.hears(8) == WORDS[2 * FRAME :]
        scene.session.emit(SessionBack(0, resumed=False))
        assert [kind for kind, _ in scene.session.asked] == ["reply"]


async def test_a_filler_is_said_again_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.0)
    monkeypatch.setattr(recovery, "FILL_AGAIN_S", 0.0)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(SessionLost(0, "1006"))
        heard = b""
        async with asyncio.timeout(20):
            while heard.count(MOMENT) < 3:
                heard += scene.leg.hears()
                await asyncio.sleep(0.001)
        scene.session.emit(SessionBack(0, resumed=False))


async def test_a_filler_can_be_interrupted_and_is_nothing_the_agent_said() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.call._downlink.say(MOMENT)
        scene.leg.hears(1)
        scene.session.emit(CallerStartedSpeaking(scene.leg.now_ns, interrupts=True))
        assert scene.session.heard == []
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R1))
        assert WORDS in scene.leg.hears(13)
