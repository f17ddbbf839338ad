"""The server's end of a WebSocket, read and written without awaiting.

A server's frames are not masked, so a frame is a header of a few octets and the message: ours go to the
transport directly, several at once, without a task, an await or a copy inside aiohttp. That is sound as long
as no extension was agreed on (`compress=False`), for aiohttp too hands whole frames to the same transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, web

from telbridge.legs.streams.peer import MAX_MESSAGE_OCTETS
from telbridge.sockets.incoming import Incoming

TEXT: Final = 0x1
BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_NORMAL: Final = 1000
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


class StreamUpgrade(web.WebSocketResponse):
    """A WebSocket whose octets come to us once it is accepted: see `Incoming`."""

    incoming: Incoming

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        below: Any = request.protocol
        early: bytes = below._message_tail
        below._message_tail = b""  # What came right behind the request, before aiohttp's reader is given it.
        super()._post_start(request, protocol, writer)
        transport = request.transport
        assert transport is not None
        self.incoming = Incoming(transport, max_octets=MAX_MESSAGE_OCTETS, masked=True)
        below._payload_parser = self.incoming
        self.incoming.tap(below)
        self.incoming.feed_data(early)


class StreamSocket:
    """One WebSocket that is open, by default the server's end: what door and leg read, write to and close."""

    def __init__(self, transport: asyncio.Transport, incoming: Incoming) -> None:
        self._transport, self._incoming = transport, incoming
        self._closing: asyncio.TimerHandle | None = None
        self._over = False
        self._beat_s: float | None = None
        self._pinged = False
        # Nothing here waits for the transport; aiohttp's own few frames must not either.
        transport.set_write_buffer_limits(high=1 << 30)

    framed = staticmethod(frame)
    """A message as it is written."""

    def ping_every(self, seconds: float) -> None:
        """For a peer that may be silent for long: one that does not answer until the next ping is gone."""
        self._beat_s = seconds

    def listen(self, on_data: Callable[[str | bytes], None]) -> None:
        """From now on data goes straight there, but for what `receive` still gives."""
        self._incoming.on_data = on_data

    async def receive(self) -> WSMessage:
        """Data, CLOSING once we have closed, or the end: CLOSE, CLOSED, or ERROR with its reason."""
        while True:
            message = await self._next()
            if message.type is WSMsgType.PING:
                self.write(self.framed(_PONG, message.data))
            elif message.type is WSMsgType.PONG:
                self._pinged = False
            else:
                break
        self._over = message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
        if message.type is WSMsgType.ERROR:
            self.close(message.data.code, "")
        return message

    async def _next(self) -> WSMessage:
        while True:
            try:
                async with asyncio.timeout(None if self._closing else self._beat_s):
                    await self._incoming.arrival()
                    return self._incoming.take()
            except TimeoutError:
                if self._pinged:
                    self._transport.abort()
                    return WSMessage(WSMsgType.CLOSED, None, None)
                self._pinged = True
                self.write(self.framed(_PING, b""))

    def write(self, frames: bytes) -> None:
        """Whole frames. Does nothing on a closed connection: the reader tells."""
        if self._closing is None and not self._transport.is_closing():
            self._transport.write(frames)

    @property
    def is_stuck(self) -> bool:
        return self._transport.get_write_buffer_size() > UNREAD_OCTETS

    def close(self, code: int, reason: str) -> None:
        """Say why; the peer answers, or the connection is cut. Whoever reads is woken. Safe twice."""
        if self._closing is None:
            self.write(self.framed(_CLOSE, code.to_bytes(2, "big") + _cut(reason)))
            self._closing = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)
            self._incoming.wake()

    async def finished(self) -> None:
        """Once the connection is closed, in good order or by force."""
        try:
            self.close(_NORMAL, "")
            while not self._over:
                await self.receive()
        finally:
            self._transport.close()  # Cut after all, if the peer does not take what was written.


def _cut(reason: str) -> bytes:
    """To what fits into a control frame, whole characters."""
    return reason.encode()[:120].decode("utf-8", "ignore").encode()
