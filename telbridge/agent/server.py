"""The WebSocket shell around a facade and a brain: aiohttp, one session a connection, one event loop."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web

from telbridge.agent.doors import DOORS
from telbridge.agent.events import BrainEvent, Misdeed, ReplyId, TurnId
from telbridge.agent.facade import Facade, FacadeOptions
from telbridge.agent.minds import Mind, make_mind
from telbridge.agent.settings import AgentSettings

log: Final = structlog.get_logger("telbridge.agent")

MESSAGE_MAX_BYTES: Final = 24 * 1024 * 1024  # 15 MiB of audio in base64, and the JSON around it
INLINE_MAX_OCTETS: Final = 16 * 1024  # what the reader may write itself: such a write never waits
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
        facade: Facade,
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
        self._wrong: list[str | bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._group: asyncio.TaskGroup | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._patience_ns: int | None = None
        self._brain = mind.create(self)

    async def run(self) -> None:
        """Until the client leaves, the session expires or the brain closes it."""
        expiry = self._loop.call_later(self._max_session_s, self.expire)
        self._wake.set()
        try:
            async with asyncio.TaskGroup() as self._group:
                self.spawn(self._write(), "write")
                if (configured := self._facade.configured(by_client=False)) is not None:
                    self._tell(configured)
                self._look_after()
                try:
                    await self._read()
                except ConnectionError:
                    pass  # the client has gone while it was being answered
                for task in self._tasks:
                    task.cancel()
        finally:
            for timer in (expiry, self._patience, *self._timers):
                if timer is not None:
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
            at_ns = now_ns()
            for event in receive(message.data, now_ns=at_ns):
                tell(event, at_ns)
            self._receiving = False
            self._look_after()
            if self._sending or not self._may_write_here():
                self._wake.set()
                continue
            messages = take()
            if len(messages) == 1 and isinstance(text_message := messages[0], str):
                await send(text_message)
            elif messages:
                await self._send(messages)

    def _may_write_here(self) -> bool:
        """Small answers go out at once; whatever might have to wait must not hold up the reader."""
        transport = self._transport
        return (
            self._close_with is None
            and transport is not None
            and transport.get_write_buffer_size() == 0
            and self._facade.waiting_octets < INLINE_MAX_OCTETS
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
                await self._send(self._take())
            if self._close_with is not None:
                code, reason = self._close_with
                await self._socket.close(code=code, message=reason.encode())
                return

    async def _send(self, messages: list[str | bytes]) -> None:
        """These, and what comes up meanwhile. One coroutine at a time, so that the order is kept."""
        self._sending = True
        try:
            while messages:
                for message in messages:
                    if isinstance(message, str):
                        await self._socket.send_str(message)
                    else:
                        await self._socket.send_bytes(message)
                messages = self._take()
        finally:
            self._sending = False

    def _take(self) -> list[str | bytes]:
        """Misdeeds go in their order behind what the facade has to say."""
        wrong, self._wrong = self._wrong, []
        return self._facade.take_messages() + wrong

    def _tell(self, event: BrainEvent) -> None:
        self._brain.receive(event, time.monotonic_ns())

    def _look_after(self) -> None:
        """The facade may have a time to be woken at, or be done."""
        if self._close_with is None and self._facade.close_with is not None:
            self.close(*self._facade.close_with)
        deadline_ns = self._facade.deadline_ns()
        if deadline_ns == self._patience_ns:
            return
        if self._patience is not None:
            self._patience.cancel()
        self._patience_ns, self._patience = deadline_ns, None
        if deadline_ns is not None:
            wait_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
            self._patience = self._loop.call_later(wait_s, self._time_passed)

    def _time_passed(self) -> None:
        self._patience_ns = self._patience = None
        now_ns = time.monotonic_ns()
        for event in self._facade.time_passed(now_ns=now_ns):
            self._brain.receive(event, now_ns)
        self._look_after()
        self._made()

    def _made(self) -> None:
        """Something may be waiting to be sent."""
        if not self._receiving:
            self._look_after()
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

    def misbehave(self, misdeed: Misdeed) -> None:
        self._wrong += self._facade.wrong(misdeed)
        self._wake.set()

    def expire(self) -> None:
        self.close(*self._facade.expire())

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
    """The HTTP application: the doors of all APIs, and what their sessions share. It is their `House`."""

    def __init__(self, settings: AgentSettings, mind: Mind) -> None:
        self._settings = settings
        self._mind = mind
        self._key = os.environ[settings.key_env] if settings.key_env else None
        self._sockets: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        # aiohttp logs subprotocols that nobody speaks, and browsers carry keys there.
        logging.getLogger("aiohttp.websocket").addFilter(_without_subprotocols)
        app = web.Application()
        for door in DOORS:
            app.add_routes(door(self))
        app.on_shutdown.append(self._close_all)
        return app

    # -- House

    @property
    def key(self) -> str | None:
        return self._key

    def admits(self, given: str) -> bool:
        return self._key is None or hmac.compare_digest(
            given.encode("utf-8", "surrogateescape"), self._key.encode()
        )

    async def turn_away(self, request: web.Request, code: int, reason: str) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.close(code=code, message=reason.encode())
        return socket

    async def converse(
        self, request: web.Request, make: Callable[[FacadeOptions], Facade]
    ) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=MESSAGE_MAX_BYTES, timeout=CLOSE_TIMEOUT_S, autoping=True
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await self._converse(request, socket, make)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _converse(
        self, request: web.Request, socket: web.WebSocketResponse, make: Callable[[FacadeOptions], Facade]
    ) -> None:
        options = FacadeOptions(
            session_id=secrets.token_hex(4),
            wants=self._mind.wants,
            updates=self._mind.updates,
            silence_ms=self._settings.end_of_turn_ms,
            now_ns=time.monotonic_ns(),
            expires_at_unix_s=int(time.time() + self._settings.max_session_s),
        )
        session_id = options.session_id
        session = Session(socket, request.transport, make(options), self._mind, self._settings.max_session_s)
        log.info("agent_session_started", session=session_id, brain=self._settings.brain, path=request.path)
        started_ns = time.monotonic_ns()
        try:
            await session.run()
        except* Exception:  # a fault of one session, whatever it is, must not reach the others
            log.exception("agent_session_failed", session=session_id)
            await socket.close(code=1011, message=b"internal error")
        seconds = round((time.monotonic_ns() - started_ns) / 1e9, 1)
        log.info("agent_session_ended", session=session_id, seconds=seconds, close_code=socket.close_code)

    async def _close_all(self, _: web.Application) -> None:
        await asyncio.gather(*(s.close(code=1001, message=b"server shutdown") for s in list(self._sockets)))


def _without_subprotocols(record: logging.LogRecord) -> bool:
    """What a client wrote into Sec-WebSocket-Protocol stays out of the log."""
    if "protocols" in str(record.msg) and record.args:
        record.msg, record.args = "a client offered WebSocket subprotocols that this agent does not speak", ()
    return True


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
