"""A leg's audio through the C pointer of its stream: the fast way of `ports`, in plain calls only."""

from __future__ import annotations

import ctypes
from typing import Any

from telbridge.legs.sip.pjmedia import (
    AUDIO,
    FRAME_BYTES,
    FRAME_SAMPLES,
    JB_STATE_WORDS,
    NONE,
    Frame,
    frame_functions,
    jitter_buffer_size_at,
)


class StreamPort:
    """The two ends of a stream, through its C pointer."""

    pieces = 2
    """pjmedia cuts G.711 into 10 ms before it goes into the jitter buffer, whatever the packets' length."""

    def __init__(self, native: ctypes.CDLL) -> None:
        self._get, self._put = frame_functions(native)
        self._look = native.pjmedia_stream_get_stat_jbuf
        self._look.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._pointer: int | None = None
        self._stream: int | None = None
        self._buffer = (ctypes.c_uint * JB_STATE_WORDS)()
        self._buffer_ref = ctypes.byref(self._buffer)
        self._size_at = jitter_buffer_size_at(native)
        rx, tx = (ctypes.c_ubyte * FRAME_BYTES)(), (ctypes.c_ubyte * FRAME_BYTES)()
        self._rx_view, self._tx_view = memoryview(rx).cast("B"), memoryview(tx).cast("B")
        self._rx = Frame(NONE, ctypes.addressof(rx), FRAME_BYTES, 0, 0)
        self._tx = Frame(AUDIO, ctypes.addressof(tx), FRAME_BYTES, 0, 0)
        self._rx_ref, self._tx_ref = ctypes.byref(self._rx), ctypes.byref(self._tx)

    @property
    def live(self) -> bool:
        return self._pointer is not None

    def stream_created(self, parameters: Any) -> None:
        parameters.destroyPort = False
        self._pointer, self._stream = int(parameters.pPort), int(parameters.stream)

    def stream_active(self, call: Any) -> None:
        pass

    def stream_gone(self) -> None:
        self._pointer = self._stream = None

    @property
    def waiting(self) -> int:
        if self._stream is None:
            return 0
        self._look(self._stream, self._buffer_ref)
        return self._buffer[self._size_at]

    def read(self) -> memoryview | None:
        if self._pointer is None:
            return None
        self._rx.size = FRAME_BYTES
        self._get(self._pointer, self._rx_ref)
        return self._rx_view if self._rx.type == AUDIO and self._rx.size == FRAME_BYTES else None

    def write(self, frame: bytes | memoryview) -> None:
        self._tx_view[:] = frame
        if self._pointer is not None:
            self._tx.type, self._tx.size = AUDIO, FRAME_BYTES
            self._tx.timestamp += FRAME_SAMPLES
            self._put(self._pointer, self._tx_ref)

    def close(self) -> None:
        self.stream_gone()
