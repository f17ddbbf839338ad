"""A leg's audio in frames of 20 ms, linear 8 kHz: two ways behind one interface.

`StreamPort` drives the stream's own pjmedia_port from the loop's tick. `CallbackPort` is the fallback:
pjmedia's clock thread calls it, a short queue stands between. One port a leg, for all its streams.
"""

from __future__ import annotations

import ctypes
from collections import deque
from functools import cache
from typing import Any, Final, Literal, Protocol

from telbridge.audio.formats import PCM_8K
from telbridge.legs.sip.backlog import MAX_OWED
from telbridge.legs.sip.library import Library

FRAME_MS: Final = 20
FRAME_SAMPLES: Final = PCM_8K.rate_hz * FRAME_MS // 1000
FRAME_BYTES: Final = PCM_8K.bytes_for_ms(FRAME_MS)
QUEUED_FRAMES: Final = 3
"""From our clock to pjmedia's; when full the oldest goes, so that the delay cannot grow."""
HEARD_FRAMES: Final = MAX_OWED
"""The other way there may be as many as are read at once after a stall of ours; a backlog gives them back."""

_NONE: Final = 0
_AUDIO: Final = 1
_JB_STATE_WORDS: Final = 32
"""struct pjmedia_jb_state has 15 or 16 of them, by version."""

Way = Literal["stream", "callback"]


class AudioPort(Protocol):
    """What a leg needs of its audio. All of it is called on the loop's thread."""

    @property
    def live(self) -> bool:
        """There is a stream to read from and write to."""

    pieces: int
    """Of what `waiting` counts, so many are a frame."""

    @property
    def waiting(self) -> int:
        """Of the caller's audio, what has come and was not read."""

    def stream_created(self, parameters: Any) -> None: ...

    def stream_active(self, call: Any) -> None:
        """The negotiated stream runs; from `onCallMediaState`."""

    def stream_gone(self) -> None:
        """The stream dies with the running callback: nothing of it may be touched again."""

    def read(self) -> memoryview | None:
        """The caller's next 20 ms, valid until the next `read`; None while there is nothing."""

    def write(self, frame: bytes | memoryview) -> None:
        """20 ms for the caller. ValueError if it is not FRAME_BYTES long."""

    def close(self) -> None:
        """Let go of everything of the library's; only `live` may be asked after that."""


class _Frame(ctypes.Structure):
    """struct pjmedia_frame (pjmedia/frame.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buf", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("timestamp", ctypes.c_uint64),
        ("bit_info", ctypes.c_uint32),
    )


class StillFrame:
    """A frame to be filled and thrown away."""

    def __init__(self) -> None:
        self._audio = (ctypes.c_ubyte * FRAME_BYTES)()
        self._frame = _Frame(_NONE, ctypes.addressof(self._audio), FRAME_BYTES, 0, 0)

    def reference(self) -> Any:
        self._frame.type, self._frame.size = _NONE, FRAME_BYTES
        return ctypes.byref(self._frame)


class StreamPort:
    """The two ends of a stream, through its C pointer."""

    pieces = 2
    """pjmedia cuts G.711 into 10 ms before it goes into the jitter buffer, whatever the packets' length."""

    def __init__(self, native: ctypes.CDLL) -> None:
        self._get, self._put = _frame_functions(native)
        self._look = native.pjmedia_stream_get_stat_jbuf
        self._look.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._pointer: int | None = None
        self._stream: int | None = None
        self._buffer = (ctypes.c_uint * _JB_STATE_WORDS)()
        self._buffer_ref = ctypes.byref(self._buffer)
        self._size_at = jitter_buffer_size_at(native)
        rx, tx = (ctypes.c_ubyte * FRAME_BYTES)(), (ctypes.c_ubyte * FRAME_BYTES)()
        self._rx_view, self._tx_view = memoryview(rx).cast("B"), memoryview(tx).cast("B")
        self._rx = _Frame(_NONE, ctypes.addressof(rx), FRAME_BYTES, 0, 0)
        self._tx = _Frame(_AUDIO, ctypes.addressof(tx), FRAME_BYTES, 0, 0)
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
        return self._rx_view if self._rx.type == _AUDIO and self._rx.size == FRAME_BYTES else None

    def write(self, frame: bytes | memoryview) -> None:
        self._tx_view[:] = frame
        if self._pointer is not None:
            self._tx.type, self._tx.size = _AUDIO, FRAME_BYTES
            self._tx.timestamp += FRAME_SAMPLES
            self._put(self._pointer, self._tx_ref)

    def close(self) -> None:
        self.stream_gone()


