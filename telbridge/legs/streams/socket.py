"""The server's end of a WebSocket, written without awaiting.

A server's frames are not masked, so a frame is a header of a few octets and the message: ours go to the
transport directly, several at once, without a task, an await or a copy inside aiohttp. That is sound as long
as no extension was agreed on (`compress=False`), for aiohttp too hands whole frames to the same transport.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

TEXT: Final = 0x1
BINARY: Final = 0x2
_FIN: Final = 0x80
UNREAD_OCTETS: Final = 256 * 1024
"""What the kernel has not taken; a peer that leaves so much unread no longer reads."""
CLOSE_S: Final = 2.0
"""For the peer to answer our close."""


def frame(opcode: int, message: bytes) -> bytes:
    """One unfragmented, unmasked frame (RFC 6455 §5.2)."""
    size = len(message)
    if size < 126:
        return bytes((_FIN | opcode, size)) + message
    if size < 65_536:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + message
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + message


class StreamSocket:
    """One accepted WebSocket: what the leg writes to and closes."""

    def __init__(self, websocket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._websocket, self._transport = websocket, transport
        self._closing: asyncio.Task[bool] | None = None
        # Nothing here waits for the transport; aiohttp's own few frames must not either.
        transport.set_write_buffer_limits(high=1 << 30)

    framed = staticmethod(frame)

    def write(self, frames: bytes) -> None:
        """Whole frames. Does nothing on a closed connection: the reader tells."""
        if self._closing is None and not self._transport.is_closing():
            self._transport.write(frames)

    @property
    def is_stuck(self) -> bool:
        return self._transport.get_write_buffer_size() > UNREAD_OCTETS

    def close(self, code: int, reason: str) -> None:
        """Say why, and close; the reader of the socket then comes to its end. Safe twice."""
        if self._closing is None:
            closing = self._websocket.close(code=code, message=reason.encode()[:120])
            self._closing = asyncio.create_task(closing, name="stream close")

    async def finished(self) -> None:
        """Once the connection is closed, in good order or by force."""
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=CLOSE_S)
            if not self._closing.done():
                self._closing.cancel()
                await asyncio.wait([self._closing])
            elif not self._closing.cancelled():
                self._closing.exception()  # A connection that was lost meanwhile is closed too.
        self._transport.abort()
