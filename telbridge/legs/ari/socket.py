"""The client's end of a media WebSocket; what `streams/socket.py` is for a server's.

aiohttp makes the connection; then its octets come to us (`Incoming`). A client's frames are masked (RFC 6455
§5.3): ours are masked here and go to the transport directly, several at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from telbridge.legs.streams.peer import MAX_MESSAGE_OCTETS
from telbridge.legs.streams.socket import StreamSocket
from telbridge.sockets.incoming import Incoming

_FIN: Final = 0x80
_MASKED: Final = 0x80


def masked_frame(opcode: int, message: bytes, mask: bytes) -> bytes:
    """One unfragmented frame (RFC 6455 §5.2). `mask`: four octets that nobody can foretell."""
    size = len(message)
    if size < 126:
        header = bytes((_FIN | opcode, _MASKED | size))
    elif size < 65_536:
        header = bytes((_FIN | opcode, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((_FIN | opcode, _MASKED | 127)) + size.to_bytes(8, "big")
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return header + mask + (int.from_bytes(message, "big") ^ key).to_bytes(size, "big")


class MediaSocket(aiohttp.ClientWebSocketResponse[Any]):
    """What `ClientSession.ws_connect` returns for a session with this `ws_response_class`."""

    def __init__(
        self,
        reader: Any,
        writer: Any,
        protocol: str | None,
        response: aiohttp.ClientResponse,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(reader, writer, protocol, response, *args, **kwargs)
        connection = response.connection
        if connection is None or connection.transport is None:
            raise aiohttp.ClientConnectionResetError("connection lost during the handshake")
        self._transport: asyncio.Transport = connection.transport
        # What came right behind the handshake, before aiohttp's own reader is given it (aiohttp 3.14.5,
        # `ClientSession._ws_connect`).
        below: Any = connection.protocol
        self._early: bytes = below._tail
        below._tail = b""
        self._below, self._answer = below, response

    def wire(self) -> ClientWire:
        """Read and write from now on. To be called once, before anything is awaited after the handshake."""
        incoming = Incoming(self._transport, max_octets=MAX_MESSAGE_OCTETS)
        self._below.set_parser(incoming, incoming)
        incoming.feed_data(self._early)
        return ClientWire(self._transport, incoming, self._answer.close)


class ClientWire(StreamSocket):
    """The client's end."""

    def __init__(self, transport: asyncio.Transport, incoming: Incoming, forget: Callable[[], None]) -> None:
        """`forget`: for the connector's book-keeping."""
        super().__init__(transport, incoming)
        self._forget = forget

    async def finished(self) -> None:
        try:
            await super().finished()
        finally:
            self._forget()

    def framed(self, opcode: int, message: bytes) -> bytes:
        return masked_frame(opcode, message, secrets.token_bytes(4))
