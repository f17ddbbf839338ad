"""Short fades at the places where speech starts or stops in the middle of a wave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from telbridge.audio import g711
from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.level import peak_of

FADE_MS: Final = 5
"""Long enough that the step is below the speech around it, short enough that no word is touched."""

_Decode = Callable[[bytes], bytes]
TO_LINEAR: Final[dict[Encoding, _Decode]] = {
    Encoding.PCMU: g711.ulaw_to_pcm16,
    Encoding.PCMA: g711.alaw_to_pcm16,
    Encoding.PCM16: bytes,
}
FROM_LINEAR: Final[dict[Encoding, _Decode]] = {
    Encoding.PCMU: g711.pcm16_to_ulaw,
    Encoding.PCMA: g711.pcm16_to_alaw,
    Encoding.PCM16: bytes,
}


def fade_samples(audio_format: AudioFormat) -> int:
    """Length of a fade in samples of that format."""
    return audio_format.rate_hz * FADE_MS // 1000


def _ramp(samples: int) -> npt.NDArray[np.float64]:
    """Raised cosine from just below 1 down to 0, without its two end points' corners."""
    return 0.5 + 0.5 * np.cos(np.pi * (np.arange(samples) + 1) / samples)


def fade_out(upcoming: bytes, last: bytes, audio_format: AudioFormat) -> bytes:
    """`FADE_MS` of audio that ends in silence.

    `upcoming` is what would have been played next; where it is too short, its last sample (or `last`,
    the last sample that was played) is held while it fades.
    """
    count = fade_samples(audio_format)
    head = upcoming[: count * audio_format.sample_bytes]
    held = head[-audio_format.sample_bytes :] if head else last
    head += held * (count - audio_format.samples_in(len(head)))
    return _scale(head, _ramp(count), audio_format)


def fade_in(audio: bytes, audio_format: AudioFormat) -> bytes:
    """The same audio rising from silence during `FADE_MS`; shorter audio does not get to full level."""
    rise = _ramp(fade_samples(audio_format))[::-1]
    count = min(len(rise), audio_format.samples_in(len(audio)))
    cut = count * audio_format.sample_bytes
    return _scale(audio[:cut], rise[:count], audio_format) + audio[cut:]


def peak(audio: bytes, audio_format: AudioFormat) -> int:
    """Largest magnitude of a sample, 0 to 32768; 0 for no audio."""
    return peak_of(TO_LINEAR[audio_format.encoding](audio))


def _scale(audio: bytes, gains: npt.NDArray[np.float64], audio_format: AudioFormat) -> bytes:
    linear = np.frombuffer(TO_LINEAR[audio_format.encoding](audio), "<i2")
    scaled = np.rint(linear * gains).astype("<i2").tobytes()
    return FROM_LINEAR[audio_format.encoding](scaled)


def mixed(audio: bytes, tail: bytes, audio_format: AudioFormat) -> bytes:
    """`audio` with `tail`, which is no longer, laid over its beginning."""
    under = np.frombuffer(TO_LINEAR[audio_format.encoding](audio[: len(tail)]), "<i2").astype(np.int32)
    over = np.frombuffer(TO_LINEAR[audio_format.encoding](tail), "<i2")
    both = np.clip(under + over, -32768, 32767).astype("<i2").tobytes()
    return FROM_LINEAR[audio_format.encoding](both) + audio[len(tail) :]
