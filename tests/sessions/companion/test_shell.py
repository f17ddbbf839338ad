"""A Companion session through the real shell: HTTP, WebSocket, a loss, a successor, and the deletions."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import AgentAudio, AgentEvent, Ending, SessionBack, SessionLost, SessionReady
from telbridge.call.ports import Greeting
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import Opening
from telbridge.sessions.companion.protocol import PROVIDER
from telbridge.sessions.companion.settings import CompanionSettings
from telbridge.sessions.connection import AgentConnection, make_http_session


class Vendor:
    """As much of the API as one call meets: the first creation is one too many, the first socket breaks."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.commands: list[dict[str, Any]] = []
        self.updated = asyncio.Event()

    async def create(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if len(self.bodies) == 1:
            error = [{"code": "ConcurrentSessionLimitReached", "description": "Wait."}]
            return web.json_response(error, status=409, headers={"Retry-After": "0"})
        url = f"http://127.0.0.1:{self.port}/edge?token=t{len(self.bodies)}"
        token = base64.b64encode(json.dumps({"url": url}).encode()).decode()
        return web.json_response({"token": token, "connection": {"id": f"conn_{len(self.bodies)}"}})

    async def delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["id"])
        return web.Response()

    async def edge(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"event": "avatar_state_changed", "data": {"state": "ready"}})
        await socket.send_json({"event": "talk_state_changed", "data": {"state": "started"}})
        await socket.send_json({"event": "audio_received", "data": {"data": "AAAA"}})
        if request.query["token"] == "t2":
            await socket.receive()
            assert request.transport is not None
            request.transport.abort()
            return socket
        async for message in socket:
            self.commands.append(json.loads(message.data))
            if self.commands[-1]["type"] == "set_settings":
                self.updated.set()
        return socket


@asynccontextmanager
async def serving(vendor: Vendor) -> AsyncIterator[None]:
    app = web.Application()
    app.add_routes(
        [
            web.post("/public/ws-connections", vendor.create),
            web.delete("/public/connections/{id}", vendor.delete),
            web.get("/edge", vendor.edge),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        vendor.port = runner.addresses[0][1]
        yield
    finally:
        await runner.cleanup()


async def test_a_call_through_the_shell():
    vendor = Vendor()
    events: list[AgentEvent] = []
    audible = asyncio.Queue[AgentEvent]()

    def on_event(event: AgentEvent) -> None:
        events.append(event)
        if isinstance(event, AgentAudio):
            audible.put_nowait(event)

    async with serving(vendor), make_http_session() as http:
        settings = CompanionSettings(companionId="c", url=f"http://127.0.0.1:{vendor.port}")
        protocol = PROVIDER.open(settings, Opening("call-1", PCMU_8K, {}))
        session = AgentConnection(protocol, http, log=structlog.get_logger())
        session.greet(Greeting("Hello."))
        run = asyncio.create_task(session.run(on_event))
        try:
            await asyncio.wait_for(audible.get(), 30)
            session.send_audio(bytes(640))
            await asyncio.wait_for(audible.get(), 30)
            session.update(NeutralSettings(temperature=0.2), {})
            await asyncio.wait_for(vendor.updated.wait(), 30)
        finally:
            session.close()
            end = await asyncio.wait_for(run, 30)

    assert end.ending is Ending.AGENT_HUNG_UP
    kinds = [type(event) for event in events]
    assert [kind for kind in kinds if kind in (SessionReady, SessionLost, SessionBack, AgentAudio)] == [
        SessionReady,
        AgentAudio,
        SessionLost,
        SessionBack,
        AgentAudio,
    ]
    assert [body.get("initialSpeech") for body in vendor.bodies] == [
        "say exactly this once: Hello.",
        "say exactly this once: Hello.",
        None,
    ]
    assert vendor.deleted == ["conn_2", "conn_3"]
    assert vendor.commands[-1] == {"type": "set_settings", "data": {"temperature": 0.2}}


async def test_creations_of_one_key_keep_the_vendors_pace(monkeypatch):
    monkeypatch.setattr("telbridge.sessions.companion.opening.CREATE_EVERY_S", 0.2)
    vendor, came = Vendor(), []
    vendor.bodies.append({})  # Nobody is refused.

    async def create(request: web.Request) -> web.Response:
        came.append(asyncio.get_running_loop().time())
        return web.Response(status=400)

    monkeypatch.setattr(vendor, "create", create)
    async with serving(vendor), make_http_session() as http:
        settings = CompanionSettings.model_validate(
            {"url": f"http://127.0.0.1:{vendor.port}", "companionId": "c", "api_key": {"env": "PACED"}}
        )
        opening = Opening("call", PCMU_8K, {"PACED": "key-of-this-test"})
        calls = [
            AgentConnection(PROVIDER.open(settings, opening), http, log=structlog.get_logger()).run(
                lambda event: None
            )
            for _ in range(3)
        ]
        await asyncio.gather(*calls)
    assert all(later - earlier > 0.15 for earlier, later in itertools.pairwise(sorted(came)))
    assert len(came) == 3
