"""Music on hold: a loop of linear samples, given frame by frame."""

from __future__ import annotations

from telbridge.audio.fade import fade_in, fade_out, mixed
from telbridge.audio.formats import AudioFormat


class Music:
    """Begins where it was left, fades in and out, never clicks."""

    def __init__(self, audio_format: AudioFormat, frame_bytes: int) -> None:
        self._format, self._frame_bytes = audio_format, frame_bytes
        self._loop = b""
        self._offset = 0
        self._last = b""
        self.on = False
        """It is to be heard, or to fade. Read for every frame."""

    def start(self, loop: bytes) -> None:
        """`loop`: whole samples in the format, at least a frame; shorter ones are not played."""
        self._loop = loop if len(loop) >= self._frame_bytes else b""
        self._offset = 0
        self.on = bool(self._loop or self._last)

    def stop(self) -> None:
        """The next frame is the fade."""
        self._loop = b""
        self.on = bool(self._last)

    def frame(self) -> bytes | None:
        """The next one; None when there is no music."""
        if not self._loop:
            return self._fade() if self._last else None
        piece = self._loop[self._offset : self._offset + self._frame_bytes]
        if len(piece) < self._frame_bytes:
            piece += self._loop[: self._frame_bytes - len(piece)]
        self._offset = (self._offset + self._frame_bytes) % len(self._loop)
        begun = bool(self._last)
        self._last = piece[-self._format.sample_bytes :]
        return piece if begun else fade_in(piece, self._format)

    def under(self, speech: bytes | memoryview) -> bytes | memoryview:
        """Somebody speaks: the music fades below the first frame, and comes back with a fade."""
        if not self._last:
            return speech
        tail = fade_out(b"", self._last, self._format)
        self._last, self.on = b"", bool(self._loop)
        return mixed(bytes(speech), tail, self._format)

    def _fade(self) -> bytes:
        faded = fade_out(b"", self._last, self._format)
        self._last, self.on = b"", False
        return (faded + self._format.silence(self._format.samples_in(self._frame_bytes)))[: self._frame_bytes]
