"""Connections over TLS for aiohttp's client, by `TlsClient`: to what is above an asyncio transport, to TCP's
transport the protocol.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Any, cast

import aiohttp

from telbridge.sockets.tls import TlsClient


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """Made with the TCP connection; `opened` is done once the handshake is, or has failed."""

    def __init__(self, context: ssl.SSLContext, server_hostname: str, above: asyncio.Protocol) -> None:
        super().__init__()
        self._client = TlsClient(context, server_hostname, fail=self._fail, end=self._peer_ended)
        self._context = context
        self._above = above
        self._tcp: asyncio.Transport
        self._closing = False
        self._fault: Exception | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------ what TCP's transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast("asyncio.Transport", transport)
        self._client.send = self._tcp.write
        self._shake_hands(b"")

    def data_received(self, data: bytes) -> None:
        """Until the handshake is done, or nobody waits for it any more."""
        if not self._closing and not self.opened.cancelled() and self._shake_hands(data):
            self._open()

    def eof_received(self) -> bool | None:
        return None  # TCP closes itself.

    def connection_lost(self, exc: Exception | None) -> None:
        fault = self._fault or exc
        self._shut()
        if not self.opened.done():
            closed = ConnectionAbortedError(errno.ECONNABORTED, "closed during TLS's handshake")
            self.opened.set_exception(fault or closed)
            self.opened.exception()  # Whoever has gone by now need not have asked for it.
        elif not self.opened.cancelled():
            self._above.connection_lost(fault)

    def pause_writing(self) -> None:
        self._above.pause_writing()

    def resume_writing(self) -> None:
        self._above.resume_writing()

    # ------------------------------------------------------------ what `TlsClient` calls

    def _fail(self, fault: ssl.SSLError) -> None:
        self._fault = fault
        self.abort()

    def _peer_ended(self) -> None:
        if not self._closing:
            self._above.eof_received()
            self.close()

    # ------------------------------------------------------------ small parts

    def _shake_hands(self, data: bytes) -> bool:
        try:
            return self._client.shake_hands(data)
        except ssl.SSLError as fault:
            self._fault = fault
            self._shut()
            self._tcp.close()  # After the alert that tells the peer.
            return False

    def _open(self) -> None:
        """From now on each frame has the shortest way: nothing of this class is on it."""
        client, tcp = self._client, self._tcp
        self.data_received = client.received  # type: ignore[method-assign]
        tcp.set_protocol(self)  # uvloop keeps the method that it found first.
        self.write = client.write  # type: ignore[method-assign]
        self.is_closing = tcp.is_closing  # type: ignore[method-assign]
        self.get_write_buffer_size = tcp.get_write_buffer_size  # type: ignore[method-assign]
        self._above.connection_made(self)
        self.set_protocol(self._above)
        self.opened.set_result(None)
        client.received(b"")  # What came right behind the handshake.

    def _shut(self) -> None:
        self._closing = True
        for short in ("write", "is_closing"):
            self.__dict__.pop(short, None)

    # ------------------------------------------------------------ the transport

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Of a connection that is not open: nothing."""

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        return self._closing or self._tcp.is_closing()

    def close(self) -> None:
        if not self._closing:
            if not self._tcp.is_closing():
                self._client.say_goodbye()
            self._shut()
            self._tcp.close()

    def abort(self) -> None:
        self._shut()
        self._tcp.abort()

    def is_reading(self) -> bool:
        return self._tcp.is_reading()

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._above = cast("asyncio.Protocol", protocol)
        self._client.deliver = self._above.data_received

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._above

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "sslcontext":
                return self._context
            case "ssl_object":
                return self._client.tls
            case "peercert":
                return self._client.tls.getpeercert()
            case "cipher":
                return self._client.tls.cipher()
            case _:
                return self._tcp.get_extra_info(name, default)


class TlsConnector(aiohttp.TCPConnector):
    """aiohttp's, whose TLS is a `TlsConnection`.

    That a connection is made by this method is aiohttp's own affair (3.14.5); a test holds it. Were it made
    by another one, TLS would be the event loop's again, and all would go on.
    """

    async def _wrap_create_connection(  # type: ignore[override]
        self,
        factory: Callable[[], asyncio.Protocol],
        *,
        req: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,
        ssl: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        **how: Any,
    ) -> tuple[asyncio.Transport, Any]:
        create = super()._wrap_create_connection
        if ssl is None:
            return await create(factory, req=req, timeout=timeout, **how)
        context, name, above = ssl, server_hostname or "", factory()
        _, connection = await create(
            lambda: TlsConnection(context, name, above), req=req, timeout=timeout, **how
        )
        async with asyncio.timeout(timeout.sock_connect):
            await _opened(cast("TlsConnection", connection), req)
        return cast("TlsConnection", connection), above


async def _opened(connection: TlsConnection, request: aiohttp.ClientRequest) -> None:
    """After its handshake; a failure as aiohttp tells it. Cancelled, it leaves no connection."""
    try:
        await connection.opened
    except ssl.CertificateError as fault:
        raise aiohttp.ClientConnectorCertificateError(request.connection_key, fault) from fault
    except ssl.SSLError as fault:
        raise aiohttp.ClientConnectorSSLError(request.connection_key, fault) from fault
    except OSError as fault:
        raise aiohttp.ClientConnectorError(request.connection_key, fault) from fault
    except asyncio.CancelledError:
        connection.abort()
        raise
