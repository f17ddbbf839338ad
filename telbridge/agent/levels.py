"""Loudness of PCM."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FLOOR_DBFS: Final = -96.0
Samples = npt.NDArray[np.float32]


def to_samples(pcm: bytes) -> Samples:
    """16 bit PCM as floats in -1 … 1."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) * np.float32(1 / 32768)


def to_pcm(samples: Samples) -> bytes:
    """Floats as 16 bit PCM, clipped."""
    octets: bytes = np.clip(samples * 32768.0, -32768, 32767).astype("<i2").tobytes()
    return octets


def rms_dbfs(samples: Samples) -> float:
    """RMS level against full scale; -96 for silence or nothing."""
    if not samples.size:
        return FLOOR_DBFS
    power = float(np.dot(samples, samples)) / samples.size
    return FLOOR_DBFS if power < 1e-9 else max(FLOOR_DBFS, 10 * float(np.log10(power)))


def dbfs(pcm: bytes) -> float:
    """RMS level of 16 bit PCM."""
    return rms_dbfs(to_samples(pcm))
