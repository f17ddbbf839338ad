"""A session that will soon be too old is left for a new one when nobody would notice."""

from __future__ import annotations

import asyncio
import time

import pytest

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import (
    AgentAudio,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    SessionBack,
    SessionExpiring,
    SessionLost,
    ToolCall,
)
from telbridge.sessions.base import Opening
from telbridge.sessions.renewal import AT_LAST_NS, QUIET_NS, Renewal
from tests.sessions.every_api import Line
from tests.sessions.ws_bed import say

SECOND = 1_000_000_000
R1 = ReplyId(1)


def ageing(*events, at_s=100):
    """A session that ends a minute after `at_s`; what happened before."""
    renewal = Renewal()
    for second, event in events:
        renewal.heed(event, second * SECOND)
    renewal.heed(SessionExpiring(60, of_age=True), at_s * SECOND)
    return renewal


def test_a_young_session_and_one_that_ends_for_silence_are_kept():
    renewal = Renewal()
    assert renewal.due_ns() is None
    renewal.heed(SessionExpiring(60), 0)
    assert renewal.due_ns() is None


def test_it_is_left_two_seconds_after_the_last_word():
    done = ReplyDone(R1, ReplyStatus.COMPLETED)
    renewal = ageing((98, AgentAudio(R1, b"", 0)), (99, done))
    assert renewal.due_ns() == 99 * SECOND + QUIET_NS


@pytest.mark.parametrize(
    ("busy", "quiet"),
    [
        (AgentAudio(R1, b"", 0), ReplyDone(R1, ReplyStatus.COMPLETED)),
        (CallerStartedSpeaking(0, True), CallerStoppedSpeaking(0)),
    ],
)
def test_not_while_anybody_speaks_but_in_time(busy, quiet):
    renewal = ageing((99, busy))
    assert renewal.due_ns() == 160 * SECOND - AT_LAST_NS
    renewal.heed(quiet, 120 * SECOND)
    assert renewal.due_ns() == 120 * SECOND + QUIET_NS


def test_not_while_a_tool_is_at_work():
    renewal = ageing((99, ToolCall("c1", "t", "{}")))
    assert renewal.due_ns() == 160 * SECOND - AT_LAST_NS
    renewal.answered("c1", 130 * SECOND)
    assert renewal.due_ns() == 130 * SECOND + QUIET_NS


def test_what_is_asked_of_the_agent_puts_it_off():
    renewal = ageing()
    renewal.asked(110 * SECOND)
    assert renewal.due_ns() == 110 * SECOND + QUIET_NS


async def test_the_conversation_goes_on_in_a_new_session_of_which_the_call_hears_nothing(server, dial):
    async def ageing_session(ws):
        await say(ws, "session.created", session={"expires_at": time.time() + 60})
        await server.hear(ws)
        await say(ws, "session.updated", session={})
        await say(
            ws, "conversation.item.input_audio_transcription.completed", item_id="u", transcript="I am Ann."
        )
        while await server.hear(ws) is not None:
            pass
        server.script = young

    async def young(ws):
        await server.set_up(ws)
        told.append(await server.hear(ws))
        await ws.close(code=1000)

    told = []
    server.script = ageing_session
    call = dial(server.url, reconnect_after_s=(0.0,))
    # The old one is closed before the new one is opened; the script of the new one is there by then or soon.
    end = await call.end()
    assert end.detail == "close 1000"
    assert "I am Ann." in str(told)
    kinds = {type(event) for event in call.events}
    assert SessionExpiring in kinds
    assert not kinds & {SessionLost, SessionBack}


async def test_a_server_whose_sessions_never_live_long_is_left_to_end_them(server, dial):
    visits = 0

    async def short(ws):
        nonlocal visits
        visits += 1
        await say(ws, "session.created", session={"expires_at": time.time() + 30})
        await server.hear(ws)
        await say(ws, "session.updated", session={})
        if visits == 2:
            await say(ws, "response.created", response={"id": "r"})  # Long after it could have been left.
            await asyncio.sleep(0.3)
            await ws.close(code=1000)
        while await server.hear(ws) is not None:
            pass

    server.script = short
    await dial(server.url, reconnect_after_s=(0.0,)).end()
    assert visits == 2


def test_the_end_that_an_api_names_is_read_by_the_wall_clock():
    opening = Opening("c", PCMU_8K, {}, unix_s=lambda: 1_000_000.0)
    assert opening.lifetime_s(1_000_900, 3600) == 900
    for nonsense in (None, "soon", True, 999_999, 1_100_000):
        assert opening.lifetime_s(nonsense, 3600) == 3600


@pytest.mark.parametrize("name", ["openai_realtime", "azure_voice_live"])
def test_a_session_is_told_to_expire_a_minute_before_the_end_that_its_server_names(name):
    line = Line(name, ready=False)
    line.connects()
    line.says([{"type": "session.created", "session": {"expires_at": time.time() + 900}}])
    line.says([{"type": "session.updated", "session": {}}])
    line.waits(830)
    assert not [event for event in line.events if isinstance(event, SessionExpiring)]
    line.waits(15)
    (expiring,) = [event for event in line.events if isinstance(event, SessionExpiring)]
    assert expiring.of_age
    assert 50 < expiring.in_s <= 60
