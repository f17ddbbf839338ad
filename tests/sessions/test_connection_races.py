"""A connection that breaks while something else goes on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time

import structlog
from aiohttp import web
from aiohttp.http import WS_KEY

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import (
    AgentTranscript,
    CallerTranscript,
    Ending,
    ReplyId,
    SessionBack,
    SessionLost,
    SessionReady,
)
from telbridge.call.ports import TextRole
from telbridge.sessions import connection
from telbridge.sessions.base import HttpRequest, Opening
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.link import fetch
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings
from tests.sessions.ws_bed import NOW, a_protocol
from tests.sockets.test_frames import frame


async def test_an_answer_that_comes_in_two_pieces_is_read_whole(http):
    whole = json.dumps({"token": "x" * 300}).encode()

    async def handle(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(whole[:100])
        await asyncio.sleep(0.05)
        await answer.write(whole[100:])
        await answer.write_eof()
        return answer

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    status, _, body = await fetch(http, HttpRequest("POST", f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    await runner.cleanup()
    assert (status, body) == (200, whole)


async def test_a_token_in_the_address_is_not_told_by_a_broken_answer(http):
    async def nonsense(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 what is this\r\n\r\n")
        await writer.drain()
        writer.close()

    peer = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = peer.sockets[0].getsockname()[1]
    settings = OpenAISettings(
        url=f"ws://127.0.0.1:{port}/v1/realtime?token=very-secret", api_key=SecretRef(env="KEY")
    )
    protocol = OpenAIRealtime(settings, Opening("c1", PCMU_8K, {"KEY": "k"}))
    with structlog.testing.capture_logs() as lines:
        end = await AgentConnection(protocol, http, log=structlog.get_logger()).run(lambda event: None)
    peer.close()
    assert end.ending is Ending.AGENT_UNREACHABLE
    assert "very-secret" not in repr(end) + repr(lines)


async def test_what_is_asked_during_a_loss_outlives_a_try_that_fails(server, dial):
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        await server.set_up(ws)
        if visits == 1:
            server.status = 503
            server.transport.abort()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url, reconnect_after_s=(0.1, 0.2))
    await call.until(SessionLost)
    call.session.send_text("pressed 5", role=TextRole.CALLER, respond=True)
    await asyncio.sleep(0.2)  # the first try has been refused
    server.status = 0
    await call.until(SessionBack)
    await asyncio.sleep(0.1)
    call.session.close()
    await call.end()
    told = [message for message in server.received if message["type"] == "conversation.item.create"]
    assert json.dumps(told).count("pressed 5") == 1
    assert "response.create" in server.kinds()


async def test_a_key_pressed_before_the_loss_is_told_to_the_new_session(server, dial):
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        await server.set_up(ws)
        if visits == 1:
            await server.hear(ws)
            server.received.clear()
            server.transport.abort()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url, reconnect_after_s=NOW)
    await call.until(SessionReady)
    call.session.send_text("[DTMF] caller pressed 5", role=TextRole.CALLER, respond=False)
    await call.until(SessionBack)
    await asyncio.sleep(0.05)
    call.session.close()
    await call.end()
    told = [message for message in server.received if message["type"] == "conversation.item.create"]
    assert json.dumps(told).count("pressed 5") == 1


async def test_a_transcript_that_grows_is_remembered_once(http):
    session = AgentConnection(a_protocol("ws://127.0.0.1:1"), http, log=structlog.get_logger())
    session._relay.on_event = lambda event: None
    session._relay.tell(AgentTranscript(ReplyId(1), "We are"))
    session._relay.tell(CallerTranscript("Are you open?"))
    session._relay.tell(AgentTranscript(ReplyId(1), "We are open."))
    assert sorted(said.text for _, said in session._said) == ["Are you open?", "We are open."]


async def given_up(link) -> None:
    async with asyncio.timeout(20):
        while link._end is None:  # noqa: ASYNC110 - the link has no event of its end but the task's
            await asyncio.sleep(0.005)


async def test_a_call_that_ends_while_a_dead_peer_is_waited_for_hears_of_no_loss(server, dial):
    silent = asyncio.Event()

    async def script(ws):
        await server.set_up(ws)
        await silent.wait()

    server.script = script
    call = dial(server.url, beat_s=0.02, close_s=0.3, reconnect_after_s=(60.0,))
    await call.until(SessionReady)
    await given_up(call.session._link)
    call.session.close()
    before = list(call.events)
    await call.end()
    silent.set()
    assert call.events == before


async def test_a_dead_peer_is_not_waited_for_before_the_next_try(server, dial):
    silent = asyncio.Event()

    async def script(ws):
        await server.set_up(ws)
        await silent.wait()

    server.script = script
    call = dial(server.url, beat_s=0.02, close_s=2.0, reconnect_after_s=(60.0,))
    await call.until(SessionReady)
    await given_up(call.session._link)
    began = time.monotonic()
    await call.until(SessionLost)
    took = time.monotonic() - began
    silent.set()
    call.session.close()
    await call.end()
    assert took < 0.5


async def test_getting_a_session_back_is_bounded_as_a_whole(server, dial, monkeypatch):
    monkeypatch.setattr(connection, "GIVE_UP_AFTER_S", 0.3, raising=False)
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        if visits == 1:
            await server.set_up(ws)
            server.transport.abort()
        while await server.hear(ws):  # never configured again
            pass

    server.script = script
    began = time.monotonic()
    call = dial(server.url, setup_s=0.8, reconnect_after_s=(0.0,) * 5)
    end = await call.end()
    assert end.ending is Ending.AGENT_LOST
    assert time.monotonic() - began < 1.5


async def test_what_comes_right_behind_the_handshake_is_read(dial):
    """In one packet with it, the last message cut: nothing may be lost between aiohttp's reader and ours."""
    created = frame(1, json.dumps({"type": "session.created", "session": {}}).encode())
    updated = frame(1, json.dumps({"type": "session.updated", "session": {}}).encode())

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key.split()[1] + WS_KEY).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + created + updated[:7])
        await reader.read(1)  # session.update, so that session.created was read.
        writer.write(updated[7:])
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        call = dial(f"ws://127.0.0.1:{port}/v1/realtime")
        await call.until(SessionReady)
        call.session.close()
        await call.end()
