"""A real port, the server of any of the APIs: what it says, and how the network cuts it, a test says."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import WSMsgType, web

from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.link import Patience
from tests.sessions.every_api import WORDS, Message, opened
from tests.sessions.ws_bed import Call

ADDRESSES: Final = {"companion": "http://127.0.0.1:{port}"}
ELSEWHERE: Final = "ws://127.0.0.1:{port}/v1"
SECTIONS: Final[dict[str, dict[str, Any]]] = {
    "azure_voice_live": {"resource": None},
    "assemblyai": {"resume": False},  # Resumed, it would be sent no configuration.
}


def payload_of(message: Message) -> tuple[bytes, WSMsgType]:
    if isinstance(message, bytes):
        return message, WSMsgType.BINARY
    return json.dumps(message, ensure_ascii=False).encode(), WSMsgType.TEXT


def frame(payload: bytes, kind: WSMsgType, *, last: bool = True) -> bytes:
    """One WebSocket frame as a server sends it (RFC 6455 §5.2)."""
    head = bytes([kind | (0x80 if last else 0)])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    return head + b"\x7e" + len(payload).to_bytes(2) + payload


def whole(message: Message) -> bytes:
    """In one frame."""
    return frame(*payload_of(message))


def in_fragments(message: Message, size: int) -> list[bytes]:
    """In frames of so many octets, wherever that cuts, with a ping between any two of them."""
    payload, kind = payload_of(message)
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    frames = [
        frame(piece, kind if number == 0 else WSMsgType.CONTINUATION, last=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]
    pings = [frame(b"there?", WSMsgType.PING)] * len(frames)
    return list(itertools.chain(*zip(frames, pings, strict=True)))[:-1]


class Visit:
    """One connection of a client."""

    def __init__(self, name: str, transport: asyncio.Transport, before: str) -> None:
        self._words = WORDS[name]
        self._transport = transport
        self.heard = before
        """All that the client said, over HTTP too."""
        self._more = asyncio.Event()

    def takes(self, message: str) -> None:
        self.heard += message
        self._more.set()

    async def hears(self, words: str) -> None:
        while words not in self.heard:
            self._more.clear()
            await self._more.wait()

    async def writes(self, pieces: Sequence[bytes]) -> None:
        """Each piece in a segment of its own, or in as many as the network likes."""
        for piece in pieces:
            self._transport.write(piece)
            await asyncio.sleep(0)

    async def says(self, messages: Sequence[Message]) -> None:
        await self.writes([whole(message) for message in messages])

    async def is_ready(self) -> None:
        await self.says(self._words.ready)

    def breaks(self) -> None:
        self._transport.abort()


class Peer:
    """The server side."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._asked = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":  # Companion's creation and deletion.
            self._asked = await request.text()
            url = f"ws://127.0.0.1:{self.port}/edge?token=t"
            token = base64.b64encode(json.dumps({"url": url}).encode()).decode()
            return web.json_response({"token": token, "connection": {"id": "c"}})
        websocket = web.WebSocketResponse(timeout=0.1)
        await websocket.prepare(request)
        assert request.transport is not None
        visit = Visit(self.name, request.transport, self._asked)
        self._visits.put_nowait(visit)
        async for message in websocket:
            visit.takes(message.data if isinstance(message.data, str) else "")
        return websocket

    def dial(
        self, http: aiohttp.ClientSession, *, tries: Sequence[float] = (), instructions: str = "Be."
    ) -> Call:
        section: dict[str, Any] = {"url": ADDRESSES.get(self.name, ELSEWHERE).format(port=self.port)}
        section |= SECTIONS.get(self.name, {})
        protocol = opened(self.name, NeutralSettings(instructions=instructions), {}, **section)
        patience = Patience(connect_s=2.0, setup_s=2.0, close_s=0.2)
        log = structlog.get_logger()
        return Call(AgentConnection(protocol, http, log=log, patience=patience, reconnect_after_s=tries))

    async def visited(self) -> Visit:
        async with asyncio.timeout(20):
            return await self._visits.get()
