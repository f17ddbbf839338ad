"""What all lines of a load have in common: their clock points, and what the load itself was worth.

The load must be lighter than what it measures: no object for a packet, no parsing but of what is asked for.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

FRAME_NS: Final = 20_000_000
LAST_ECHO_S: Final = 0.5
"""What was said last may still come back."""
PHASES: Final = 10
"""Of 20 ms, over which the calls are spread: two milliseconds each."""
FILES: Final = 16_384

Times = npt.NDArray[np.int64]


@dataclass(slots=True)
class Counts:
    """What one line saw since `begin`."""

    since_ns: int
    until_ns: int = 0
    """Set by `end`; what comes later is still heard, as the echo of what was said before."""
    arrivals: array[int] = field(default_factory=lambda: array("q"))
    """Of each packet or message, monotonic ns."""
    ticks: array[int] = field(default_factory=lambda: array("q"))
    """Of our own sendings."""
    delays_ms: list[float] = field(default_factory=list)
    """From what was said to its echo; infinite for what never came back."""
    said: int = 0
    """What an echo is expected of."""
    lost: int = 0
    """Packets that the bridge numbered and we never got (SIP)."""
    silent: int = 0
    """Packets without a sound (SIP)."""
    starved_ms: list[float] = field(default_factory=list)
    """Holes in what a carrier plays (streams)."""


class Counting(Protocol):
    """A line of the load."""

    def begin(self, now_ns: int) -> None:
        """Count from now on."""

    def end(self, now_ns: int) -> None:
        """What is said from now on counts no more."""

    def counts(self) -> Counts:
        """What came of it. `delays_ms` is made here."""


@dataclass(frozen=True, slots=True)
class Heard:
    """All lines together."""

    delays_ms: list[float]
    gaps_ms: list[float]
    """Between arrivals; a line that fell silent ends in one long gap."""
    sending_gaps_ms: list[float]
    """Between our own sendings: what the load is worth."""
    lost: int
    not_back: int
    """Of what was said: never heard again."""
    silent: int
    starved_ms: list[float]


def gathered(all_counts: Sequence[Counts]) -> Heard:
    delays = [delay for counts in all_counts for delay in counts.delays_ms]
    never = sum(counts.said - len(counts.delays_ms) for counts in all_counts)
    delays += [math.inf] * never
    return Heard(
        delays,
        [
            gap
            for c in all_counts
            for gap in gaps_ms(np.array(c.arrivals, np.int64), c.since_ns, c.until_ns).tolist()
        ],
        [gap for c in all_counts for gap in (np.diff(np.array(c.ticks, np.int64)) / 1e6).tolist()],
        sum(counts.lost for counts in all_counts),
        sum(map(math.isinf, delays)),
        sum(counts.silent for counts in all_counts),
        [hole for counts in all_counts for hole in counts.starved_ms],
    )


def gaps_ms(arrivals: Times, since_ns: int, until_ns: int) -> npt.NDArray[np.float64]:
    """Between the arrivals of that time. Its end closes a last gap only if that is longer than a frame: else
    nothing was missed yet."""
    inside = arrivals[(arrivals >= since_ns) & (arrivals < until_ns)]
    if not len(inside):
        return np.array([(until_ns - since_ns) / 1e6])
    gaps = np.diff(inside)
    last_ns = until_ns - int(inside[-1])
    if last_ns > 2 * FRAME_NS:
        gaps = np.append(gaps, last_ns)
    result: npt.NDArray[np.float64] = gaps / 1e6
    return result


async def listen(lines: Sequence[Counting], seconds: float) -> Heard:
    """All that they see within so many seconds."""
    now_ns = time.monotonic_ns()
    for line in lines:
        line.begin(now_ns)
    await asyncio.sleep(seconds)
    now_ns = time.monotonic_ns()
    for line in lines:
        line.end(now_ns)
    await asyncio.sleep(LAST_ECHO_S)
    return gathered([line.counts() for line in lines])


# ------------------------------------------------------------------- the machine: files and cores


def allow_files(wanted: int = FILES) -> int:
    """Raise our limit of open files, which children inherit, as far as it goes; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return FILES if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is telbridge's and which is the load's; the same one where there is no second."""

    bridge: int
    load: int

    @classmethod
    def of_machine(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])

    @property
    def apart(self) -> bool:
        return self.bridge != self.load

    @contextmanager
    def bridges_start(self) -> Iterator[None]:
        """Processes that are started meanwhile, and their children, run on telbridge's core. Afterwards we
        ourselves run on the load's."""
        os.sched_setaffinity(0, {self.bridge})
        try:
            yield
        finally:
            os.sched_setaffinity(0, {self.load})

    def to_load(self, pid: int) -> None:
        """A process with all its threads: the other end of the calls is part of the load."""
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {self.load})


@contextmanager
def on_two_cores() -> Iterator[Cores]:
    """We run on the load's core meanwhile, and where we did before afterwards."""
    before = os.sched_getaffinity(0)
    cores = Cores.of_machine()
    os.sched_setaffinity(0, {cores.load})
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class CoreClock:
    """How busy a core is, whoever uses it (/proc/stat, proc(5))."""

    core: int
    idle: int
    total: int

    @classmethod
    def read(cls, core: int) -> CoreClock:
        for line in Path("/proc/stat").read_text("utf-8").splitlines():
            name, *fields = line.split()
            if name == f"cpu{core}":
                # guest time, the last two, is part of user time
                ticks = [int(field) for field in fields[:8]]
                return cls(core, ticks[3] + ticks[4], sum(ticks))
        raise LookupError(f"/proc/stat has no cpu{core}")

    def busy_since(self) -> float:
        """In % of the time since that reading."""
        now = CoreClock.read(self.core)
        total = now.total - self.total
        return 100 * (1 - (now.idle - self.idle) / total) if total else 0.0
