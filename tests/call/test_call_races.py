"""The call where two things happen at once: a loss and a hold, a goodbye and a word, an end and an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from telbridge.call import goodbye, recovery
from telbridge.call.call import Call, CallPlan
from telbridge.call.events import (
    AgentAudio,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Held,
    LegAnswered,
    ReplyAudioDone,
    ReplyDone,
    ReplyStatus,
    Resumed,
    SessionBack,
    SessionLost,
    ToolCall,
)
from telbridge.call.way import DOWNLINK_HIGH_MS
from tests.call.sides import HandAgents, HandLeg, HandOutside, HandSession, a_script
from tests.call.test_call import (
    FRAME,
    HANG_UP_TOOL,
    HANGS_UP,
    MOMENT,
    R1,
    R2,
    SORRY,
    WORDS,
    Scene,
    _soon,
    a_call,
    greets,
)

# ---------------------------------------------------------------- a loss


async def test_a_greeting_lost_with_the_first_connection_is_said_when_the_session_is_back() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(SessionLost(0, "1006"))
        scene.session.emit(SessionBack(0, resumed=False))
        assert [words for _, words in scene.session.asked if "Hello." in words], scene.session.asked


async def test_an_agent_that_is_back_but_stays_silent_counts_as_lost() -> None:
    async with a_call(greeting="", reply_timeout_s=0.05) as scene:
        await scene.answered()
        scene.session.emit(CallerStoppedSpeaking(0))  # owes an answer
        scene.session.emit(SessionLost(0, "1006"))
        scene.session.emit(SessionBack(0, resumed=False))
        assert scene.session.asked
        await asyncio.sleep(0.2)
        assert scene.call._moments.broken.done()
        assert SORRY in await scene.until_hung_up()


async def test_no_filler_is_said_behind_the_apology(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of a drain passes while a session is lost."""
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.02)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(SessionLost(0, "1006"))
        scene.call.end()
        await scene.settled()
        heard = scene.leg.hears(3)  # all of the apology; the line is not yet silent
        await asyncio.sleep(0.15)
        heard += await scene.until_hung_up()
        assert heard.startswith(SORRY)
        assert MOMENT not in heard


async def test_a_loss_on_hold_leaves_no_stale_filler_for_the_caller_who_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.0)
    async with a_call(greeting="") as scene:
        await scene.answered()
        scene.leg.emit(Held(0))
        scene.session.emit(SessionLost(0, "1006"))
        await asyncio.sleep(0.02)
        scene.session.emit(SessionBack(0, resumed=False))
        scene.leg.emit(Resumed(0))
        assert scene.leg.hears(5) == bytes(5 * FRAME)
        assert scene.session.asked == []


