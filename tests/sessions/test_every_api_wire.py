"""Rules that hold for every agent API over a real connection, told once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from telbridge.call.events import (
    AgentAudio,
    AgentError,
    Ending,
    SessionBack,
    SessionExpiring,
    SessionLost,
    SessionReady,
    SessionUpdated,
)
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.providers import PROVIDERS
from tests.sessions.every_api import WORDS, Line, Message
from tests.sessions.every_api_bed import Peer, frame, in_fragments, whole

every_api = pytest.mark.parametrize("name", PROVIDERS)
soon = partial(asyncio.wait_for, timeout=5)  # No test waits for what never comes.
BYE = frame((1000).to_bytes(2), WSMsgType.CLOSE)


@pytest.fixture
async def peer(name: str):
    the_peer = Peer(name)
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", the_peer.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    the_peer.port = runner.addresses[0][1]
    yield the_peer
    await runner.cleanup()


# ---------------------------------------------------------------- frames split and merged


def a_conversation(name: str) -> list[Message]:
    """A reply in audio of several lengths, words of many octets a letter, and what nobody knows."""
    words = WORDS[name]
    unknown: Any = words.unknown[0]
    return [
        *words.ready,
        *words.begins(1),
        *words.audio(1, bytes(range(160)) * 2),
        {**unknown, "note": "żółw 亀 🐢" * 9},
        *words.audio(1, bytes(2)),
        *words.audio(1, bytes(range(222)) * 5),
        *words.ends(1),
    ]


def timeless(events: list[Any]) -> list[Any]:
    return [
        event._replace(at_ns=0)
        if isinstance(event, AgentAudio)
        else dataclasses.replace(event, at_ns=0)
        if hasattr(event, "at_ns")
        else event
        for event in events
    ]


def as_it_is_told_whole(name: str) -> list[Any]:
    line = Line(name, ready=False)
    line.connects()
    return timeless(line.says(a_conversation(name)))


CUTS: dict[str, Callable[[list[Message]], list[bytes]]] = {
    "each message in one segment": lambda said: [whole(message) for message in said],
    "all messages in one segment": lambda said: [b"".join(map(whole, said))],
    "each message in fragments of 7": lambda said: [
        piece for message in said for piece in in_fragments(message, 7)
    ],
    "each message in fragments of 100": lambda said: [
        piece for message in said for piece in in_fragments(message, 100)
    ],
    "all fragments in one segment": lambda said: [
        b"".join(piece for message in said for piece in in_fragments(message, 13))
    ],
    "octet by octet": lambda said: [
        bytes([octet]) for message in said for piece in in_fragments(message, 500) for octet in piece
    ],
}


@every_api
@pytest.mark.parametrize("cut", CUTS)
async def test_the_call_is_told_the_same_however_the_network_cuts_what_is_said(name, peer, http, cut):
    call = peer.dial(http)
    visit = await peer.visited()
    await visit.writes([*CUTS[cut](a_conversation(name)), BYE])
    assert (await soon(call.end())).ending is Ending.AGENT_HUNG_UP
    told = timeless(call.events)
    assert told == as_it_is_told_whole(name)
    assert sum(len(event.audio) for event in told if isinstance(event, AgentAudio)) == 320 + 2 + 1110


@pytest.mark.parametrize("name", ["deepgram"])
@pytest.mark.parametrize("size", [1, 7, 159, 161, 4001])
async def test_binary_audio_of_any_size_is_passed_on_octet_by_octet(peer, http, size):
    speech = bytes(range(251)) * 33
    messages = [speech[at : at + size] for at in range(0, len(speech), size)]
    call = peer.dial(http)
    visit = await peer.visited()
    await visit.is_ready()
    await visit.writes([b"".join(map(whole, messages)) + BYE])
    await soon(call.end())
    assert b"".join(event.audio for event in call.events if isinstance(event, AgentAudio)) == speech


# ---------------------------------------------------------------- errors


@every_api
async def test_after_an_error_the_agent_is_still_heard(name, peer, http):
    call = peer.dial(http)
    visit = await peer.visited()
    await visit.is_ready()
    await visit.says([*WORDS[name].error, *WORDS[name].begins(1), *WORDS[name].audio(1, bytes(160))])
    await soon(call.until(AgentAudio))
    assert [event.at_setup for event in call.events if isinstance(event, AgentError)] == [False]
    assert not call.task.done()
    call.session.close()
    await soon(call.end())


@every_api
async def test_a_refused_configuration_ends_the_session_though_the_server_leaves_the_line_open(
    name, peer, http
):
    call = peer.dial(http, tries=(0.0, 0.0))
    visit = await peer.visited()
    await visit.says(WORDS[name].refused)
    end = await soon(call.end())
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert not {SessionReady, SessionLost} & {type(event) for event in call.events}


# ---------------------------------------------------------------- the next session


@every_api
@pytest.mark.parametrize("how", ["lost", "renewed"])
async def test_the_next_session_is_configured_as_the_dialplan_left_the_one_before(name, peer, http, how):
    call = peer.dial(http, tries=(0.0, 0.1), instructions="Be long.")
    first = await peer.visited()
    await first.is_ready()
    await soon(call.until(SessionReady))
    call.session.update(NeutralSettings(instructions="Be brief."), {})
    await soon(first.hears("Be brief."))
    await first.says(WORDS[name].updated)
    await soon(call.until(SessionUpdated))
    if how == "lost":
        first.breaks()
    else:
        call.session._relay.tell(
            SessionExpiring(0.0, of_age=True)
        )  # As its protocol would, an hour from now.
    second = await peer.visited()
    await second.is_ready()
    await soon(second.hears("Be brief."))
    assert "Be long." not in second.heard
    if how == "lost":
        await soon(call.until(SessionBack))
    call.session.close()
    await soon(call.end())
    assert any(isinstance(event, SessionLost) for event in call.events) == (how == "lost")
