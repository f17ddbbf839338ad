"""Gives back the memory that calls have left behind."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

QUIET_S: Final = 1.0
"""Without a call, before it is worth while; and while there is one, nothing may hold up its audio."""


def give_back() -> None:
    """The objects of ended calls hold each other, and the C library keeps what is free between blocks in use.
    Blocks for some ms."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
