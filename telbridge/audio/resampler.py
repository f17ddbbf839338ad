"""Sample-rate conversion of a live stream: a polyphase FIR filter (Kaiser window), rational ratio L/M.

What it does to the sound, `low` being the lower of the two rates:

* 0 … 0.425 · low (3.4 kHz at 8 kHz) passes within 0.35 dB, constant input comes out as the same constant;
* what lies above 0.5 · low, images and aliases alike, is at least 60 dB down;
* linear phase; the delay is 21 samples of the lower rate (2.6 ms at 8 kHz, 1.3 ms at 16 kHz), rounded up
  to a whole output sample. Loud peaks saturate, they never wrap.

How it is computed: every M input samples (a *cycle*) give L output samples. The filter is unrolled into one
matrix that takes a window of input, the filter's history and then some whole cycles (a *block*), to that
block's output. A frame is a few such windows, rows of one matrix product.

The output is bit for bit the same however the input was cut, and with any BLAS: coefficients are whole
multiples of 2^-30 and samples whole numbers below 2^15, so every partial sum is a multiple of 2^-30 below
2^18, which float64 holds exactly in whatever order it is summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

_SAMPLE: Final = np.dtype("<i2")
_SAMPLE_OCTETS: Final = 2
# Limits as arrays, because numpy converts plain numbers anew at each call, which costs as much as clipping.
_LOWEST: Final = np.array(-32768.0)
_HIGHEST: Final = np.array(32767.0)

# The filter, in terms of the lower rate; found by search as the shortest that keeps the promises above.
_HALF_LENGTH: Final = 21
_CUTOFF: Final = 0.456
_KAISER_BETA: Final = 5.77
_COEFFICIENT_BITS: Final = 30

_BLOCKS_PER_SECOND: Final = 500
"""Blocks of 2 ms: large enough to feed the matrix product, small beside the filter's history."""
_MULTIPLICATIONS: Final = 250_000
"""In one product, at most: so small that its operands stay in the cache and OpenBLAS wakes no threads."""
_LARGEST_CYCLE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Filter:
    """The unrolled filter for one pair of rates; read-only, shared by all streams of that pair."""

    cycle_octets: int
    """Input of one cycle: M samples."""
    cycle_output_octets: int
    """Output of one cycle: L samples."""
    delay_octets: int
    """Group delay, in output."""
    history: bytes
    """Silence as long as the input before a block that its output still depends on."""
    padding: bytes
    """Silence as long as a block."""
    matrix: npt.NDArray[np.float64]
    """[samples of history and block, output samples of a block]."""
    rows: int
    """Windows in one product, at most."""


def _prototype(source_hz: int, target_hz: int, up: int, half: int) -> npt.NDArray[np.float64]:
    """Low-pass of 2 · `half` + 1 taps at the rate `up` · `source_hz`, each of its `up` phases of gain 1."""
    cutoff = _CUTOFF * min(source_hz, target_hz) / (source_hz * up)
    taps = np.sinc(2 * cutoff * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, _KAISER_BETA)
    for phase in range(up):
        # Phases of unequal gain would turn a constant into a ripple at the source rate.
        taps[phase::up] /= taps[phase::up].sum()
    scaled: npt.NDArray[np.float64] = np.rint(np.ldexp(taps, _COEFFICIENT_BITS))
    return np.ldexp(scaled, -_COEFFICIENT_BITS)


