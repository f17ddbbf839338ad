"""A voice agent that says exactly what the bench wants, in the protocol of OpenAI Realtime, and tells when.

A third reading of that protocol, as small as the measurements allow; it shares nothing with the bridge. Its
clock is this machine's monotonic one, the same that the softphone stamps packets with.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from aiohttp import WSMsgType, web

from bench.phone import talking
from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat
from telbridge.caller import CallHandle, Softphone

SESSION_S: Final = 10.0
DELTA_OCTETS: Final = 4_800
"""Of one delta; whole samples in each format."""


@dataclass(slots=True)
class Reply:
    """One response with one audio item; both have the same name."""

    name: str
    sent_ns: int
    """Before its first octet was written."""
    truncated_ms: int | None = None
    """Where the client says that it was cut."""


@dataclass(eq=False)
class Session:
    """One client of the agent, as its author leads it."""

    socket: web.WebSocketResponse
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    replies: dict[str, Reply] = field(default_factory=dict)
    updates: asyncio.Queue[tuple[int, dict[str, Any]]] = field(default_factory=asyncio.Queue)
    """Sessions that were asked for, the first one too, with their monotonic time in ns."""
    on_audio: Callable[[int, bytes], None] | None = None
    """Gets the caller's audio, with the monotonic time in ns of its arrival."""
    _numbers: count[int] = field(default_factory=lambda: count(1))

    async def say(self, audio: bytes, *, finish: bool = True) -> Reply:
        """A whole reply in one burst. `finish=False`: it counts as still being generated."""
        reply = Reply(f"reply_{next(self._numbers)}", time.monotonic_ns())
        self.replies[reply.name] = reply
        await self._send("response.created", response={"id": reply.name, "status": "in_progress"})
        await self.deltas(reply, audio)
        if finish:
            await self.done(reply, "completed")
        return reply

    async def deltas(self, reply: Reply, audio: bytes) -> None:
        """Audio of a reply, whatever has become of that."""
        for at in range(0, len(audio), DELTA_OCTETS):
            await self._send(
                "response.output_audio.delta",
                response_id=reply.name,
                item_id=reply.name,
                output_index=0,
                content_index=0,
                delta=base64.b64encode(audio[at : at + DELTA_OCTETS]).decode(),
            )

    async def done(self, reply: Reply, status: str) -> None:
        await self._send("response.done", response={"id": reply.name, "status": status})

    async def caller_speaks(self) -> int:
        """speech_started; returns when, in monotonic ns, just before it is written."""
        at_ns = time.monotonic_ns()
        await self._send("input_audio_buffer.speech_started", audio_start_ms=0, item_id="caller")
        return at_ns

    async def caller_stops(self) -> None:
        await self._send("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id="caller")

    async def run(self) -> None:
        """Until the client goes."""
        await self._send("session.created", session={"type": "realtime"})
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                await self._receive(message.data)

    async def _receive(self, text: str) -> None:
        if text.startswith('{"type":"input_audio_buffer.append"'):
            if self.on_audio is not None:
                at_ns = time.monotonic_ns()
                self.on_audio(at_ns, base64.b64decode(json.loads(text)["audio"]))
            return
        at_ns, message = time.monotonic_ns(), json.loads(text)
        if message["type"] == "session.update":
            self.updates.put_nowait((at_ns, message["session"]))
            await self._send("session.updated", session=message["session"])
            self.ready.set()
        elif message["type"] == "conversation.item.truncate":
            self.replies[message["item_id"]].truncated_ms = message["audio_end_ms"]

    async def _send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, "event_id": "event", **fields}))


class ScriptedAgent:
    """Waits for bridges to connect; `next_session` hands their sessions out in that order."""

    def __init__(self) -> None:
        self.url = ""
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()

    async def next_session(self) -> Session:
        """The next client, configured. TimeoutError if none comes."""
        async with asyncio.timeout(SESSION_S):
            session = await self._sessions.get()
            await session.ready.wait()
            return session

    async def realtime(self, request: web.Request) -> web.WebSocketResponse:
        """GET /v1/realtime: one session, to its end."""
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        session = Session(socket)
        self._sessions.put_nowait(session)
        await session.run()
        return socket


@asynccontextmanager
async def scripted_agent() -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent()
    application = web.Application()
    application.router.add_get("/v1/realtime", agent.realtime)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        agent.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/v1/realtime"
        yield agent
    finally:
        await runner.cleanup()


@asynccontextmanager
async def conversation(
    phone: Softphone, uri: str, agent: ScriptedAgent, codecs: Sequence[AudioFormat] = (PCMU_8K, PCMA_8K)
) -> AsyncIterator[tuple[CallHandle, Session]]:
    """An answered call, and the agent's side of it. One by one: sessions do not name their call."""
    async with talking(phone, uri, 1, codecs) as (call,):
        yield call, await agent.next_session()
