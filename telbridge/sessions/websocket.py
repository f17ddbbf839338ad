"""A client WebSocket that is read without a task's turn for each message and written without awaiting, and
the writer that never lets it fall behind.

aiohttp makes the connection; then its octets come to us (`Incoming`). Frames are made here and handed
to the transport whole: no task and no await a frame, and no cancellation can leave half a frame on the wire.
That is sound as long as no extension was agreed on (`compress=0`). We look at the transport ourselves before
each write, so its mark is lifted: nothing of aiohttp's ever waits for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
from collections import deque
from collections.abc import Callable
from random import getrandbits
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType

from telbridge.sockets.frames import masked_frame
from telbridge.sockets.incoming import Incoming

UPLINK_MAX_MS: Final = 400
"""Older speech would answer a question already past."""

CONTROL_MAX_OCTETS: Final = 1 << 20
"""Control that a peer has not taken; more only piles up for one that no longer reads at all."""

LOOK_AGAIN_S: Final = 0.02
"""How soon a transport that was full is looked at again."""

_UNSENT_MAX_OCTETS: Final = 2048
"""What the kernel may hold unsent before a write. Left to itself it takes megabytes, minutes of G.711: a
network that fell behind would never be noticed, and what it then delivers answers nobody."""

_ASK_KERNEL_EVERY: Final = 10

_SIOCOUTQNSD: Final = 0x894B
"""linux/sockios.h: octets not yet sent, not counting those sent and not acknowledged."""

_NO_MARK: Final = 1 << 30


class AgentSocket(aiohttp.ClientWebSocketResponse[Any]):
    """What `ClientSession.ws_connect` returns for sessions made by `make_http_session`."""

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
        self._agent_response = response
        # What came right behind the handshake, before aiohttp's own reader is given it (aiohttp 3.14.5,
        # `ClientSession._ws_connect`); a test holds this.
        below: Any = connection.protocol
        self._agent_early: bytes = below._tail
        below._tail = b""
        self._agent_protocol = below
        self._agent_transport: asyncio.Transport = connection.transport
        self._agent_transport.set_write_buffer_limits(high=_NO_MARK)
        tcp = self._agent_transport.get_extra_info("socket")
        self._agent_fd: int | None = tcp.fileno() if sys.platform == "linux" and tcp is not None else None

    def listen(self, on_data: Callable[[str | bytes], None], *, max_octets: int) -> Incoming:
        """Read from now on. To be called once, before anything is awaited after the handshake."""
        incoming = Incoming(self._agent_transport, max_octets=max_octets)
        incoming.on_data = on_data
        self._agent_protocol.set_parser(incoming, incoming)
        incoming.tap(self._agent_protocol)
        incoming.feed_data(self._agent_early)
        return incoming

    @property
    def is_buffering(self) -> bool:
        """Whether the kernel has not yet taken what was written. False on a closed connection."""
        return self._agent_transport.get_write_buffer_size() > 0 and not self._agent_transport.is_closing()

    @property
    def is_behind(self) -> bool:
        """Whether the network has not yet taken what was written.

        The transport alone does not tell: the kernel buffers below it.
        """
        return self.is_buffering or self._unsent_octets() > _UNSENT_MAX_OCTETS

    def _unsent_octets(self) -> int:
        """In the kernel; 0 where it cannot be asked."""
        if self._agent_fd is None or self._agent_transport.is_closing():
            return 0  # A closed descriptor may be somebody else's by now.
        try:
            return int.from_bytes(fcntl.ioctl(self._agent_fd, _SIOCOUTQNSD, bytes(4)), sys.byteorder)
        except OSError:
            self._agent_fd = None  # no TCP
            return 0

    def write(self, payload: bytes, kind: WSMsgType) -> None:
        """Hand one whole frame to the transport. Does nothing on a closed connection: the reader tells."""
        transport = self._agent_transport
        if not transport.is_closing():
            transport.write(masked_frame(kind, payload, getrandbits(32).to_bytes(4, "big")))

    def abort(self) -> None:
        """Close the connection now, whatever is still buffered; idempotent."""
        self._agent_transport.abort()
        self._agent_response.close()  # the connector's book-keeping


class Outgoing:
    """All that goes out on one socket, in three queues that are empty unless the network is behind.

    Control never waits behind audio and is never dropped; of audio the oldest goes, bounded in time.
    """

    def __init__(
        self,
        websocket: AgentSocket,
        *,
        uplink_max_octets: int,
        uplink_kind: WSMsgType,
        on_stuck: Callable[[], None],
    ) -> None:
        """`uplink_max_octets`: of frames, before encoding. `on_stuck`: control is over its bound."""
        self._socket = websocket
        self._uplink_max_octets = uplink_max_octets
        self._uplink_kind = uplink_kind
        self._on_stuck = on_stuck
        self._audio: deque[tuple[bytes, int]] = deque()
        self._audio_octets = 0
        self._control: deque[tuple[bytes, WSMsgType]] = deque()
        self._control_octets = 0
        self._pong: bytes | None = None
        self._look_again: asyncio.Handle | None = None
        self._is_full = False
        self._frames = 0
        self.uplink_dropped_octets = 0

    def audio(self, message: bytes, frame_octets: int) -> None:
        """One uplink frame, encoded; `frame_octets` long before that."""
        self._frames += 1
        if self._look_again is None:
            socket = self._socket
            # The kernel is asked with every few frames: the system call costs a tenth of sending one.
            if not (socket.is_buffering if self._frames % _ASK_KERNEL_EVERY else socket.is_behind):
                socket.write(message, self._uplink_kind)
                return
        self._audio.append((message, frame_octets))
        self._audio_octets += frame_octets
        if self._is_full:
            self._drop_oldest()
        else:
            self._wait()

    def control(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._queue(message.encode(), WSMsgType.TEXT)
        else:
            self._queue(message, WSMsgType.BINARY)

    def ping(self) -> None:
        self._queue(b"", WSMsgType.PING)

    def pong(self, payload: bytes) -> None:
        """Answer a ping; only the latest needs one (RFC 6455 §5.5.3)."""
        self._pong = payload
        self._flush()

    def close(self) -> None:
        """Forget what is queued; what the transport has stays with it."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        self._audio.clear()
        self._control.clear()
        self._pong = None

    def _queue(self, payload: bytes, kind: WSMsgType) -> None:
        if self._control_octets > CONTROL_MAX_OCTETS:
            self._on_stuck()
            return
        self._control.append((payload, kind))
        self._control_octets += len(payload)
        if self._look_again is None:
            self._flush()

    def _flush(self) -> None:
        while not self._socket.is_behind:
            if self._pong is not None:
                pong, self._pong = self._pong, None
                self._socket.write(pong, WSMsgType.PONG)
            elif self._control:
                payload, kind = self._control.popleft()
                self._control_octets -= len(payload)
                self._socket.write(payload, kind)
            elif self._audio:
                message, octets = self._audio.popleft()
                self._audio_octets -= octets
                self._socket.write(message, self._uplink_kind)
            else:
                return
        if self._pong is not None or self._control or self._audio:
            self._wait()

    def _drop_oldest(self) -> None:
        while self._audio_octets > self._uplink_max_octets:
            octets = self._audio.popleft()[1]
            self._audio_octets -= octets
            self.uplink_dropped_octets += octets

    def _wait(self) -> None:
        """uvloop hands its writes to the kernel at the end of the loop's turn, so the first look comes
        with the next turn. A transport that is still full then is full: only now may audio be dropped,
        and it is looked at by the clock."""
        if self._look_again is None:
            self._look_again = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._look_again = None
        self._is_full = self._socket.is_behind
        if self._is_full:
            self._drop_oldest()
            self._look_again = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look)
        else:
            self._flush()
