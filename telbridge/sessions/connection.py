"""The one WebSocket shell of all agent APIs: feed a message, hand over the events, write what is due."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
from aiohttp import WSMessage, WSMsgType
from structlog.typing import FilteringBoundLogger

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import AgentError, AgentEvent, Ending, SessionEnd, SessionReady
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting
from telbridge.sessions.base import AgentProtocol, ConnectRequest
from telbridge.sessions.websocket import UPLINK_MAX_MS, AgentSocket, Outgoing

CONNECT_TIMEOUT_S: Final = 5.0
SETUP_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
"""The peer's time to answer our close frame; then the connection is cut."""
BEAT_S: Final = 5.0
_PING_AT_BEAT: Final = 2
_LOST_AT_BEAT: Final = 4
"""Beats in a row in which nothing came from the peer: from the second on it is pinged, at the fourth it is
gone (15 to 20 s of silence). A working agent is never silent that long: it answers pings."""
MESSAGES_A_TURN: Final = 8
"""A burst lies in the reader's buffer, and taking from it never waits: the other calls' tick must get its
turn in between."""
MESSAGE_MAX_OCTETS: Final = 16 << 20

_DATA: Final = (WSMsgType.TEXT, WSMsgType.BINARY)
_ALIVE: Final = (*_DATA, WSMsgType.PING, WSMsgType.PONG)
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001