async def test_a_flood_after_a_loss_is_held_back_again() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(AgentAudio(R1, WORDS * (DOWNLINK_HIGH_MS // 200 + 1), 0))
        assert not scene.session.reading
        scene.session.reading = True  # a new connection reads
        scene.session.emit(SessionLost(0, "1006"))
        scene.session.emit(SessionBack(0, resumed=False))
        scene.session.emit(AgentAudio(R2, WORDS, 0))
        assert not scene.session.reading


# ---------------------------------------------------------------- last words


async def test_nothing_of_the_agent_cuts_or_follows_the_apology() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.call.end()
        await scene.settled()
        heard = scene.leg.hears()
        scene.session.emit(CallerStartedSpeaking(0, interrupts=True))
        scene.session.emit(AgentAudio(R2, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R2))
        heard += await scene.until_hung_up()
        assert SORRY in heard
        assert WORDS not in heard


async def test_a_cancelled_call_leaves_no_task_behind() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.call.end()
        await scene.settled()
        scene.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scene.task
        await scene.settled()
        assert [task.get_coro().__qualname__ for task in asyncio.all_tasks() - {asyncio.current_task()}] == []


class Talkative(HandSession):
    """Still has things to say while it is being closed."""

    def close(self) -> None:
        self.emit(AgentAudio(R2, WORDS, 0))
        self.emit(SessionLost(0, "no sign of life"))
        self.emit(ToolCall("t9", HANG_UP_TOOL, "{}"))
        for _ in range(3):
            self.emit(CallerStoppedSpeaking(0))
        super().close()


async def test_events_after_the_end_arm_no_timer() -> None:
    async with a_call(Talkative(), greeting="") as scene:
        await scene.answered()
        scene.leg.caller_hangs_up()
        await scene.summary()
        call = scene.call
        assert (call._recovery._timer, call._goodbye._timer, call._owed.pending) == (None, None, False)


# ---------------------------------------------------------------- the tool that hangs up


async def test_a_caller_who_speaks_up_again_is_not_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goodbye, "PARTING_S", 0.03)
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(ToolCall("t1", HANG_UP_TOOL, "{}"))
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(ReplyAudioDone(R1))
        scene.session.emit(ReplyDone(R1, ReplyStatus.COMPLETED))
        scene.leg.hears(2)
        scene.session.emit(CallerStartedSpeaking(0, interrupts=True))  # "Wait, one more thing …"
        await asyncio.sleep(0.1)
        assert not scene.call._moments.broken.done()


async def test_a_tool_called_twice_does_not_cut_the_goodbye() -> None:
    async with a_call(reply_timeout_s=0.05) as scene:
        await scene.answered()
        scene.session.emit(ToolCall("t1", HANG_UP_TOOL, "{}"))
        scene.session.emit(ToolCall("t2", HANG_UP_TOOL, "{}"))
        scene.session.emit(AgentAudio(R1, WORDS, 0))  # the goodbye has begun
        await asyncio.sleep(0.15)
        assert not scene.call._moments.broken.done()


# ---------------------------------------------------------------- answered, or not


class Unacknowledged(HandLeg):
    """200 is out, no ACK comes."""

    def answer(self) -> None:
        self.said.append("200")


def a_scene(leg: HandLeg, reply_timeout_s: float = 60.0) -> Scene:
    session = HandSession()
    plan = CallPlan(a_script(greets("Hello.") + HANGS_UP), False, SORRY, MOMENT, reply_timeout_s)
    log: Any = structlog.get_logger()
    call = Call(leg, HandAgents(session), plan, HandOutside(), clock=leg.clock, log=log)
    return Scene(leg, session, call)


async def test_a_caller_who_leaves_before_the_ack_is_not_logged_as_answered() -> None:
    with structlog.testing.capture_logs() as lines:
        scene = a_scene(Unacknowledged())
        await scene.answered()
        assert scene.leg.said == ["180", "200"]
        scene.leg.caller_hangs_up()
        await scene.summary()
    assert "answered" not in [line["event"] for line in lines]


async def test_a_drain_between_200_and_ack_does_not_refuse_the_answered_call() -> None:
    scene = a_scene(Unacknowledged())
    await scene.answered()
    scene.call.end()
    await scene.settled()
    assert "503" not in scene.leg.said
    scene.leg.caller_hangs_up()
    await _soon(scene.task)


async def test_a_loss_before_the_ack_leaves_no_stale_filler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "FILLER_AFTER_S", 0.0)
    scene = a_scene(Unacknowledged())
    await scene.answered()
    scene.session.emit(SessionLost(0, "1006"))
    await asyncio.sleep(0.02)
    scene.session.emit(SessionBack(0, resumed=False))
    scene.leg.emit(LegAnswered(0))
    await scene.settled()
    heard = scene.leg.hears(5)
    scene.leg.caller_hangs_up()
    await _soon(scene.task)
    assert heard == bytes(5 * FRAME)


async def test_an_agent_that_owed_its_greeting_before_a_hold_owes_it_afterwards() -> None:
    async with a_call(reply_timeout_s=0.05) as scene:
        await scene.answered()
        scene.leg.emit(Held(0))
        scene.leg.emit(Resumed(0))
        await asyncio.sleep(0.15)
        assert scene.call._moments.broken.done()
        assert SORRY in await scene.until_hung_up()
