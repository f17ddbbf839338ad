"""From one audio format to another: a chain of steps, chosen once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.audio.resampler import Resampler

Step = Callable[[bytes | memoryview], bytes | memoryview]

_DECODERS: Final[dict[Encoding, Step]] = {Encoding.PCMU: ulaw_to_pcm16, Encoding.PCMA: alaw_to_pcm16}
_ENCODERS: Final[dict[Encoding, Step]] = {Encoding.PCMU: pcm16_to_ulaw, Encoding.PCMA: pcm16_to_alaw}


def _steps(codec: dict[Encoding, Step], format: AudioFormat) -> tuple[Step, ...]:
    """The codec's step for this format, none for linear."""
    return (codec[format.encoding],) if format.encoding in codec else ()


class _WholeSamples:
    """Hands on whole 16-bit samples; half a sample waits for its rest."""

    def __init__(self) -> None:
        self._half = b""

    def take(self, pcm: bytes | memoryview) -> bytes | memoryview:
        if not self._half and not len(pcm) & 1:
            return pcm
        joined = self._half + pcm
        whole = len(joined) & ~1
        self._half = joined[whole:]
        return joined[:whole]

    def reset(self) -> None:
        self._half = b""


class Transcoder:
    """One stream of audio from `source` to `target`.

    Where the two agree, bytes go through untouched. Otherwise pieces of any length are taken, and the whole
    output does not depend on how the input was cut.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        """ValueError where there is no way between the two rates (see `Resampler`)."""
        self._resampler: Resampler | None = None
        self._whole_samples = _WholeSamples()
        self._steps: tuple[Step, ...] = ()
        self._encode: tuple[Step, ...] = ()
        self.convert: Final[Callable[[bytes | memoryview], bytes]] = (
            bytes if source == target else self._convert
        )
        """The output that this piece of the stream completes. Where there is nothing to do, `bytes` come back
        as the very same object; a memoryview is copied, since what it looks at is lent for the call only."""
        if source == target:
            return
        decode = _steps(_DECODERS, source)
        resample: tuple[Step, ...] = ()
        if source.rate_hz != target.rate_hz:
            self._resampler = Resampler(source.rate_hz, target.rate_hz)
            resample = (self._resampler.convert,)
        elif not decode:
            # Linear to G.711: only here does nobody else look after half a sample.
            decode = (self._whole_samples.take,)
        self._encode = _steps(_ENCODERS, target)
        self._steps = (*decode, *resample, *self._encode)

    @property
    def latency_ms(self) -> float:
        """By how much the sound is delayed: the resampler's group delay, else 0."""
        return self._resampler.latency_ms if self._resampler else 0.0

    def _convert(self, audio: bytes | memoryview) -> bytes:
        for step in self._steps:
            audio = step(audio)
        return bytes(audio)  # no copy of what is bytes already

    def finish(self) -> bytes:
        """The end of the stream: what the resampler still holds (b"" without one). Then starts afresh."""
        self._whole_samples.reset()
        if not self._resampler:
            return b""
        tail: bytes | memoryview = self._resampler.finish()
        for step in self._encode:
            tail = step(tail)
        return bytes(tail)

    def reset(self) -> None:
        """Forget the stream, drop what is inside: the next input is the first of a new one."""
        self._whole_samples.reset()
        if self._resampler:
            self._resampler.reset()
