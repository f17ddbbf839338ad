"""Speech made shorter by a frame: two frames become one that begins as they begin and ends as they end."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from telbridge.audio.fade import FROM_LINEAR, TO_LINEAR
from telbridge.audio.formats import AudioFormat

TURN_MS: Final = 5
"""So long the one takes to turn into the other."""


def joined(audio: bytes, audio_format: AudioFormat) -> bytes:
    """Of these two frames (5 ms at least, each) one: the first up to some point, the second from there on.

    The point is where the two differ least: in the pause between two words, in the same place of a vowel.
    """
    both = np.frombuffer(TO_LINEAR[audio_format.encoding](audio), "<i2").astype(np.float64)
    size = len(both) // 2
    first, second = both[:size], both[size:]
    ramp = _ramp(audio_format.rate_hz * TURN_MS // 1000)
    turn = len(ramp)
    unlike = np.concatenate(([0.0], np.cumsum((first - second) ** 2)))
    at = int(np.argmin(unlike[turn:] - unlike[:-turn]))
    one = np.concatenate((first[:at], second[at:]))
    one[at : at + turn] += (first[at : at + turn] - second[at : at + turn]) * ramp
    return FROM_LINEAR[audio_format.encoding](np.rint(one).astype("<i2").tobytes())


@cache
def _ramp(samples: int) -> npt.NDArray[np.float64]:
    """From 1 to 0."""
    return 0.5 + 0.5 * np.cos(np.pi * (np.arange(samples) + 0.5) / samples)
