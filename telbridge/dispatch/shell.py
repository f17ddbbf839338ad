"""The dispatcher's sockets: the public SIP ports in UDP, TCP and TLS, and one on loopback for the workers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from telbridge.dispatch.core import Dispatcher
from telbridge.dispatch.framing import PING, PONG, Framer
from telbridge.dispatch.hops import Hop, Send, ToPeer, Transport
from telbridge.dispatch.marks import LOOPBACK
from telbridge.dispatch.message import Malformed
from telbridge.dispatch.routing import is_number
from telbridge.legs.sip.tls import Tls

MAX_CONNECTIONS: Final = 2_000
CONNECT_S: Final = 5.0
BACKLOG: Final = 256
MAX_UNSENT: Final = 256 * 1024
"""Octets that a TCP peer may leave unread before it is cut off."""
_LOCAL_ADDRESSES: Final = 4_096
_RECEIVE_BUFFER: Final = 4 * 1024 * 1024

Address = tuple[Transport, str, int]
"""Of the other end of a connection."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen."""

    host: str
    port: int
    transports: frozenset[str]
    tls: Tls | None = None
    listening: Sequence[socket.socket] = ()
    """What listens there already; the rest is opened."""

    def given(self, kind: socket.SocketKind, port: int) -> socket.socket | None:
        """The socket for this port, if it is there already."""
        found = (each for each in self.listening if each.type == kind and each.getsockname()[1] == port)
        return next(found, None)