def make_http_session() -> aiohttp.ClientSession:
    """The worker's one HTTP client, for all its sessions: no bound on connections (calls are bounded
    elsewhere), addresses cached for a minute, no cookies, certificates verified. Close it at the end."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        ws_response_class=AgentSocket,
    )


class AgentConnection:
    """One session over one WebSocket; implements `telbridge.call.ports.Session`.

    Neither words, audio nor keys are ever logged here.
    """

    def __init__(
        self,
        protocol: AgentProtocol,
        http: aiohttp.ClientSession,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], int] = time.monotonic_ns,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        setup_timeout_s: float = SETUP_TIMEOUT_S,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
        beat_s: float = BEAT_S,
    ) -> None:
        """`http`: made by `make_http_session`."""
        self._protocol = protocol
        self._http = http
        self._log = log
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._setup_timeout_s = setup_timeout_s
        self._close_timeout_s = close_timeout_s
        self._beat_s = beat_s
        self._outgoing: Outgoing | None = None
        self._dropped_octets = 0
        self._ready = False
        self._end: SessionEnd | None = None
        self._deadline: asyncio.Timeout | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._silent_beats = 0

    # ------------------------------------------------------------ what the call asks

    @property
    def uplink_format(self) -> AudioFormat:
        return self._protocol.uplink_format

    @property
    def downlink_format(self) -> AudioFormat:
        return self._protocol.downlink_format

    @property
    def uplink_dropped_ms(self) -> int:
        """Frames that came before `SessionReady` or after the end are not counted: nobody was late."""
        octets = self._outgoing.uplink_dropped_octets if self._outgoing else self._dropped_octets
        return int(self._protocol.uplink_format.ms_in(octets))

    def send_audio(self, frame: bytes) -> None:
        if self._outgoing is not None:
            message = self._protocol.audio(frame)
            if message is not None:
                self._outgoing.audio(message, len(frame))

    def greet(self, greeting: Greeting) -> None:
        if self._end is None:
            self._protocol.greet(greeting)
            self._write()

    def send_text(self, text: str, *, respond: bool) -> None:
        if self._end is None:
            self._protocol.send_text(text, respond=respond)
            self._write()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        if self._end is None:
            self._protocol.report_heard(heard)
            self._write()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def close(self) -> None:
        """`run` then returns AGENT_HUNG_UP with the detail "closed by us"."""
        self._finish(SessionEnd(Ending.AGENT_HUNG_UP, "closed by us"))

    # ------------------------------------------------------------ the run

    async def run(self, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        """Once. An exception of `on_event` or of the protocol is a bug: it comes out of here, after the
        connection was cut; so does a cancellation."""
        request = self._protocol.connect_request()
        started_ns = self._clock()
        self._log.debug("session_connecting")
        try:
            opened = await self._connect(request)
            if isinstance(opened, AgentSocket):
                self._log.debug("session_connected", connect_ms=(self._clock() - started_ns) // 1_000_000)
                end = await self._converse(opened, on_event)
            else:
                end = opened
        finally:
            self._finish(SessionEnd(Ending.INTERNAL_ERROR))  # Unless it has ended: no more of it is asked.
        self._log.info(
            "session_ended",
            ending=end.ending.value,
            detail=end.detail,
            duration_ms=(self._clock() - started_ns) // 1_000_000,
            uplink_dropped_ms=self.uplink_dropped_ms,
        )
        return end

    async def _connect(self, request: ConnectRequest) -> AgentSocket | SessionEnd:
        end = self._end
        if end is not None:
            return end
        try:
            async with asyncio.timeout(self._connect_timeout_s) as self._deadline:
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
                return self._protocol.closed(None, f"no connection within {self._connect_timeout_s:g} s")
            return self._protocol.closed(None, _describe(fault))
        finally:
            self._deadline = None
        if not isinstance(websocket, AgentSocket):
            await websocket.close()
            raise TypeError("AgentConnection wants an HTTP session of make_http_session()")
        return websocket

    async def _converse(self, websocket: AgentSocket, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        self._outgoing = Outgoing(
            websocket,
            uplink_max_octets=self._protocol.uplink_format.bytes_for_ms(UPLINK_MAX_MS),
            uplink_kind=WSMsgType.TEXT if self._protocol.uplink_is_text else WSMsgType.BINARY,
            on_stuck=self._on_stuck,
        )
        try:
            self._arm_heartbeat()
            end = await self._pump_until_end(websocket, on_event)
            await self._say_goodbye(websocket)
            return end
        except BaseException:
            websocket.write(struct.pack("!H", _GOING_AWAY), WSMsgType.CLOSE)
            raise
        finally:
            self._stop_writing()
            websocket.abort()

    async def _pump_until_end(
        self, websocket: AgentSocket, on_event: Callable[[AgentEvent], None]
    ) -> SessionEnd:
        deadline = asyncio.timeout(self._setup_timeout_s)
        self._deadline = deadline
        try:
            async with deadline:
                self._write()
                return await self._pump(websocket, on_event)
        except TimeoutError:
            if not deadline.expired():
                raise  # Not ours: a bug's.
            if self._end is None:
                self._end = self._protocol.closed(None, f"not configured within {self._setup_timeout_s:g} s")
            return self._end
        finally:
            self._deadline = None

    async def _pump(self, websocket: AgentSocket, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        for number in itertools.count(1):
            if self._end is not None:
                break
            message = await websocket.receive()
            if number % MESSAGES_A_TURN == 0:
                await asyncio.sleep(0)
            self._silent_beats = 0
            if not self._reading.is_set():
                await self._reading.wait()
            if message.type in _DATA:
                self._take(message.data, on_event)
            elif message.type is WSMsgType.PING:
                self._pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return self._judge(message)
        assert self._end is not None
        return self._end

    def _take(self, data: str | bytes, on_event: Callable[[AgentEvent], None]) -> None:
        for event in self._protocol.receive(data, now_ns=self._clock()):
            on_event(event)
            if not self._ready:
                self._watch_setup(event)
        self._write()

    def _watch_setup(self, event: AgentEvent) -> None:
        match event:
            case SessionReady():
                self._ready = True
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
        if message.type is WSMsgType.ERROR and isinstance(message.data, Exception):
            return self._protocol.closed(None, _describe(message.data))
        return self._protocol.closed(None, "")

    async def _say_goodbye(self, websocket: AgentSocket) -> None:
        """Our close frame, an answer or not. If not, wait for the peer's; what else it still sends is of
        no interest to anybody."""
        self._stop_writing()
        websocket.write(struct.pack("!H", _NORMAL), WSMsgType.CLOSE)
        if self._end is None:
            return
        try:
            async with asyncio.timeout(self._close_timeout_s):
                while (await websocket.receive()).type in _ALIVE:
                    pass
        except TimeoutError:
            self._log.debug("session_close_timeout")

    # ------------------------------------------------------------ small parts

    def _finish(self, end: SessionEnd) -> None:
        """The first end counts. Wakes whatever `run` waits for."""
        if self._end is None:
            self._end = end
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(asyncio.get_running_loop().time())

    def _on_stuck(self) -> None:
        self._finish(self._protocol.closed(None, "the API takes no more data"))

    def _write(self) -> None:
        if self._outgoing is not None:
            for message in self._protocol.data_to_send():
                self._outgoing.control(message)

    def _pong(self, payload: bytes) -> None:
        if self._outgoing is not None:
            self._outgoing.pong(payload)

    def _stop_writing(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        if self._outgoing is not None:
            self._dropped_octets = self._outgoing.uplink_dropped_octets
            self._outgoing.close()
            self._outgoing = None

    def _arm_heartbeat(self) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def _beat(self) -> None:
        if not self._reading.is_set():
            self._silent_beats = 0  # The silence is ours: we do not read.
        else:
            self._silent_beats += 1
        if self._silent_beats >= _LOST_AT_BEAT:
            self._heartbeat = None
            self._finish(self._protocol.closed(None, "no sign of life"))
            return
        if self._silent_beats >= _PING_AT_BEAT and self._outgoing is not None:
            self._outgoing.ping()
        self._arm_heartbeat()


def _describe(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
