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
from telbridge.legs.sip.pjmedia import AUDIO, FRAME_BYTES, FRAME_MS, stream_fault
from telbridge.legs.sip.stream_port import StreamPort

QUEUED_FRAMES: Final = 3
"""From our clock to pjmedia's; when full the oldest goes, so that the delay cannot grow."""
HEARD_FRAMES: Final = MAX_OWED
"""The other way there may be as many as are read at once after a stall of ours; a backlog gives them back."""

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
            if frame.type == AUDIO and (octets := _octets(frame.buf)):
                if self._begins:
                    self._begins = False
                else:
                    self.heard.append(octets)

        def onFrameRequested(self, frame: Any) -> None:
            if self.to_say:
                start, _ = _span(self._out)
                ctypes.memmove(start, self.to_say.popleft(), FRAME_BYTES)
                frame.type, frame.size, frame.buf = AUDIO, FRAME_BYTES, self._out

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
    fault = stream_fault(library.native)
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