class CallbackPort:
    """The same through pjmedia's conference bridge and an AudioMediaPort, borrowed from `idle`."""

    pieces = 1

    def __init__(self, pj: Any, idle: deque[Any]) -> None:
        self._idle = idle
        self._media = idle.popleft() if idle else _media_port_class(pj)()
        self._stream: Any = None

    @property
    def live(self) -> bool:
        return self._stream is not None

    def stream_created(self, parameters: Any) -> None:
        parameters.destroyPort = False
        self._media.begin()

    def stream_active(self, call: Any) -> None:
        self._stream = call.getAudioMedia(-1)
        self._stream.startTransmit(self._media)
        self._media.startTransmit(self._stream)

    def stream_gone(self) -> None:
        self._stream = None
        self._media.heard.clear()
        self._media.to_say.clear()

    @property
    def waiting(self) -> int:
        return len(self._media.heard)

    def read(self) -> memoryview | None:
        try:
            return memoryview(self._media.heard.popleft())
        except IndexError:
            return None

    def write(self, frame: bytes | memoryview) -> None:
        if len(frame) != FRAME_BYTES:
            raise ValueError(f"{len(frame)} octets are no frame of {FRAME_BYTES}")
        self._media.to_say.append(bytes(frame))

    def close(self) -> None:
        media, self._stream, self._media = self._media, None, None
        if media is not None:
            self._idle.append(media)


@cache
def _media_port_class(pj: Any) -> Any:
    """The class that pjmedia's clock thread calls; its base exists only once pjsua2 is loaded."""

    class MediaPort(pj.AudioMediaPort):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.heard: deque[bytes] = deque(maxlen=HEARD_FRAMES)
            self.to_say: deque[bytes] = deque(maxlen=QUEUED_FRAMES)
            self._begins = True
            self._out = pj.ByteVector(bytes(FRAME_BYTES))
            layout = pj.MediaFormatAudio()
            layout.init(pj.PJMEDIA_FORMAT_PCM, PCM_8K.rate_hz, 1, FRAME_MS * 1000, 16)
            self.createPort("telbridge", layout)

        def begin(self) -> None:
            """Another stream, of another call perhaps: a tick that runs may still bring the last one's."""
            self._begins = True
            self.heard.clear()
            self.to_say.clear()

        # Both bodies do nothing that can raise but run out of memory: there is no way to report from here.
        def onFrameReceived(self, frame: Any) -> None:
            if frame.type == _AUDIO and (octets := _octets(frame.buf)):
                if self._begins:
                    self._begins = False
                else:
                    self.heard.append(octets)

        def onFrameRequested(self, frame: Any) -> None:
            if self.to_say:
                start, _ = _span(self._out)
                ctypes.memmove(start, self.to_say.popleft(), FRAME_BYTES)
                frame.type, frame.size, frame.buf = _AUDIO, FRAME_BYTES, self._out

    return MediaPort


def _span(vector: Any) -> tuple[int, int]:
    """Begin and end of a std::vector<unsigned char>: its first two pointers (libstdc++ and libc++ alike)."""
    begin, end = (ctypes.c_void_p * 2).from_address(int(vector.this))
    return begin or 0, end or 0


def _octets(vector: Any) -> bytes | None:
    start, end = _span(vector)
    return ctypes.string_at(start, FRAME_BYTES) if end - start == FRAME_BYTES else None


def choose_way(library: Library, wanted: Literal["auto", "stream", "callback"]) -> Way:
    """ "stream" where the C functions are there and do what they should, else "callback"; after libInit.

    RuntimeError if `wanted` is "stream" and it does not work.
    """
    if wanted == "callback":
        return "callback"
    fault = _stream_fault(library.native)
    if fault is None:
        return "stream"
    if wanted == "stream":
        raise RuntimeError(f"the stream port does not work with {library.build}: {fault}")
    return "callback"


class Ports:
    """Those of an endpoint.

    On the callback way one that a leg has done with serves the next: were it destroyed, pjmedia's clock might
    just be calling it, and that call would bring a Python object back to life that is half taken apart.
    """

    def __init__(self, library: Library, way: Way) -> None:
        self._library, self._way = library, way
        self._idle: deque[Any] = deque()

    def new(self) -> AudioPort:
        if self._way == "stream":
            return StreamPort(self._library.native)
        return CallbackPort(self._library.pj, self._idle)

    def close(self, endpoint: Any) -> None:
        """After the legs are released, before libDestroy: a media port that outlives that aborts us."""
        if self._idle:
            endpoint.audDevManager().setNoDev()  # Stops the clock.
            self._idle.clear()


