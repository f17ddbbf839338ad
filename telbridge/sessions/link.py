"""One WebSocket of one protocol: open it, feed messages, hand over the events, write what is due."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import WSMessage, WSMsgType
from structlog.typing import FilteringBoundLogger

from telbridge.call.events import AgentError, AgentEvent, Ending, SessionEnd, SessionReady
from telbridge.sessions.base import AgentProtocol, ConnectRequest, HttpRequest
from telbridge.sessions.exchange import Exchange
from telbridge.sessions.pacing import EVERYBODY
from telbridge.sessions.websocket import UPLINK_MAX_MS, AgentSocket, Outgoing
from telbridge.sockets.incoming import DATA, MESSAGES_A_TURN, Incoming

BEAT_S: Final = 5.0
_PING_AT_BEAT: Final = 2
_LOST_AT_BEAT: Final = 4
"""Beats in a row in which nothing came from the peer: from the second on it is pinged, at the fourth it is
gone (15 to 20 s of silence). A working agent is never silent that long: it answers pings."""
MESSAGE_MAX_OCTETS: Final = 16 << 20
ANSWER_MAX_OCTETS: Final = 1 << 20
"""Of an HTTP answer; a token or a description of a session is a few kilobytes."""
WAIT_MAX_S: Final = 10.0
"""A server may tell us to come back later, but the caller hears it ringing."""

_ALIVE: Final = (*DATA, WSMsgType.PING, WSMsgType.PONG)
RENEWED: Final = SessionEnd(Ending.AGENT_LOST, "renewed before its longest time", may_reconnect=True)
CLOSED_BY_US: Final = SessionEnd(Ending.AGENT_HUNG_UP, "closed by us")

_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each part of a session may take."""

    connect_s: float = 5.0
    """Each HTTP request, and the upgrade."""
    setup_s: float = 10.0
    """From the open WebSocket to SessionReady."""
    close_s: float = 2.5
    """The peer's time to answer our farewell and our close frame; then the connection is cut."""
    beat_s: float = BEAT_S


