"""How loud linear samples are (signed 16 bit, host order), at C speed."""

from __future__ import annotations

import warnings
from typing import Final

with warnings.catch_warnings():
    # As in g711.py.
    warnings.filterwarnings("ignore", message="'audioop' is deprecated", category=DeprecationWarning)
    import audioop

_LINEAR_OCTETS: Final = 2


def rms_of(pcm: bytes | memoryview) -> int:
    """Root mean square, 0 to 32768. audioop.error where `pcm` is not whole samples."""
    level: int = audioop.rms(pcm, _LINEAR_OCTETS)
    return level


def peak_of(pcm: bytes | memoryview) -> int:
    """Largest magnitude, 0 to 32768. audioop.error where `pcm` is not whole samples."""
    level: int = audioop.max(pcm, _LINEAR_OCTETS)
    return level
