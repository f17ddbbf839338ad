"""How many calls are clean, and how to find out with few trials. Pure.

The knee is the highest number of calls at which a delay's p95 is within 40 ms of one call's, the p99 of the
gaps between what comes is within 25 ms, and nothing is lost. A rung at which the load itself was late tells
nothing of the bridge: it is not judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

OVER_ONE_CALL_MS: Final = 40.0
GAP_P99_MS: Final = 25.0
LOAD_GAP_P99_MS: Final = 23.0
"""Of the load's own sendings, 20 ms apart: later, and what is seen may be the load's doing."""
LOAD_BUSY: Final = 95.0
"""% of its core: more, and the other end of the calls is late itself."""
CLOSE_ENOUGH: Final = 0.06
"""Of the knee: how exactly it is looked for."""
LEAST_STEP: Final = 5


class Verdict(Enum):
    CLEAN = "clean"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rule asks about one rung."""

    delay_p95_ms: float | None
    """None where nothing comes back by which to tell."""
    gap_p99_ms: float
    lost: int
    load_gap_p99_ms: float
    load_busy: float
    """% of the load's core."""


def judge(seen: Seen, one_call_p95_ms: float | None) -> tuple[Verdict, str]:
    """With the reason for what is not clean. Where the load was late nothing is judged, good or bad."""
    faults = []
    if seen.delay_p95_ms is not None and one_call_p95_ms is not None:
        over_ms = seen.delay_p95_ms - one_call_p95_ms
        if not over_ms <= OVER_ONE_CALL_MS:
            faults.append(f"delay p95 {over_ms:.0f} ms over one call's")
    if not seen.gap_p99_ms <= GAP_P99_MS:
        faults.append(f"gap p99 {seen.gap_p99_ms:.1f} ms")
    if seen.lost:
        faults.append(f"{seen.lost} lost")
    late = []
    if not seen.load_gap_p99_ms <= LOAD_GAP_P99_MS:
        late.append(f"the load's own gap p99 {seen.load_gap_p99_ms:.1f} ms")
    if seen.load_busy > LOAD_BUSY:
        late.append(f"the load's core {seen.load_busy:.0f} % busy")
    if late:
        return Verdict.NOT_JUDGED, ", ".join(late + faults)
    return (Verdict.FAILED, ", ".join(faults)) if faults else (Verdict.CLEAN, "")


@dataclass(frozen=True, slots=True)
class Knee:
    """`calls` were clean, 0 if none were; `beyond` is the lowest number that was not."""

    calls: int
    beyond: int | None
    """None: the ladder ended before anything failed."""
    beyond_verdict: Verdict | None = None

    def __str__(self) -> str:
        if self.beyond is None:
            return f"≥ {self.calls} (the ladder ends there)"
        if self.beyond_verdict is Verdict.NOT_JUDGED:
            return f"≥ {self.calls} (at {self.beyond} the load was late)"
        return f"{self.calls} (not {self.beyond})"


async def find(ladder: Sequence[int], measure: Callable[[int], Awaitable[Verdict]]) -> Knee:
    """Up the ladder until a rung is not clean, then between the two by halves. `measure` is asked for each
    number of calls once."""
    clean = 0
    beyond: tuple[int, Verdict] | None = None
    for calls in sorted(set(ladder)):
        verdict = await measure(calls)
        if verdict is not Verdict.CLEAN:
            beyond = calls, verdict
            break
        clean = calls
    while beyond is not None and beyond[0] - clean > step_at(clean):
        calls = (clean + beyond[0]) // 2
        verdict = await measure(calls)
        if verdict is Verdict.CLEAN:
            clean = calls
        else:
            beyond = calls, verdict
    return Knee(clean, *(beyond or (None, None)))


def step_at(calls: int) -> int:
    """How near to the knee is near enough."""
    return max(LEAST_STEP, round(calls * CLOSE_ENOUGH))


def between(points: Sequence[tuple[int, float]], calls: int) -> float:
    """Linear between the two nearest points, level beyond the last ones. ValueError without any."""
    ordered = sorted(points)
    if not ordered:
        raise ValueError("no points")
    if calls <= ordered[0][0]:
        return ordered[0][1]
    for (left, low), (right, high) in pairwise(ordered):
        if calls <= right:
            return low + (high - low) * (calls - left) / (right - left)
    return ordered[-1][1]