@lru_cache(maxsize=32)
def _design(source_hz: int, target_hz: int) -> _Filter:
    """ValueError where the rates are not positive, are equal, or have no ratio of small numbers."""
    if source_hz <= 0 or target_hz <= 0 or source_hz == target_hz:
        raise ValueError(f"cannot resample from {source_hz} Hz to {target_hz} Hz: need two different rates")
    divisor = math.gcd(source_hz, target_hz)
    up, down = target_hz // divisor, source_hz // divisor
    if max(up, down) > _LARGEST_CYCLE:
        raise ValueError(f"cannot resample from {source_hz} Hz to {target_hz} Hz: the ratio is {up}/{down}")
    delay = math.ceil(_HALF_LENGTH * target_hz / min(source_hz, target_hz))
    taps = _prototype(source_hz, target_hz, up, half=delay * down)
    history = (len(taps) - 1) // up
    block = down * max(1, source_hz // _BLOCKS_PER_SECOND // down)
    # Output k takes input i (counted from the block's first) through tap k · M - i · L.
    tap = np.arange(block // down * up) * down - np.arange(-history, block)[:, np.newaxis] * up
    matrix = np.where((tap >= 0) & (tap < len(taps)), taps.take(tap, mode="clip"), 0.0)
    return _Filter(
        cycle_octets=_SAMPLE_OCTETS * down,
        cycle_output_octets=_SAMPLE_OCTETS * up,
        delay_octets=_SAMPLE_OCTETS * delay,
        history=bytes(_SAMPLE_OCTETS * history),
        padding=bytes(_SAMPLE_OCTETS * block),
        matrix=matrix,
        rows=max(1, _MULTIPLICATIONS // matrix.size),
    )


class Resampler:
    """One stream from `source_hz` to `target_hz`, mono PCM16 little endian.

    After n input samples and `finish`, ceil(n · L / M) + `latency_ms` worth of samples have come out: first
    the delay's, then one for every moment of the input. Without `finish`, the last M - 1 input samples at
    most (none for frames of whole 10 ms) and the delay are still inside.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        """ValueError where the rates are equal or have no ratio L/M with both up to 1000."""
        self._filter = _design(source_hz, target_hz)
        self._target_hz = target_hz
        self.reset()

    @property
    def latency_ms(self) -> float:
        """Group delay, the same at all frequencies; a whole number of output samples."""
        return self._filter.delay_octets // _SAMPLE_OCTETS * 1000 / self._target_hz

    def reset(self) -> None:
        """Forget the stream: the next input is the first of a new one."""
        self._kept = self._filter.history
        self._begun = False

    def convert(self, pcm: bytes | memoryview) -> bytes:
        """The output that this piece of the stream completes. Any length; half a sample waits for more."""
        design = self._filter
        padded = b"".join((self._kept, pcm, design.padding))
        end = len(padded) - len(design.padding)
        cycles = (end - len(design.history)) // design.cycle_octets
        used = cycles * design.cycle_octets
        self._kept = padded[used:end]
        if not cycles:
            return b""
        self._begun = True
        # The last block may reach into the padding.
        blocks = -(-used // len(design.padding))
        return self._output(padded, blocks)[: cycles * design.cycle_output_octets]

    def finish(self) -> bytes:
        """The rest of the output, as if silence followed; b"" if nothing ever came. Then starts afresh.
        Half a sample that is left over is dropped."""
        design = self._filter
        waiting = (len(self._kept) - len(design.history)) // _SAMPLE_OCTETS * _SAMPLE_OCTETS
        if not (self._begun or waiting):
            self.reset()
            return b""
        samples = -(-waiting * design.cycle_output_octets // design.cycle_octets // _SAMPLE_OCTETS)
        owed = _SAMPLE_OCTETS * samples + design.delay_octets
        silent_cycles = -(-owed // design.cycle_output_octets)
        self._kept = self._kept[: len(design.history) + waiting]
        tail = self.convert(bytes(silent_cycles * design.cycle_octets - waiting))
        self.reset()
        return tail[:owed]

    def _output(self, padded: bytes, blocks: int) -> bytes:
        """The output of so many whole blocks. `padded`: history, their input, then anything."""
        design = self._filter
        windows = np.ndarray(
            (blocks, len(design.matrix)), _SAMPLE, padded, 0, (len(design.padding), _SAMPLE_OCTETS)
        )
        rows = design.rows
        if blocks <= rows:
            return self._product(windows)
        return b"".join([self._product(windows[at : at + rows]) for at in range(0, blocks, rows)])

    def _product(self, windows: npt.NDArray[np.int16]) -> bytes:
        # The copy also lays the rows, which overlap, side by side, as BLAS needs them.
        output: npt.NDArray[np.float64] = windows.astype(np.float64).dot(self._filter.matrix)
        np.rint(output, out=output)
        output.clip(_LOWEST, _HIGHEST, out=output)
        return output.astype(_SAMPLE).tobytes()


def resample(pcm: bytes, source_hz: int, target_hz: int) -> bytes:
    """A whole clip of n samples as ceil(n · L / M) samples without delay. ValueError as `Resampler`."""
    resampler = Resampler(source_hz, target_hz)
    delayed = resampler.convert(pcm) + resampler.finish()
    return delayed[_design(source_hz, target_hz).delay_octets :]
