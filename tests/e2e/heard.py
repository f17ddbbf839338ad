"""What a caller heard, as samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from telbridge.caller.handle import CallHandle
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.timeline import by_timestamp
from tests.e2e.bridge import PATIENCE_S

RATE_HZ = 8_000
TRIES = 8
SETTLED = RATE_HZ
"""Octets, half a second: what was said has come back by then."""
LOUD = 300
"""Of 32767: above the fade's tail and G.711's noise, below any speech or tone of the tests."""

Samples = npt.NDArray[np.int16]


def heard(call: CallHandle) -> Samples:
    """All audio that came, gaps in the RTP timestamps as silence."""
    return np.frombuffer(by_timestamp(call.received).pcm, "<i2")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so by what was heard: packets tell nobody that they come."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_heard(call: CallHandle, hz: int, ms: int = 50) -> None:
    """Wait until so much of that tone has come."""
    await until(lambda: tones_hz(heard(call)).count(hz) * 50 >= ms)


async def say_until(call: CallHandle | StreamCall, words: bytes, condition: Callable[[], bool]) -> None:
    """Say it, and say it again where a machine that stood still has torn it."""
    for _ in range(TRIES):
        await call.play(words + bytes(SETTLED))
        if condition():
            return
    pytest.fail(f"not so after the words were said {TRIES} times")


def loud_ms(samples: Samples) -> float:
    """From the first loud sample to the last."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > LOUD)
    return float(loud[-1] - loud[0] + 1) * 1000 / RATE_HZ if loud.size else 0.0


def quiet_at_end_ms(samples: Samples) -> float:
    """After the last loud sample."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > LOUD)
    return float(samples.size - (loud[-1] + 1 if loud.size else 0)) * 1000 / RATE_HZ


def longest_quiet_ms(samples: Samples) -> float:
    """The longest silence between loud samples."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > LOUD)
    return float(np.diff(loud).max(initial=0)) * 1000 / RATE_HZ


def tones_hz(samples: Samples, window_ms: int = 50) -> list[int]:
    """The strongest frequency of each window that is loud throughout, to the nearest 20 Hz."""
    size = RATE_HZ * window_ms // 1000
    found = []
    for start in range(0, len(samples) - size + 1, size):
        window = samples[start : start + size].astype(np.float64)
        thirds = np.array_split(np.abs(window), 5)
        if min(part.max() for part in thirds) < LOUD:
            continue
        spectrum = np.abs(np.fft.rfft(window * np.hanning(size)))
        found.append(int(np.argmax(spectrum)) * RATE_HZ // size)
    return found


def contains(samples: Samples, words: Samples) -> float:
    """How well `words` is found anywhere in `samples`: normalised correlation, 1 is perfect."""
    if len(samples) < len(words):
        return 0.0
    x, w = samples.astype(np.float64), words.astype(np.float64)
    length = 1 << (len(x) + len(w)).bit_length()
    product = np.fft.irfft(np.fft.rfft(x, length) * np.conj(np.fft.rfft(w, length)), length)
    at = int(np.argmax(product[: len(x) - len(w) + 1]))
    part = x[at : at + len(w)]
    return float(part @ w / (np.linalg.norm(part) * np.linalg.norm(w) + 1e-9))
