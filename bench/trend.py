"""Does a figure rise? Least squares over samples, and what that says. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SURE: Final = 2.0
"""Standard errors: so much of a slope may be chance."""
WARMING: Final = 0.2
"""Of the run, at its beginning: caches fill, pools grow."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through samples."""

    slope: float
    """In units of the figure a second."""
    error: float
    """The slope's standard error; infinite for fewer than three samples."""
    mean: float
    length_s: float

    @property
    def a_minute(self) -> float:
        return self.slope * 60

    @property
    def rise(self) -> float:
        """Over the length of the run."""
        return self.slope * self.length_s

    @property
    def sure_rise(self) -> float:
        """At least so much, chance taken off; 0 where it may all be chance."""
        return max(0.0, (self.slope - SURE * self.error) * self.length_s)


def fit(points: Sequence[tuple[float, float]]) -> Trend:
    """Through (time in s, figure). ValueError for fewer than two different times."""
    count = len(points)
    mean_t = sum(t for t, _ in points) / count if count else 0.0
    mean = sum(y for _, y in points) / count if count else 0.0
    square = sum((t - mean_t) ** 2 for t, _ in points)
    if not square:
        raise ValueError("a trend needs samples of two times")
    slope = sum((t - mean_t) * (y - mean) for t, y in points) / square
    rest = sum((y - mean - slope * (t - mean_t)) ** 2 for t, y in points)
    error = math.sqrt(rest / (count - 2) / square) if count > 2 else math.inf
    times = [t for t, _ in points]
    return Trend(slope, error, mean, max(times) - min(times))


def settled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the warming."""
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    return [point for point in points if point[0] >= first + (last - first) * WARMING]


@dataclass(frozen=True, slots=True)
class Clock:
    """A peer's clock against ours."""

    ppm: float
    """Fast is positive."""
    error_ppm: float
    accumulated_ms: float
    """How far it has come off over the whole run, by the line."""


def clock(arrivals_ns: Sequence[int], timestamps: Sequence[int], rate_hz: int) -> Clock:
    """From packets: when they came, and their RTP timestamps, unwrapped. ValueError for fewer than three."""
    if len(arrivals_ns) < 3:
        raise ValueError("a clock needs three packets")
    first_ns, first = arrivals_ns[0], timestamps[0]
    # How much the stream is ahead of the time that has passed, in ms: its slope is the drift.
    ahead = [
        ((at - first_ns) / 1e9, (stamp - first) * 1000 / rate_hz - (at - first_ns) / 1e6)
        for at, stamp in zip(arrivals_ns, timestamps, strict=True)
    ]
    trend = fit(ahead)
    return Clock(trend.slope * 1000, trend.error * 1000, trend.rise)


def unwrapped(timestamps: Sequence[int]) -> list[int]:
    """32-bit RTP timestamps, in order of their packets, without their wrap."""
    result: list[int] = []
    for stamp in timestamps:
        if not result:
            result.append(stamp)
        else:
            step = (stamp - result[-1] + 0x80000000) % 0x100000000 - 0x80000000
            result.append(result[-1] + step)
    return result
