"""What the peer of a WebSocket sends, handed over without a task's turn for each message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType

from telbridge.sockets.frames import FrameReader

MESSAGES_A_TURN: Final = 8
"""Of one socket: the other calls' tick must get its turn in between."""

UNREAD_OCTETS: Final = 128 * 1024
"""Of messages that wait to be taken; more stays with the network."""

DATA: Final = (WSMsgType.TEXT, WSMsgType.BINARY)

_CLOSED: Final = WSMessage(WSMsgType.CLOSED, None, None)
_CLOSING: Final = WSMessage(WSMsgType.CLOSING, None, None)


class Tap(asyncio.Protocol):
    """What comes goes straight to `take`; all else of a connection stays with who has it now."""

    def __init__(self, below: Any, take: Callable[[bytes], object]) -> None:
        """`below`: the protocol so far."""
        self._below = below
        self.data_received = take  # type: ignore[method-assign, assignment]

    def eof_received(self) -> bool | None:
        kept_open: bool | None = self._below.eof_received()
        return kept_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._below.connection_lost(exc)

    def pause_writing(self) -> None:
        self._below.pause_writing()

    def resume_writing(self) -> None:
        self._below.resume_writing()


class Incoming:
    """Data goes straight to `on_data` as long as nothing waits; all else, and what is too much for one turn
    of the loop, waits to be taken. The order is kept.

    Stands in the place of aiohttp's parser, and on the client's side of its queue too (aiohttp 3.14.5,
    `ResponseHandler.set_parser` and `RequestHandler.set_parser`). After `tap` data does not come by there.
    """

    def __init__(self, transport: asyncio.Transport, *, max_octets: int, masked: bool = False) -> None:
        """`max_octets`: of one message. `masked`: the peer is a client."""
        self.on_data: Callable[[str | bytes], None] | None = None
        """Must not raise. None: all waits."""
        self._transport = transport
        self._frames = FrameReader(max_octets, masked=masked)
        self._unread: deque[WSMessage] = deque()
        self._unread_octets = 0
        self._arrival: asyncio.Future[None] | None = None
        self._on_hold = self._stopped = self._over = False

    # ------------------------------------------------------------ the connection's side

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Octets of the connection, as aiohttp's own parsers take them: whether this was the end, and what is
        left over."""
        take = self.on_data
        if take is not None and not self._unread and not self._on_hold:
            one = self._frames.whole(data)
            if one is not None:
                take(one)
                return False, b""
        in_turn = 0
        for message in self._frames.feed(data):
            take = self.on_data
            if (
                take is not None
                and message.type in DATA
                and not self._unread
                and not self._on_hold
                and in_turn < MESSAGES_A_TURN
            ):
                in_turn += 1
                take(message.data)
            else:
                self._keep(message)
        return self._over, b""

    def feed_eof(self) -> None:
        """Called by aiohttp: the connection is closed or lost."""
        self._keep(_CLOSED)

    def set_exception(self, exception: BaseException, cause: BaseException | None = None) -> None:
        """Called by aiohttp, with what `feed_eof` has told already."""
        self._keep(_CLOSED)

    def _keep(self, message: WSMessage) -> None:
        if self._over:
            return
        self._over = message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
        self._unread.append(message)
        self._unread_octets += _octets(message)
        self._mind_reading()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def tap(self, below: Any) -> None:
        """From now on data comes here by itself. `below`: aiohttp's protocol, which has this one for its
        parser."""
        self._transport.set_protocol(Tap(below, self.feed_data))

    # ------------------------------------------------------------ the reader's side

    def arrival(self) -> asyncio.Future[None]:
        """Done once there is something to take. One waits at a time."""
        if self._arrival is None or self._arrival.done():
            self._arrival = asyncio.get_running_loop().create_future()
            if self._unread:
                self._arrival.set_result(None)
        return self._arrival

    def take(self) -> WSMessage:
        """The next message; only after `arrival`. CLOSED or ERROR is the last."""
        message = self._unread.popleft()
        self._unread_octets -= _octets(message)
        self._mind_reading()
        return message

    def wake(self) -> None:
        """Whoever waits for a message gets CLOSING; what the peer still sends comes after it."""
        self._keep(_CLOSING)

    def hold(self, on: bool) -> None:
        """While on, nothing goes to `on_data`, and what the peer sends stays with the network."""
        self._on_hold = on
        self._mind_reading()

    def _mind_reading(self) -> None:
        stop = self._on_hold or self._unread_octets > UNREAD_OCTETS
        if stop != self._stopped and not self._transport.is_closing():
            self._stopped = stop
            (self._transport.pause_reading if stop else self._transport.resume_reading)()


def _octets(message: WSMessage) -> int:
    return len(message.data) if message.type in DATA else 0
