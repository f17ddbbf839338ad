"""Finds where the caller's speech begins and ends, by its level over an adaptive noise floor. Pure.

It costs two to three microseconds a frame and decides nothing: latencies are told by it, no more. Whatever is
as loud as speech counts as speech: an echo of the agent, a tone. What never pauses becomes the floor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.g711 import alaw_to_pcm16, ulaw_to_pcm16
from telbridge.audio.level import peak_of, rms_of

FRAME_MS: Final = 20
"""Longer stretches are looked at in steps of this length."""
STEPS: Final = 4
"""Of a frame: the end of speech is looked for in steps of 5 ms."""
ONSET_FRAMES: Final = 3
"""So many loud frames, hardly interrupted, are speech; fewer are a click."""
GAP_FRAMES: Final = 2
"""So many quiet ones in a row interrupt them."""
HANG_NS: Final = 200_000_000
"""Quiet for so long, speech has ended. Inside a word there are pauses of up to 150 ms."""
LOUD, SOFT = 2.5, 1.6
"""Over the noise floor, to begin and to go on: 9.5 and 6 dB."""
LEAST_LOUD, LEAST_SOFT = 80.0, 50.0
"""Of 32767, -52 and -56 dBFS: below, nobody speaks, however quiet the line."""
RANGE: Final = 63.0
"""Below the loudest speech of the last seconds, 36 dB: what is softer is breath, or somebody else."""
FADES: Final = 0.97
"""The loudest speech is forgotten by so much each block: half of it in five seconds."""
BLOCK_FRAMES: Final = 12
BLOCKS: Final = 8
"""The floor is the quietest frame of the last BLOCKS * BLOCK_FRAMES, two seconds: people pause more often."""
HIGHEST_FLOOR: Final = 200
"""-44 dBFS: no line is taken for noisier at first, so that a caller who speaks at once is heard."""
DIGITAL_SILENCE: Final = 8
"""What a-law has in place of 0."""
CLIP_AT: Final = 31_000
"""Of 32767: G.711 has few steps above."""
_CLIP_WORTH_A_LOOK: Final = 6_000

_TO_PCM: Final[dict[Encoding, Callable[[bytes | memoryview], bytes]]] = {
    Encoding.PCMU: ulaw_to_pcm16,
    Encoding.PCMA: alaw_to_pcm16,
}


class SpeechMeter:
    """One a caller. Times are those at which audio arrived: speech begins with the arrival of its first
    voiced frame and ends with that of its last, less what is quiet at that frame's end."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._to_pcm = _TO_PCM.get(audio_format.encoding)
        self._frame = audio_format.rate_hz * FRAME_MS // 1000 * 2
        self._frame_ns = FRAME_MS * 1_000_000
        self.speaking = False
        self.voiced = False
        """Whether there was voice in what was heard last."""
        self.onset_ns: int | None = None
        """When the present or the latest speech began."""
        self.last_voiced_ns: int | None = None
        """When its last voiced frame arrived, as far as it has come."""
        self.frames = self.voiced_frames = self.silent_frames = self.clipped_frames = 0
        """`silent_frames`: without the least noise, as a muted line sends; `clipped_frames`: with samples at
        full scale."""
        self._loud, self._soft = LOUD * HIGHEST_FLOOR, SOFT * HIGHEST_FLOOR
        self._lows: deque[int] = deque([HIGHEST_FLOOR], maxlen=BLOCKS)
        self._low = 32_768
        self._in_block = 0
        self._speech = 0.0
        self._strong = self._gap = 0
        self._last: bytes | None = None
        """The last voiced piece, until it is known how much of it was voice."""
        self._run_ns = 0
        self._running = False

    def hear(self, audio: bytes | memoryview, now_ns: int) -> bool:
        """Some of the caller's audio, which arrived now; True where speech began or ended (see `speaking`).
        One change at the most is told for each stretch: the last one."""
        if self._to_pcm is not None:
            audio = self._to_pcm(audio)
        size, frame = len(audio), self._frame
        if size <= frame and not size & 1:
            return self._step(audio, now_ns) if size else False
        size, before = size & ~1, self.speaking  # Half a sample is none.
        for start in range(0, size, frame):
            piece = audio[start : min(start + frame, size)]
            behind_ns = (size - start - len(piece)) * self._frame_ns // frame
            self._step(piece, now_ns - behind_ns)
        return self.speaking != before

    # ------------------------------------------------------------ inside

    def _step(self, pcm: bytes | memoryview, now_ns: int) -> bool:
        level = rms_of(pcm)
        self.frames += 1
        self._in_block += 1
        if level < self._low:
            self._low = level
            self._set_floor()
        if self._in_block >= BLOCK_FRAMES:
            self._end_block()
        if level < self._soft:
            self.voiced = False
            if level <= DIGITAL_SILENCE:
                self.silent_frames += 1
            return self._quiet(now_ns) if self._running or self.speaking else False
        self.voiced = True
        self.voiced_frames += 1
        if level > _CLIP_WORTH_A_LOOK and peak_of(pcm) >= CLIP_AT:
            self.clipped_frames += 1
        return self._sound(pcm, level, now_ns)

    def _sound(self, pcm: bytes | memoryview, level: int, now_ns: int) -> bool:
        if self.speaking:
            if level > self._speech:
                self._speech = float(level)
            if self._gap == 0:
                self.last_voiced_ns, self._last = now_ns, bytes(pcm)
            self._gap = 0  # A lone sound after a pause is a click, unless another one follows.
            return False
        if not self._running:
            self._running, self._run_ns, self._strong = True, now_ns, 0
        self._gap = 0
        if level >= self._loud:
            self._strong += 1
            if self._strong >= ONSET_FRAMES:
                self.speaking, self._running = True, False
                self.onset_ns, self.last_voiced_ns = self._run_ns, now_ns
                self._last = bytes(pcm)
                return True
        elif self._strong == 0:
            self._run_ns = now_ns  # A line that hums below the threshold is no speech yet.
        return False

    def _quiet(self, now_ns: int) -> bool:
        self._gap += 1
        if self.speaking:
            assert self.last_voiced_ns is not None
            if self._last is not None:
                self.last_voiced_ns -= self._quiet_end_ns(self._last)
                self._last = None
            if now_ns - self.last_voiced_ns < HANG_NS:
                return False
            self.speaking = False
            return True
        if self._gap >= GAP_FRAMES:
            self._running = False
        return False

    def _quiet_end_ns(self, pcm: bytes) -> int:
        """How much at the end of a voiced piece is none: up to its last step of 5 ms that is voiced."""
        step = self._frame // STEPS & ~1  # Whole samples: at 44.1 kHz 5 ms are none.
        quiet, end = 0, len(pcm)
        while end > step and rms_of(pcm[end - step : end]) < self._soft:
            quiet, end = quiet + 1, end - step
        return quiet * self._frame_ns // STEPS

    def _end_block(self) -> None:
        self._lows.append(self._low)
        self._low, self._in_block = 32_768, 0
        self._speech *= FADES
        self._set_floor()

    def _set_floor(self) -> None:
        floor = min(self._low, *self._lows)
        breath = self._speech / RANGE
        self._loud = max(LEAST_LOUD, LOUD * floor, 1.5 * breath)
        self._soft = max(LEAST_SOFT, SOFT * floor, breath)
