"""A real endpoint for the WebSocket shell, whose script a test writes, and a call that keeps its events."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import AgentEvent, SessionEnd
from telbridge.sessions.base import Opening
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings

KEY = "sk-very-secret"
MS20 = bytes(range(160))
Script = Callable[[web.WebSocketResponse], Awaitable[None]]


class Server:
    """One real endpoint; the script is what the peer does with the socket."""

    def __init__(self) -> None:
        self.url = ""
        self.script: Script | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received: list[dict[str, Any]] = []
        self.got: asyncio.Event = asyncio.Event()
        self.left: asyncio.Event = asyncio.Event()
        self.close_code: int | None = None
        self.transport: asyncio.Transport | None = None
        self.options: dict[str, Any] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers = dict(request.headers)
        if self.status:
            return web.Response(status=self.status, text="no")
        self.transport = request.transport
        assert self.script is not None
        ws = web.WebSocketResponse(timeout=0.1, **self.options)
        await ws.prepare(request)
        try:
            await self.script(ws)
        except ConnectionError:
            pass  # the tests' clients leave as they like
        finally:
            self.close_code = ws.close_code
            self.left.set()
        return ws

    async def hear(self, ws: web.WebSocketResponse) -> dict[str, Any] | None:
        """The next message; None at the end."""
        message = await ws.receive()
        if message.type is not WSMsgType.TEXT:
            return None
        fields = json.loads(message.data)
        self.received.append(fields)
        self.got.set()
        return fields

    async def set_up(self, ws: web.WebSocketResponse) -> None:
        """Up to session.updated."""
        await say(ws, "session.created", session={})
        assert await self.hear(ws) is not None
        await say(ws, "session.updated", session={})

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.received]


async def say(ws: web.WebSocketResponse, kind: str, **fields: Any) -> None:
    await ws.send_str(json.dumps({"type": kind, "event_id": "e", **fields}))


async def say_audio(ws: web.WebSocketResponse, audio: bytes) -> None:
    delta = base64.b64encode(audio).decode()
    await say(ws, "response.output_audio.delta", response_id="r1", item_id="i1", content_index=0, delta=delta)


class Call:
    """What the call would do: keeps the events and lets a test wait for one."""

    def __init__(self, session: AgentConnection) -> None:
        self.session = session
        self.events: list[AgentEvent] = []
        self.seen = asyncio.Event()
        self.task = asyncio.create_task(session.run(self.on_event))

    def on_event(self, event: AgentEvent) -> None:
        self.events.append(event)
        self.seen.set()

    async def until(self, kind: type) -> AgentEvent:
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            self.seen.clear()
            await self.seen.wait()

    async def end(self) -> SessionEnd:
        return await self.task


def a_protocol(url: str) -> OpenAIRealtime:
    settings = OpenAISettings(url=url, api_key=SecretRef(env="KEY"))
    return OpenAIRealtime(settings, Opening("c1", PCMU_8K, {"KEY": KEY}))


def descriptor(call: Call) -> int:
    return call.session._link._exchange.outgoing._socket.get_extra_info("socket").fileno()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def turns(count: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


NOW = (0.0,)


async def words(ws: web.WebSocketResponse, text: str) -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    await say(ws, kind, item_id="i0", content_index=0, transcript=text)
