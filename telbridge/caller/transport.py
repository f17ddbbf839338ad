"""SIP over UDP and TCP on asyncio: octets in and out, nothing of their meaning but the framing."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final, Protocol, cast

from telbridge.caller.wire import Hop, StreamFramer

OnMessage = Callable[[bytes, Hop], None]
"""A whole message and where it came from."""
_IP_RECVERR: Final = 11
"""ip(7) on Linux; Python has no name for it."""


class Link(Protocol):
    """Where a call's messages are written."""

    @property
    def local(self) -> Hop:
        """Our end, for Via and Contact."""

    def send(self, data: bytes, address: tuple[str, int]) -> None: ...

    def close(self) -> None: ...


def _hop(address: object, transport: str) -> Hop:
    host, port = cast(tuple[str, int], address)[:2]
    return Hop(host, port, transport)


class UdpLink(asyncio.DatagramProtocol):
    """One socket for all UDP calls of a softphone."""

    def __init__(
        self, one: socket.socket, on_message: OnMessage, on_refused: Callable[[tuple[str, int]], None]
    ) -> None:
        self._socket = one
        self._on_message = on_message
        self._on_refused = on_refused
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, on_message: OnMessage, on_refused: Callable[[tuple[str, int]], None]
    ) -> UdpLink:
        """`on_refused` is told to which address nobody listens (ICMP; on Linux only)."""
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            one.setblocking(False)
            one.bind((host, port))
            if sys.platform == "linux":
                one.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        except OSError:
            one.close()
            raise
        loop = asyncio.get_running_loop()
        _, link = await loop.create_datagram_endpoint(lambda: cls(one, on_message, on_refused), sock=one)
        return link

    @property
    def local(self) -> Hop:
        assert self._transport is not None
        return _hop(self._transport.get_extra_info("sockname"), "udp")

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(data, address)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        if data.strip(b"\r\n\0"):  # keep-alives are empty
            self._on_message(data, _hop(addr, "udp"))

    def error_received(self, exc: Exception) -> None:
        """The error queue tells which datagram came to nothing: its destination is the address there."""
        while sys.platform == "linux":
            try:
                address = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)[3]
            except OSError:
                return
            self._on_refused(_hop(address, "udp").address)


class TcpLink(asyncio.Protocol):
    """One connection for one call, as separate telephones have; both sides' requests travel on it."""

    def __init__(self, on_message: OnMessage, on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls, host: str, peer: tuple[str, int], on_message: OnMessage, on_lost: Callable[[], None]
    ) -> TcpLink:
        """OSError if the peer does not answer."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: cls(on_message, on_lost), *peer, local_addr=(host, 0))
        return link

    @property
    def local(self) -> Hop:
        assert self._transport is not None
        return _hop(self._transport.get_extra_info("sockname"), "tcp")

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        # RFC 5923: the connection is reused whatever the Contact says; a peer that wants another one is rare.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        peer = _hop(self._transport.get_extra_info("peername"), "tcp")
        try:
            messages = self._framer.feed(data)
        except ValueError:  # the stream is out of step for good
            self._transport.abort()
            return
        for message in messages:
            self._on_message(message, peer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()