def inner_socket(port: int) -> socket.socket:
    """The one towards the workers; 0 takes a free port. OSError if it cannot be had."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        made.bind((LOOPBACK, port))
    except OSError:
        made.close()
        raise
    return made


class Shell:
    """Runs a Dispatcher on sockets. `permits(host)` is asked before anything of a message is looked at."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        place: Place,
        inner: socket.socket,
        permits: Callable[[str], bool],
        log: Any,
    ) -> None:
        self._dispatcher, self._place, self._permits, self._log = dispatcher, place, permits, log
        self._inner_socket = inner
        self._inner: asyncio.DatagramTransport | None = None
        self._outer_socket: socket.socket | None = None
        self._outer: asyncio.DatagramTransport | None = None
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[Address, _Connection] = {}
        self._opening: dict[Address, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self.cut_off = 0
        """Connections that were not taken, or not kept."""

    async def open(self) -> None:
        """The ports are ours from now on, and workers are heard. OSError if a port cannot be had."""
        loop = asyncio.get_running_loop()
        place = self._place
        self._inner, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._of_worker), sock=self._inner_socket
        )
        if "udp" in place.transports:
            self._outer_socket = _udp_socket(place)
        if "tcp" in place.transports:
            await self._prepare("tcp", place.port)
        if place.tls is not None:
            secured = {"ssl": place.tls.for_callers, "ssl_handshake_timeout": CONNECT_S}
            await self._prepare("tls", place.tls.port, **secured)

    async def listen(self) -> None:
        """Take what peers send, also what has come since `open`; once."""
        if self._outer_socket is not None:
            self._outer, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self._of_peer), sock=self._outer_socket
            )
        for listener in self._listeners:
            await listener.start_serving()

    async def _prepare(self, kind: Transport, port: int, **secured: Any) -> None:
        """Connections are made from now on, and wait until `listen`."""
        listener = self._place.given(socket.SOCK_STREAM, port) or _tcp_socket(self._place.host, port)
        self._listeners.append(
            await asyncio.get_running_loop().create_server(
                lambda: _Connection(self, kind),
                sock=listener,
                backlog=BACKLOG,
                start_serving=False,
                **secured,
            )
        )

    def close(self) -> None:
        """Let go of everything; safe twice."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.abort()
        for closes in (*self._listeners, self._outer or self._outer_socket, self._inner):
            if closes is not None:
                closes.close()

    def send(self, sends: Iterable[Send]) -> None:
        """Carry out what the dispatcher wants, and be awake when it wants that."""
        for send in sends:
            if not isinstance(send, ToPeer):
                if self._inner is not None:
                    self._inner.sendto(send.data, (LOOPBACK, send.port))
            elif send.to.is_stream:
                self._send_stream(send)
            else:
                self._send_udp(send)
        self._set_timer()

    # ------------------------------------------------------------ in

    def _of_worker(self, data: bytes, address: tuple[str, int]) -> None:
        self._guarded(lambda now_ns: self._dispatcher.from_worker(data, address[1], now_ns))

    def _of_peer(self, data: bytes, address: tuple[str, int]) -> None:
        if self._permits(address[0]) and data.strip(b"\r\n\0"):  # keep-alives are empty
            self._dispatch(data, Hop("udp", *address, self._local(address[0])))

    def _dispatch(self, data: bytes, source: Hop) -> None:
        self._guarded(lambda now_ns: self._dispatcher.from_peer(data, source, now_ns))

    def _guarded(self, step: Callable[[int], Iterable[Send]]) -> None:
        """The wall between messages: what one of them breaks is logged, and the others go on."""
        try:
            self.send(step(time.monotonic_ns()))
        except Exception:  # noqa: BLE001 - see above
            self._log.exception("dispatcher_bug")

    def _local(self, peer: str) -> str:
        return self._place.host if self._place.host != "0.0.0.0" else _address_towards(peer)

    # ------------------------------------------------------------ time

    def _set_timer(self) -> None:
        due_ns = self._dispatcher.deadline_ns
        if self._timer is not None:
            if due_ns == self._timer_ns:
                return
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            self._timer_ns = due_ns
            delay_s = max(0, due_ns - time.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        due_ns, self._timer = self._timer_ns, None
        # A timer may go off early: the dispatcher never sees a time before its own deadline.
        self._guarded(lambda now_ns: self._dispatcher.tick(max(now_ns, due_ns)))

    # ------------------------------------------------------------ out

    def _send_udp(self, send: ToPeer) -> None:
        if self._outer is None:
            if send.instead is not None and send.instead.is_stream:
                self._send_stream(ToPeer(send.data, send.instead))
        elif is_number(send.to.host):
            self._outer.sendto(send.data, (send.to.host, send.to.port))
        else:
            self._later(self._send_to_name(send))

    async def _send_to_name(self, send: ToPeer) -> None:
        host, port = await self._resolved(send.to, send.instead)
        if self._outer is not None:
            self._outer.sendto(send.data, (host, port))

    async def _resolved(self, to: Hop, instead: Hop | None) -> tuple[str, int]:
        """Address records only; no SRV (RFC 3263 §4.2)."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(to.host, to.port, family=socket.AF_INET)
            return str(found[0][4][0]), to.port
        except OSError:
            if instead is None:
                raise
            return instead.host, instead.port

    def _send_stream(self, send: ToPeer) -> None:
        ways = [hop for hop in (send.to, send.instead) if hop is not None and hop.is_stream]
        for hop in ways:
            if (connection := self._connections.get((hop.transport, hop.host, hop.port))) is not None:
                connection.write(send.data)
                return
        address = ways[-1].transport, ways[-1].host, ways[-1].port
        if address in self._opening:
            self._opening[address].append(send.data)
        else:
            self._opening[address] = [send.data]
            self._later(self._connect(ways[-1], send.instead))

    async def _connect(self, to: Hop, instead: Hop | None) -> None:
        """Whoever asked may have closed its connection: its answers go by a new one (RFC 3261 §18.2.2)."""
        loop = asyncio.get_running_loop()
        own = (self._place.host, 0) if self._place.host != "0.0.0.0" else None
        try:
            address = await self._resolved(to, instead)
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, to.transport), *address, local_addr=own, **self._secured(to)
                )
            for data in self._opening[to.transport, to.host, to.port]:
                connection.write(data)
        finally:
            del self._opening[to.transport, to.host, to.port]

    def _secured(self, to: Hop) -> dict[str, Any]:
        """How this connection is made TLS, if it is to be."""
        if to.transport != "tls":
            return {}
        assert self._place.tls is not None  # Else there would be nobody who came by it.
        return {"ssl": self._place.tls.for_peers, "server_hostname": to.host}

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (fault := task.exception()) is None:
            return
        if isinstance(fault, OSError):  # TimeoutError is one
            self._log.info("dispatcher_cannot_reach", why=type(fault).__name__)
        else:
            self._log.error("dispatcher_bug", exc_info=fault)

    # ------------------------------------------------------------ for connections

    def opened(self, connection: _Connection) -> bool:
        """Whether it is kept."""
        if not self._permits(connection.address[1]) or len(self._connections) >= MAX_CONNECTIONS:
            self.cut_off += 1
            return False
        self._connections[connection.address] = connection
        return True

    def closed(self, connection: _Connection) -> None:
        if self._connections.get(connection.address) is connection:
            del self._connections[connection.address]

    def came(self, data: bytes, connection: _Connection) -> None:
        self._dispatch(data, Hop(*connection.address, connection.local))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, came: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._came = came

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self._came(data, cast(tuple[str, int], addr[:2]))

    def error_received(self, exc: Exception) -> None:
        """ICMP: a peer or worker that has just gone. Whoever needs an answer asks again."""


class _Connection(asyncio.Protocol):
    """One TCP or TLS connection, whoever opened it: both sides' requests travel on it."""

    local: str = ""

    def __init__(self, shell: Shell, kind: Transport) -> None:
        self._shell, self._framer = shell, Framer()
        self.address: Address = kind, "", 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = self.address[0], *self._transport.get_extra_info("peername")[:2]
        self.local = self._transport.get_extra_info("sockname")[0]
        if not self._shell.opened(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._framer.feed(data)
        except Malformed:
            self._shell.cut_off += 1
            self.abort()
            return
        for message in messages:
            if message == PING:
                self.write(PONG)
            else:
                self._shell.came(message, self)

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self._shell.cut_off += 1
            self._transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shell.closed(self)


def _tcp_socket(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _udp_socket(place: Place) -> socket.socket:
    given = place.given(socket.SOCK_DGRAM, place.port)
    made = given or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if given is None:  # Else ReceiveBuffer= says how much, which may be more than we are allowed to.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            made.bind((place.host, place.port))
    except OSError:
        made.close()
        raise
    return made


@lru_cache(_LOCAL_ADDRESSES)
def _address_towards(peer: str) -> str:
    """Our own address by which the machine's routes reach this peer; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, 9))
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])
