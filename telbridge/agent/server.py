"""The WebSocket shell around a facade and a brain: aiohttp, one session a connection, one event loop."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web

from telbridge.agent.events import BrainEvent, ReplyId, TurnId
from telbridge.agent.facade_openai import CLOSE_BETA, OpenAIFacade
from telbridge.agent.minds import Mind, make_mind
from telbridge.agent.settings import AgentSettings

log: Final = structlog.get_logger("telbridge.agent")

PATH: Final = "/v1/realtime"
DEFAULT_MODEL: Final = "gpt-realtime-2.1"
MESSAGE_MAX_BYTES: Final = 24 * 1024 * 1024  # 15 MiB of audio in base64, and the JSON around it
INLINE_MAX_CHARS: Final = 16 * 1024  # what the reader may write itself: such a write never waits
CLOSE_TIMEOUT_S: Final = 2.0


class Session:
    """One connection: reads messages, drives facade and brain, writes what they say.

    It is the brain's `Line`. Messages leave in the order in which they were made, whoever sends them:
    only one coroutine at a time takes them from the facade.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        facade: OpenAIFacade,
        mind: Mind,
        max_session_s: float,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._facade = facade
        self._loop = asyncio.get_running_loop()
        self._max_session_s = max_session_s
        self._wake = asyncio.Event()
        self._receiving = False
        self._sending = False
        self._close_with: tuple[int, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._group: asyncio.TaskGroup | None = None
        self._brain = mind.create(self)

    async def run(self) -> None:
        """Until the client leaves, the session expires or the brain closes it."""
        expiry = self._loop.call_later(self._max_session_s, self._expire)
        self._wake.set()
        try:
            async with asyncio.TaskGroup() as self._group:
                self.spawn(self._write(), "write")
                self._tell(self._facade.configured(by_client=False))
                try:
                    await self._read()
                except ConnectionError:
                    pass  # the client has gone while it was being answered
                for task in self._tasks:
                    task.cancel()
        finally:
            for timer in (expiry, *self._timers):
                timer.cancel()

    # -- the two directions ---------------------------------------------------------------------------

    async def _read(self) -> None:
        # Hot path (the load brain): what can be looked up once a session is.
        receive, tell, take = self._facade.receive, self._brain.receive, self._facade.take_messages
        now_ns, send, text = time.monotonic_ns, self._socket.send_str, WSMsgType.TEXT
        async for message in self._socket:
            if message.type is not text and message.type is not WSMsgType.BINARY:
                break
            self._receiving = True
            for event in receive(message.data):
                tell(event, now_ns())
            self._receiving = False
            if self._sending or not self._may_write_here():
                self._wake.set()
                continue
            messages = take()
            if len(messages) == 1:
                await send(messages[0])
            elif messages:
                await self._send(messages)

    def _may_write_here(self) -> bool:
        """Small answers go out at once; whatever might have to wait must not hold up the reader."""
        transport = self._transport
        return (
            self._close_with is None
            and transport is not None
            and transport.get_write_buffer_size() == 0
            and self._facade.waiting_chars < INLINE_MAX_CHARS
        )

    async def _write(self) -> None:
        try:
            await self._write_when_woken()
        except ConnectionError:
            pass  # the client is gone: the reader sees it too and ends the session

    async def _write_when_woken(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._sending:
                await self._send(self._facade.take_messages())
            if self._close_with is not None:
                code, reason = self._close_with
                await self._socket.close(code=code, message=reason.encode())
                return

    async def _send(self, messages: list[str]) -> None:
        """These, and what comes up meanwhile. One coroutine at a time, so that the order is kept."""
        self._sending = True
        try:
            while messages:
                for message in messages:
                    await self._socket.send_str(message)
                messages = self._facade.take_messages()
        finally:
            self._sending = False

    def _tell(self, event: BrainEvent) -> None:
        self._brain.receive(event, time.monotonic_ns())

    def _expire(self) -> None:
        self.close(*self._facade.expire())

    def _made(self) -> None:
        """Something may be waiting to be sent."""
        if not self._receiving:
            self._wake.set()

    # -- Line -----------------------------------------------------------------------------------------

    def begin_reply(self) -> ReplyId | None:
        reply = self._facade.begin_reply()
        self._made()
        return reply

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        self._facade.audio(reply, payload)
        self._made()

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        self._facade.audio_text(reply, base64_text)
        self._made()

    def words(self, reply: ReplyId, text: str) -> None:
        self._facade.words(reply, text)
        self._made()

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._facade.call_tool(reply, name, arguments)
        self._made()
        return call_id

    def end_reply(self, reply: ReplyId) -> None:
        self._facade.end_reply(reply)
        self._made()

    def is_open(self, reply: ReplyId) -> bool:
        return self._facade.is_open(reply)

    def speech_started(self, start_ms: int) -> None:
        self._facade.speech_started(start_ms)
        self._made()

    def speech_stopped(self, end_ms: int) -> TurnId:
        turn = self._facade.speech_stopped(end_ms)
        self._made()
        return turn

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        self._facade.heard(turn, text, duration_ms)
        self._made()

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        turn = self._facade.idle(start_ms, end_ms)
        self._made()
        return turn

    def send_raw(self, text: str) -> None:
        self._facade.send_raw(text)
        self._made()

    def close(self, code: int, reason: str) -> None:
        self._close_with = (code, reason)
        self._wake.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            action()

        timer = self._loop.call_later(delay_ms / 1000, run)
        self._timers.add(timer)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the session does not run yet")
        task = self._group.create_task(work, name=f"agent/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class Agent:
    """The HTTP application: one route, and what all sessions share."""

    def __init__(self, settings: AgentSettings, mind: Mind) -> None:
        self._settings = settings
        self._mind = mind
        self._key = os.environ[settings.key_env] if settings.key_env else None
        self._sockets: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH, self.realtime)
        app.on_shutdown.append(self._close_all)
        return app

    async def realtime(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/realtime: the upgrade and the whole session."""
        if not self._let_in(request):
            error = {"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": None}
            return web.json_response({"error": {**error, "code": "invalid_api_key"}}, status=401)
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=MESSAGE_MAX_BYTES, timeout=CLOSE_TIMEOUT_S, autoping=True
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            if "OpenAI-Beta" in request.headers:
                code, reason = CLOSE_BETA
                await socket.close(code=code, message=reason.encode())
            else:
                await self._converse(request, socket)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _converse(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        session_id = secrets.token_hex(4)
        facade = OpenAIFacade(
            session_id=session_id,
            model=request.query.get("model") or DEFAULT_MODEL,
            silence_ms=self._settings.end_of_turn_ms,
            wants=self._mind.wants,
            updates=self._mind.updates,
            expires_at_unix_s=int(time.time() + self._settings.max_session_s),
        )
        session = Session(socket, request.transport, facade, self._mind, self._settings.max_session_s)
        log.info("agent_session_started", session=session_id, brain=self._settings.brain)
        started_ns = time.monotonic_ns()
        try:
            await session.run()
        except* Exception:  # a fault of one session, whatever it is, must not reach the others
            log.exception("agent_session_failed", session=session_id)
            await socket.close(code=1011, message=b"internal error")
        seconds = round((time.monotonic_ns() - started_ns) / 1e9, 1)
        log.info("agent_session_ended", session=session_id, seconds=seconds, close_code=socket.close_code)

    def _let_in(self, request: web.Request) -> bool:
        if self._key is None:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode())

    async def _close_all(self, _: web.Application) -> None:
        await asyncio.gather(*(s.close(code=1001, message=b"server shutdown") for s in list(self._sockets)))


@asynccontextmanager
async def serve(settings: AgentSettings) -> AsyncIterator[int]:
    """Run an agent for the length of the block; gives the port. Models are loaded when it begins."""
    async with make_mind(settings) as mind:
        runner = web.AppRunner(
            Agent(settings, mind).application(), access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def run_agent(settings: AgentSettings, *, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; `ready` is told the port as soon as calls can be answered."""
    async with serve(settings) as port:
        ready(port)
        await stop.wait()
