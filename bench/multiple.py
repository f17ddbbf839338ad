"""CPU a call as a multiple of the floor's: both are up at the same time and get the same calls in turns.

A machine that is shared works now faster, now slower, by half as much again: what was measured minutes apart
cannot be divided.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.crowd import Cores, listen
from bench.phone import undisturbed
from bench.processes import CpuClock
from bench.sides import Crowd, Side, floor, running
from bench.usage import workers

TURNS: Final = 5
SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Multiple:
    """Of one side, at so many calls."""

    calls: int
    cpu: float
    """The worker's, % of a core a call."""
    floor_cpu: float
    lost: int
    """Of what was said, in either; calls that ended; frames that the load never sent."""

    @property
    def times(self) -> float:
        return self.cpu / self.floor_cpu


async def measure(cores: Cores, side: Side, calls: int, seconds: float) -> Multiple:
    with tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with (
            floor(cores, side) as ready,
            running(cores, "echo", Path(folder)) as bridge,
            side.to_floor(ready) as to_floor,
            side.to_bridge(bridge, "echo") as to_bridge,
        ):
            ours, floors, lost = [], [], 0
            for _ in range(TURNS):
                for crowd, pids, found in (
                    (to_floor, [ready["pid"]], floors),
                    (to_bridge, list(workers(bridge).values()), ours),
                ):
                    used, missing = await _turn(crowd, calls, pids, seconds)
                    found.append(used)
                    lost += missing
    return Multiple(calls, median(ours), median(floors), lost)


async def _turn(crowd: Crowd, calls: int, pids: Sequence[int], seconds: float) -> tuple[float, int]:
    """CPU a call in % of a core, and what was lost."""
    await crowd.resize(calls)
    with undisturbed():
        await asyncio.sleep(SETTLE_S)
        skipped, clocks = crowd.skipped, [CpuClock.read(pid) for pid in pids]
        heard = await listen(crowd.lines, seconds)
        used = sum(clock.since().used for clock in clocks)
    lost = heard.lost + heard.not_back + crowd.ended + crowd.skipped - skipped
    await crowd.resize(0)
    return used / calls, lost
