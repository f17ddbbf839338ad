"""Our own music on hold: chords that come and go, made here, so that nobody's rights are touched.

Every tone is laid around the end of the piece into its beginning, so that the loop has no seam.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from telbridge.audio.formats import PCM_8K

CHORD_S: Final = 6.0
LEVEL_DBFS: Final = -26.0
"""RMS against full scale: well below speech."""
_CHORDS: Final = (
    (130.81, 196.00, 246.94, 329.63),  # C major 7
    (110.00, 164.81, 261.63, 392.00),  # A minor 7
    (87.31, 174.61, 220.00, 329.63),  # F major 7
    (98.00, 146.83, 246.94, 329.63),  # G major 6
)
_BELLS: Final = (2, 3, 1, 3)
"""Which tones of a chord ring, an octave up, one after the other."""
_PARTIALS: Final = ((1, 1.0), (2, 0.32), (3, 0.10))
_Wave = npt.NDArray[np.float64]


@cache
def hold_music() -> bytes:
    """The piece in PCM_8K, 24 s, to be played in a loop; the same octets each time."""
    rate = PCM_8K.rate_hz
    piece = np.zeros(round(CHORD_S * len(_CHORDS) * rate))
    for number, chord in enumerate(_CHORDS):
        begin = number * CHORD_S
        for index, pitch in enumerate(chord):
            _lay(piece, begin + 0.05 * index, _pad(pitch, rate))
        for index, tone in enumerate(_BELLS):
            _lay(piece, begin + 0.75 + 1.5 * index, 0.35 * _bell(2 * chord[tone], rate))
    piece -= piece.mean()
    piece *= 32768 * 10 ** (LEVEL_DBFS / 20) / np.sqrt(np.mean(piece**2))
    octets: bytes = np.clip(np.rint(piece), -32768, 32767).astype("<i2").tobytes()
    return octets


def _pad(pitch: float, rate: int) -> _Wave:
    """Swells for 2 s, fades into the next chord."""
    time = np.arange(round(1.5 * CHORD_S * rate)) / rate
    wave: _Wave = _partials(pitch, time) * np.sin(np.pi * time / (1.5 * CHORD_S)) ** 2
    return wave


def _bell(pitch: float, rate: int) -> _Wave:
    """Struck softly, in 20 ms, and ringing down to nothing."""
    length_s = 3.0
    time = np.arange(round(length_s * rate)) / rate
    rise = np.sin(np.pi / 2 * np.minimum(1, time / 0.02)) ** 2
    fall = np.exp(-2.2 * time) * np.cos(np.pi / 2 * time / length_s) ** 2
    wave: _Wave = _partials(pitch, time) * rise * fall
    return wave


def _partials(pitch: float, time: _Wave) -> _Wave:
    wave = np.zeros_like(time)
    for times, strength in _PARTIALS:
        wave += strength * np.sin(2 * np.pi * pitch * times * time)
    return wave


def _lay(piece: _Wave, begin_s: float, tone: _Wave) -> None:
    places = (round(begin_s * PCM_8K.rate_hz) + np.arange(tone.size)) % piece.size
    np.add.at(piece, places, tone)