@cache
def _frame_functions(native: ctypes.CDLL) -> tuple[Any, Any]:
    functions = native.pjmedia_port_get_frame, native.pjmedia_port_put_frame
    for function in functions:
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        function.restype = ctypes.c_int
    return functions


class _Text(ctypes.Structure):
    """pj_str_t."""

    _fields_ = (("text", ctypes.c_char_p), ("length", ctypes.c_ssize_t))


@cache
def jitter_buffer_size_at(native: ctypes.CDLL) -> int:
    """Which word of struct pjmedia_jb_state counts the frames in the buffer: versions put different things
    before it. Found with a jitter buffer of our own. RuntimeError or AttributeError if it can't be."""
    pool = _new_pool(native)
    try:
        native.pjmedia_jbuf_create.argtypes = (
            *(ctypes.c_void_p,) * 2,
            *(ctypes.c_uint,) * 3,
            ctypes.c_void_p,
        )
        native.pjmedia_jbuf_put_frame.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int,
        )
        native.pjmedia_jbuf_get_state.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        native.pjmedia_jbuf_destroy.argtypes = (ctypes.c_void_p,)
        name, buffer = _Text(b"check", 5), ctypes.c_void_p()
        if native.pjmedia_jbuf_create(pool, ctypes.byref(name), 161, FRAME_MS, 77, ctypes.byref(buffer)):
            raise RuntimeError("no jitter buffer to be had")
        candidates = set(range(_JB_STATE_WORDS))
        state = (ctypes.c_uint * _JB_STATE_WORDS)()
        for count in range(1, 12):
            native.pjmedia_jbuf_put_frame(buffer, bytes(161), 161, count)
            native.pjmedia_jbuf_get_state(buffer, ctypes.byref(state))
            candidates = {at for at in candidates if state[at] == count}
        native.pjmedia_jbuf_destroy(buffer)
    finally:
        native.pj_pool_release(pool)
    if len(candidates) != 1:
        raise RuntimeError("struct pjmedia_jb_state is not what this code knows")
    return candidates.pop()


def _new_pool(native: ctypes.CDLL) -> int:
    native.pjsua_pool_create.restype = ctypes.c_void_p
    native.pjsua_pool_create.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t)
    native.pj_pool_release.argtypes = (ctypes.c_void_p,)
    pool: int | None = native.pjsua_pool_create(b"selfcheck", 1000, 1000)
    if not pool:
        raise RuntimeError("no memory pool to be had")
    return pool


def _stream_fault(native: ctypes.CDLL) -> str | None:
    """Reads one frame from a null port of pjmedia's into a guarded frame: does the struct lie as we think?"""
    try:
        get, _ = _frame_functions(native)
        new_null, destroy = native.pjmedia_null_port_create, native.pjmedia_port_destroy
        jitter_buffer_size_at(native)
        pool = _new_pool(native)
    except (AttributeError, RuntimeError) as error:
        return str(error)
    new_null.argtypes = (ctypes.c_void_p, *[ctypes.c_uint] * 4, ctypes.c_void_p)
    destroy.argtypes = (ctypes.c_void_p,)
    port = ctypes.c_void_p()
    if new_null(pool, PCM_8K.rate_hz, 1, FRAME_SAMPLES, 16, ctypes.byref(port)):
        return "no null port to be had"
    guard = 64
    memory = (ctypes.c_ubyte * (ctypes.sizeof(_Frame) + guard)).from_buffer_copy(
        b"\x5a" * (ctypes.sizeof(_Frame) + guard)
    )
    frame = _Frame.from_buffer(memory)
    audio = (ctypes.c_ubyte * (FRAME_BYTES + guard)).from_buffer_copy(b"\x5a" * (FRAME_BYTES + guard))
    frame.type, frame.buf, frame.size, frame.timestamp = _NONE, ctypes.addressof(audio), FRAME_BYTES, 1000
    status = get(port, ctypes.byref(frame))
    destroy(port)
    native.pj_pool_release(pool)
    sane = (
        status == 0
        and (frame.type, frame.size, frame.timestamp) == (_AUDIO, FRAME_BYTES, 1000 + FRAME_SAMPLES)
        and bytes(audio) == bytes(FRAME_BYTES) + b"\x5a" * guard
        and bytes(memory)[ctypes.sizeof(_Frame) :] == b"\x5a" * guard
    )
    return None if sane else "struct pjmedia_frame is not what this code knows"
