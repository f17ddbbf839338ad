"""In-band DTMF: which keys are heard in linear 8 kHz audio (ITU-T Q.23, received as Q.24 asks).

Windows of 20 ms, one each 5 ms, are held against the eight frequencies and their neighbourhood in one matrix
product. A window speaks for a key when the two strongest frequencies hold nearly all of its energy, which
speech does for an instant at most; a key is so many windows in a row. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 8_000
LOW_HZ: Final = (697, 770, 852, 941)
HIGH_HZ: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")

WINDOW: Final = 160
HOP: Final = 40
HOP_MS: Final = HOP * 1000 // RATE_HZ
_WINDOWS: Final = WINDOW // HOP
_DETUNED: Final = (0.988, 1.0, 1.012)
"""Senders may be off by 1.5 % (Q.24): three frequencies stand for one, as a window of 20 ms is that sharp."""
_SHAPES: Final = len(_DETUNED)
_TONES: Final = len(LOW_HZ) + len(HIGH_HZ)
_ROWS: Final = _TONES * _SHAPES

PURITY: Final = 0.78
"""Share of a window's energy that the two tones must hold."""
MAX_TWIST: Final = 10**0.9
"""9 dB between the two tones: Q.24 has administrations asking for 4 to 8 dB."""
NEIGHBOUR: Final = 10**-0.8
"""Another tone of the same group must lie 8 dB lower: what leaks from a pure one lies 13 dB lower."""
MIN_TONE: Final = 2 * (10 ** (-42 / 20) * 32_768) ** 2 / 4 * WINDOW
"""Energy in a window of a tone at -42 dBFS (peak of full scale): 0 to -25 dBm is what Q.24 asks for."""
TO_BEGIN: Final = 4
"""Windows in a row: 40 ms of tone always hold so many, 24 ms never do."""
TO_END: Final = 6
"""Windows without the key: a gap of 10 ms is bridged, one of 40 ms is seen."""
_LOST_MS: Final = WINDOW * 1000 // RATE_HZ - HOP_MS


@dataclass(frozen=True, slots=True)
class Tone:
    """A key that was pressed and let go. `duration_ms` is true to some 10 ms."""

    digit: str
    duration_ms: int


class DtmfDetector:
    """One a stream. Feed it each frame of 20 ms, in order."""

    def __init__(self) -> None:
        self._samples = np.zeros(WINDOW - HOP + WINDOW, np.float32)
        step = self._samples.strides[0]
        self._windows = np.lib.stride_tricks.as_strided(
            self._samples, (_WINDOWS, WINDOW), (HOP * step, step), writeable=False
        )
        self._new = self._samples[WINDOW - HOP :]
        self._was_pure = False
        self._digit = ""
        self._candidate = ""
        self._hits = self._misses = self._windows_down = 0

    def feed(self, frame: bytes | memoryview) -> list[Tone]:
        """20 ms, linear 16 bit. The keys that ended in it: nearly always none."""
        samples = self._samples
        samples[: WINDOW - HOP] = samples[WINDOW:]
        self._new[:] = np.frombuffer(frame, "<i2")
        # 40 ms of tone fill a frame, wherever they begin: the finer look is for that one and the next.
        is_pure, self._was_pure = self._was_pure, self._frame_is_pure()
        if is_pure or self._was_pure:
            return self._judge()
        return self._nothing()

    def _frame_is_pure(self) -> bool:
        energy = float(self._new @ self._new)
        if energy < 2 * MIN_TONE:
            return False
        parts = self._new @ _BANK
        parts *= parts
        powers = (parts[:_ROWS] + parts[_ROWS:]).tolist()
        return bool(max(powers[: _ROWS // 2]) + max(powers[_ROWS // 2 :]) >= PURITY * energy)

    def _judge(self) -> list[Tone]:
        parts = self._windows @ _BANK
        parts *= parts
        powers = (parts[:, :_ROWS] + parts[:, _ROWS:]).reshape(_WINDOWS, _TONES, _SHAPES).max(2)
        strongest = powers.reshape(_WINDOWS, 2, -1).max(2).sum(1)
        energies = np.einsum("ij,ij->i", self._windows, self._windows)
        pure = (strongest >= PURITY * energies).tolist()
        done: list[Tone] = []
        for at, tones in enumerate(powers.tolist()):
            done += self._window(_key(tones) if pure[at] else "")
        return done

    def _nothing(self) -> list[Tone]:
        done: list[Tone] = []
        if self._digit or self._candidate:
            for _ in range(_WINDOWS):
                done += self._window("")
        return done

    def _window(self, digit: str) -> list[Tone]:
        if digit and digit == self._candidate:
            self._hits += 1
        else:
            self._candidate, self._hits = digit, 1
        if not self._digit:
            self._begin()
            return []
        self._windows_down += 1
        if digit == self._digit:
            self._misses = 0
            return []
        self._misses += 1
        other = bool(self._candidate) and self._hits >= TO_BEGIN
        if self._misses < TO_END and not other:
            return []
        ended = Tone(self._digit, (self._windows_down - self._misses) * HOP_MS + _LOST_MS)
        self._digit = ""
        self._begin()
        return [ended]

    def _begin(self) -> None:
        if self._candidate and self._hits >= TO_BEGIN:
            self._digit, self._windows_down, self._misses = self._candidate, self._hits, 0


def _key(tones: list[float]) -> str:
    """The key of one window whose energy is pure enough; "" if the two tones do not fit together."""
    low, high = tones[: len(LOW_HZ)], tones[len(LOW_HZ) :]
    low_best, low_next = sorted(low)[:-3:-1]
    high_best, high_next = sorted(high)[:-3:-1]
    if min(low_best, high_best) < MIN_TONE or not 1 / MAX_TWIST <= low_best / high_best <= MAX_TWIST:
        return ""
    if low_next > low_best * NEIGHBOUR or high_next > high_best * NEIGHBOUR:
        return ""
    return KEYS[low.index(low_best)][high.index(high_best)]


def _bank() -> NDArray[np.float32]:
    """Cosines, then sines, of each frequency, scaled so that the square of what a pure tone gives is its
    energy in the window."""
    frequencies = np.array([hz * shape for hz in (*LOW_HZ, *HIGH_HZ) for shape in _DETUNED])
    phases = 2 * np.pi * np.outer(np.arange(WINDOW) / RATE_HZ, frequencies)
    scaled = np.hstack([np.cos(phases), np.sin(phases)]) * np.sqrt(2 / WINDOW)
    bank: NDArray[np.float32] = scaled.astype(np.float32, order="C")
    return bank


_BANK: Final = _bank()