class Link:
    """`run` once. Neither words, audio nor keys are ever logged here."""

    connected_ns: int | None = None
    """When the WebSocket was open."""

    def __init__(
        self,
        protocol: AgentProtocol,
        http: aiohttp.ClientSession,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], int],
        patience: Patience,
    ) -> None:
        self._protocol = protocol
        self._http = http
        self._log = log
        self._clock = clock
        self._patience = patience
        self._exchange = Exchange(
            protocol, clock, set_alarm=self._set_alarm, watch_setup=self._watch_setup, fail=self._fail
        )
        self.send_audio: Final = self._exchange.send_audio
        self.write: Final = self._exchange.write
        self._dropped_octets = 0
        self._end: SessionEnd | None = None
        self._by_us = False
        self._deadline: asyncio.Timeout | None = None
        self._incoming: Incoming | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._bug: Exception | None = None
        self._close_code: int = _NORMAL

    @property
    def ready(self) -> bool:
        """SessionReady came."""
        return self._exchange.ready

    @property
    def dropped_octets(self) -> int:
        """Of uplink frames that the network was too slow for."""
        outgoing = self._exchange.outgoing
        return outgoing.uplink_dropped_octets if outgoing else self._dropped_octets

    def pause_reading(self) -> None:
        self._reading.clear()
        if self._incoming is not None:
            self._incoming.hold(True)

    def resume_reading(self) -> None:
        self._reading.set()
        if self._incoming is not None:
            self._incoming.hold(False)

    def close(self) -> None:
        """`run` then returns AGENT_HUNG_UP with the detail "closed by us"."""
        self._by_us = self._end is None
        self._finish(CLOSED_BY_US)

    def give_up_for_a_new_one(self) -> None:
        """`run` then returns RENEWED."""
        self._finish(RENEWED)

    # ------------------------------------------------------------ the run

    async def run(self, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        """An exception of `on_event` or of the protocol is a bug: it comes out of here, after the
        connection was cut; so does a cancellation."""
        self._exchange.on_event = on_event
        started_ns = self._clock()
        self._log.debug("session_connecting")
        try:
            opened = await self._open()
            if not isinstance(opened, AgentSocket):
                return opened
            self.connected_ns = self._clock()
            self._log.debug("session_connected", connect_ms=(self.connected_ns - started_ns) // 1_000_000)
            return await self._converse(opened)
        finally:
            self._finish(SessionEnd(Ending.INTERNAL_ERROR))  # Unless it has ended: no more of it is asked.

    async def _open(self) -> AgentSocket | SessionEnd:
        """Whatever HTTP the API wants first, then the WebSocket."""
        while self._end is None:
            step = self._protocol.next_step()
            match step:
                case ConnectRequest():
                    return await self._connect(step)
                case HttpRequest():
                    self._protocol.http_answered(*await self._ask(step))
                case SessionEnd():
                    return step
        return self._end

    async def _ask(self, request: HttpRequest) -> tuple[int | None, dict[str, str], bytes]:
        wait_s = min(request.after_s, WAIT_MAX_S)
        if request.pace is not None:
            now_s = asyncio.get_running_loop().time()
            wait_s += EVERYBODY.turn(request.pace, now_s + wait_s, at_most_s=WAIT_MAX_S - wait_s)
        try:
            async with asyncio.timeout(wait_s + self._patience.connect_s) as self._deadline:
                await asyncio.sleep(wait_s)
                return await fetch(self._http, request)
        except (aiohttp.ClientError, OSError) as fault:  # TimeoutError is an OSError
            if self._end is None:
                self._log.warning("session_http_failed", why=_describe(fault))
            return None, {}, b""
        finally:
            self._deadline = None

    async def _connect(self, request: ConnectRequest) -> AgentSocket | SessionEnd:
        try:
            async with asyncio.timeout(self._patience.connect_s) as self._deadline:
                websocket = await self._http.ws_connect(
                    request.url,
                    headers=request.headers,
                    compress=0,
                    max_msg_size=MESSAGE_MAX_OCTETS,
                    # All three are done here: aiohttp's heartbeat would take our own pause for a dead
                    # peer, and its answers would be written past the queues.
                    heartbeat=None,
                    autoping=False,
                    autoclose=False,
                )
        except aiohttp.WSServerHandshakeError as refusal:
            return self._protocol.refused(refusal.status)
        except (aiohttp.ClientError, OSError) as fault:  # TimeoutError is an OSError
            end = self._end
            if end is not None:
                return end
            if self._deadline is not None and self._deadline.expired():
                return self._protocol.closed(None, f"no connection within {self._patience.connect_s:g} s")
            return self._protocol.closed(None, _describe(fault))
        finally:
            self._deadline = None
        if not isinstance(websocket, AgentSocket):
            await websocket.close()
            raise TypeError("AgentConnection wants an HTTP session of make_http_session()")
        return websocket

    async def _converse(self, websocket: AgentSocket) -> SessionEnd:
        self._exchange.outgoing = Outgoing(
            websocket,
            uplink_max_octets=self._protocol.uplink_format.bytes_for_ms(UPLINK_MAX_MS),
            uplink_kind=WSMsgType.TEXT if self._protocol.uplink_is_text else WSMsgType.BINARY,
            on_stuck=self._on_stuck,
        )
        try:
            self._arm_heartbeat()
            end = await self._pump_until_end(websocket)
            await self._say_goodbye(websocket)
            return end
        except BaseException:
            websocket.write(struct.pack("!H", _GOING_AWAY), WSMsgType.CLOSE)
            raise
        finally:
            self._stop_writing()
            websocket.abort()

    async def _pump_until_end(self, websocket: AgentSocket) -> SessionEnd:
        deadline = asyncio.timeout(self._patience.setup_s)
        self._deadline = deadline
        try:
            async with deadline:
                self._protocol.connected(now_ns=self._clock())
                self.write()
                incoming = websocket.listen(self._exchange.take, max_octets=MESSAGE_MAX_OCTETS)
                self._incoming = incoming
                incoming.hold(not self._reading.is_set())
                return await self._pump(incoming)
        except TimeoutError:
            if not deadline.expired():
                raise  # Not ours: a bug's.
            if self._bug is not None:
                raise self._bug from None
            if self._end is None:
                self._end = self._protocol.closed(None, f"not configured within {self._patience.setup_s:g} s")
                self._exchange.over = True
            return self._end
        finally:
            self._deadline = None

    async def _pump(self, incoming: Incoming) -> SessionEnd:
        """All that does not go straight to `Exchange.take`."""
        exchange, taken = self._exchange, 0
        while self._end is None:
            await incoming.arrival()
            await self._reading.wait()
            message = incoming.take()
            exchange.silent_beats = 0
            if message.type in DATA:
                exchange.receive(message.data)
            elif message.type is WSMsgType.PING:
                self._pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return self._judge(message)
            taken += 1
            if taken % MESSAGES_A_TURN == 0:
                await asyncio.sleep(0)
        if self._bug is not None:
            raise self._bug
        return self._end

    def _watch_setup(self, event: AgentEvent) -> None:
        match event:
            case SessionReady():
                self._exchange.ready = True
                self._log.info("session_ready")
                if self._deadline is not None and not self._deadline.expired():
                    self._deadline.reschedule(None)
            case AgentError(at_setup=True):
                self._finish(self._protocol.closed(None, "given up at set-up"))
            case _:
                pass

    def _judge(self, message: WSMessage) -> SessionEnd:
        """The end as the peer or the network made it. aiohttp calls a connection that just ended 1000;
        only a close frame's own code counts."""
        if message.type is WSMsgType.CLOSE:
            return self._protocol.closed(message.data or 1005, str(message.extra or ""))
        if message.type is WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
            self._close_code = message.data.code
            return self._protocol.closed(None, _describe(message.data))
        return self._protocol.closed(None, "")

    async def _say_goodbye(self, websocket: AgentSocket) -> None:
        """The API's own farewell, if it has one, then our close frame, an answer or not. What else the peer
        still sends is of no interest to anybody."""
        closing = self._end is not None
        if self._by_us and self._protocol.say_goodbye():
            self.write()
            closing = not await self._left()
        self._stop_writing()
        websocket.write(struct.pack("!H", self._close_code), WSMsgType.CLOSE)
        if closing and not (self._end is not None and self._end.may_reconnect):
            await self._left()

    async def _left(self) -> bool:
        """Wait for the peer's close frame; False if it took too long."""
        if self._incoming is None:
            return True
        self._incoming.hold(False)
        try:
            async with asyncio.timeout(self._patience.close_s):
                await self._incoming.arrival()
                while self._incoming.take().type in _ALIVE:
                    await self._incoming.arrival()
        except TimeoutError:
            self._log.debug("session_close_timeout")
            return False
        return True

    # ------------------------------------------------------------ small parts

    def _finish(self, end: SessionEnd) -> None:
        """The first end counts. Wakes whatever `run` waits for."""
        if self._end is None:
            self._end = end
            self._exchange.over = True
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(asyncio.get_running_loop().time())

    def _fail(self, bug: Exception) -> None:
        self._bug = bug
        self._finish(SessionEnd(Ending.INTERNAL_ERROR, type(bug).__name__))

    def _on_stuck(self) -> None:
        self._finish(self._protocol.closed(None, "the API takes no more data"))

    def _set_alarm(self, due_ns: int | None) -> None:
        """One timer for what the protocol wants to do at a time of its own."""
        self._stop_alarm()
        self._exchange.alarm_ns = due_ns
        if due_ns is not None:
            wait_s = max(0.0, (due_ns - self._clock()) / 1e9)
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = self._exchange.alarm_ns = None
        if self._end is not None:
            return
        try:
            self._exchange.tell(self._protocol.time_passed(now_ns=self._clock()))
        except Exception as bug:  # noqa: BLE001 - it comes out of `run`, like one met while reading
            self._fail(bug)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._exchange.alarm_ns = None

    def _pong(self, payload: bytes) -> None:
        if self._exchange.outgoing is not None:
            self._exchange.outgoing.pong(payload)

    def _stop_writing(self) -> None:
        self._stop_alarm()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        outgoing, self._exchange.outgoing = self._exchange.outgoing, None
        if outgoing is not None:
            self._dropped_octets = outgoing.uplink_dropped_octets
            outgoing.close()

    def _arm_heartbeat(self) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(self._patience.beat_s, self._beat)

    def _beat(self) -> None:
        exchange = self._exchange
        if not self._reading.is_set():
            exchange.silent_beats = 0  # The silence is ours: we do not read.
        else:
            exchange.silent_beats += 1
        if exchange.silent_beats >= _LOST_AT_BEAT:
            self._heartbeat = None
            self._finish(self._protocol.closed(None, "no sign of life"))
            return
        if exchange.silent_beats >= _PING_AT_BEAT and exchange.outgoing is not None:
            exchange.outgoing.ping()
        self._arm_heartbeat()


def _describe(fault: Exception) -> str:
    if isinstance(fault, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return type(fault).__name__  # Its text holds the address, which may hold a token.
    return f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__


async def fetch(
    http: aiohttp.ClientSession, request: HttpRequest
) -> tuple[int | None, dict[str, str], bytes]:
    """Status, headers (names in lower case) and the beginning of the body. aiohttp's errors come out."""
    async with http.request(
        request.method, request.url, headers=request.headers, json=request.json, allow_redirects=False
    ) as answer:
        body = bytearray()
        # `read` gives what is there, and the rest may be on its way.
        while len(body) < ANSWER_MAX_OCTETS and (piece := await answer.content.read(ANSWER_MAX_OCTETS)):
            body += piece
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, bytes(body[:ANSWER_MAX_OCTETS])
