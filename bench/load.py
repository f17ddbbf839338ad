"""How many calls one core carries, and what they cost: both telephone sides, three kinds of talk, a ladder.

telbridge is pinned to one core, the load and the other end of the calls to another. Each side's floor is
measured in the same run at the same numbers of calls.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import multiple, plots
from bench.crowd import CoreClock, Cores, Heard, allow_files, listen, on_two_cores
from bench.figures import RESULTS, Figure, at_least, at_most, machine, percentile, told
from bench.knee import Knee, Seen, Verdict, between, find, judge
from bench.multiple import Multiple
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock
from bench.sides import BRAINS, SIDES, Crowd, Side, floor, running
from bench.usage import memory_mb, named, workers
from tests.e2e.bridge import Bridge
from tests.e2e.metrics_page import Page, scraped

LADDER: Final = (1, 20, 40, 80, 120, 160, 200, 250)
SECONDS: Final = 5.0
SETTLE_S: Final = 3.0
"""What the set-up of the last calls left standing in the bridge is given back in the callers' pauses."""
FLOOR_SETTLE_S: Final = 1.0
CALM_S: Final = 0.2
"""After our own garbage collection, which is a stall."""
LEAST_CALLS: Final = 160
MEMORY_A_CALL_MB: Final = 1.0
BASE_MB: Final = 110.0
FILES_A_CALL: Final = 4
"""Of a worker: two of SIP and RTP, one to the agent, and one to spare."""
FILES_BESIDES: Final = 200
PARTS: Final = ("multiple", *BRAINS)
ONE_TALK_CALLS: Final = 80
"""Monologues and conversations at a time; half the knee where that is less."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One number of calls, as it was measured. CPU in % of a core, a call."""

    side: str
    brain: str
    calls: int
    cpu: float
    cpu_all: float
    """With supervisor and dispatcher."""
    multiple: float | None
    """Of the floor at as many calls."""
    delay_p50_ms: float | None
    delay_p95_ms: float | None
    delay_p99_ms: float | None
    added_p50_ms: float | None
    """As above, without the floor's delay where that is no part of ours (streams)."""
    added_p95_ms: float | None
    added_p99_ms: float | None
    gap_p99_ms: float
    gap_longest_ms: float
    lost: int
    base_mb: float
    """Of the worker before its first call."""
    memory_mb: float
    """Beyond what there was before the first call, a call of the most that there have been so far."""
    memory_beyond_mb: float
    """The same, all together."""
    setup_p50_ms: float
    setup_p95_ms: float
    bridge_p95_ms: float | None
    """By the bridge's own metric, agent -> wire; the upper edge of its bucket."""
    worker_waited: float
    """% of the time, for a core that others had."""
    other_end_cpu: float
    """The agent's, % of a core."""
    load_busy: float
    load_gap_p99_ms: float
    verdict: str
    why: str


@dataclass(slots=True)
class Floors:
    """What the floor took at some numbers of calls."""

    cpu: list[tuple[int, float]]
    delays_ms: Mapping[int, list[tuple[int, float]]]
    """By percentile."""

    def multiple(self, cpu: float, calls: int) -> float | None:
        return cpu / between(self.cpu, calls) if self.cpu else None

    def delay_ms(self, percent: int, calls: int) -> float:
        return between(self.delays_ms[percent], calls)


class Bench:
    """One run of the section."""

    def __init__(self, cores: Cores, options: Options) -> None:
        self.cores, self.options = cores, options
        self.seconds = options.seconds or SECONDS
        most = (allow_files() - FILES_BESIDES) // FILES_A_CALL
        wanted = options.calls or LADDER
        self.ladder = tuple(sorted({calls for calls in wanted if calls <= most} | {1}))
        if beyond := [calls for calls in wanted if calls > most]:
            _say(f"left out, for want of open files (ulimit -n): {beyond}")
        self.rungs: list[Rung] = []
        self.knees: dict[str, Knee] = {}
        self.multiples: dict[str, Multiple] = {}

    async def side(self, side: Side) -> None:
        if self.options.wants("multiple", PARTS) and side.multiple_calls in self.ladder:
            _say(f"{side.name}: telbridge and the {side.floor_name} in turns, {side.multiple_calls} calls")
            calls = side.multiple_calls
            self.multiples[side.name] = await multiple.measure(self.cores, side, calls, self.seconds)
        if any(self.options.wants(brain, PARTS) for brain in BRAINS):
            await self._talks(side)

    async def _talks(self, side: Side) -> None:
        """The knee is sought by echo in any case."""
        floors = await self._floors(side)
        await self._echo(side, floors)
        knee = self.knees[side.name]
        calls = max(1, min(ONE_TALK_CALLS, knee.calls // 2, max(self.ladder)))
        for brain in BRAINS[1:]:
            if self.options.wants(brain, PARTS):
                await self._talk(side, brain, calls, floors)

    async def _floors(self, side: Side) -> Floors:
        floors = Floors([], {50: [], 95: [], 99: []})
        async with floor(self.cores, side) as ready, side.to_floor(ready) as crowd:
            for calls in [calls for calls in self.ladder if calls > 1] or [1]:
                _say(f"{side.name}: {side.floor_name}, {calls} calls")
                await crowd.resize(calls)
                with undisturbed():
                    await asyncio.sleep(FLOOR_SETTLE_S)
                    clock = CpuClock.read(ready["pid"])
                    heard = await listen(crowd.lines, self.seconds)
                    floors.cpu.append((calls, clock.since().used / calls))
                for percent, points in floors.delays_ms.items():
                    points.append((calls, percentile(heard.delays_ms, percent)))
        return floors

    async def _echo(self, side: Side, floors: Floors) -> None:
        """Up the ladder to the knee, and once at half of it."""
        with tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
            async with (
                running(self.cores, "echo", Path(folder)) as bridge,
                side.to_bridge(bridge, "echo") as crowd,
            ):
                climb = Climb(self, side, "echo", bridge, crowd, floors)
                knee = self.knees[side.name] = await find(self.ladder, climb.verdict)
                half = knee.calls // 2
                if half and half not in climb.measured:
                    # Of calls that never met the knee: a frame that stood in their buffers there may stay.
                    await crowd.resize(0)
                    await climb.verdict(half)

    async def _talk(self, side: Side, brain: str, calls: int, floors: Floors) -> None:
        with tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
            async with (
                running(self.cores, brain, Path(folder)) as bridge,
                side.to_bridge(bridge, brain) as crowd,
            ):
                await Climb(self, side, brain, bridge, crowd, floors).verdict(calls)

    # ------------------------------------------------------------ what came of it

    def figures(self) -> list[Figure]:
        return [figure for side in SIDES for figure in self._figures(side)]

    def _figures(self, side: Side) -> list[Figure]:
        name = f"load, {side.name}"
        figures = []
        if (found := self.multiples.get(side.name)) is not None:
            what = f"{name}: CPU as a multiple of the {side.floor_name}, {found.calls} calls, in turns"
            figures.append(at_most(what, found.times, side.multiple, "×"))
            figures.append(told(f"{name}: CPU a call, {found.calls} calls", found.cpu, "% of a core"))
            figures.append(told(f"{name}: {side.floor_name}, the same", found.floor_cpu, "% of a core"))
            figures.append(told(f"{name}: lost in these turns, by either", found.lost, "packets or messages"))
        knee = self.knees.get(side.name)
        if knee is None:
            return figures
        rungs = {rung.calls: rung for rung in self.rungs if rung.side == side.name and rung.brain == "echo"}
        if max(self.ladder) >= LEAST_CALLS:
            figures.append(at_least(f"{name}: the knee, {knee}", knee.calls, LEAST_CALLS, "calls"))
        else:
            figures.append(told(f"{name}: the knee, {knee}", knee.calls, "calls"))
        if (half := rungs.get(knee.calls // 2)) is not None:
            figures += self._half(name, side, half)
        return figures

    def _half(self, name: str, side: Side, half: Rung) -> list[Figure]:
        at = f"at half the knee, {half.calls} calls"
        p50, p95 = half.added_p50_ms or math.inf, half.added_p95_ms or math.inf
        figures = [
            told(f"{name}: added p50 {at}", p50, "ms")
            if side.half_knee_p50_ms is None
            else at_most(f"{name}: added p50 {at}", p50, side.half_knee_p50_ms, "ms"),
            at_most(f"{name}: added p95 {at}", p95, side.half_knee_p95_ms, "ms"),
            told(f"{name}: packet gap p99 {at}", half.gap_p99_ms, "ms"),
            told(f"{name}: set-up p95 {at}", half.setup_p95_ms, "ms"),
        ]
        memory = f"{name}: memory a call {at}"
        if half.calls >= ONE_TALK_CALLS // 2:  # of a few calls it is the pools that grow
            figures.append(at_most(memory, half.memory_mb, MEMORY_A_CALL_MB, "MB"))
        else:
            figures.append(told(memory, half.memory_mb, "MB"))
        return [*figures, at_most(f"{name}: memory of a worker without calls", half.base_mb, BASE_MB, "MB")]


class Climb:
    """One bridge and its calls, at one number after the other."""

    def __init__(
        self, bench: Bench, side: Side, brain: str, bridge: Bridge, crowd: Crowd, floors: Floors
    ) -> None:
        self._bench, self._side, self._brain = bench, side, brain
        self._bridge, self._crowd, self._floors = bridge, crowd, floors
        self._one_call_p95_ms: float | None = None
        self._base_mb = sum(map(memory_mb, workers(bridge).values()))
        self._most = 0
        """Calls at a time, so far. What so many took stays with the process when there are fewer."""
        self._overloaded = False
        self.measured: set[int] = set()

    async def verdict(self, calls: int) -> Verdict:
        """A rung that is not clean is measured once more: the machine has hiccups of its own. Both tries are
        kept."""
        verdict = await self._measure(calls)
        if verdict is not Verdict.CLEAN:
            verdict = await self._measure(calls)
        self.measured.add(calls)
        return verdict

    async def _measure(self, calls: int) -> Verdict:
        bench, crowd = self._bench, self._crowd
        if self._overloaded:  # What stands in their buffers would be counted against this rung.
            await crowd.resize(0)
        before = len(crowd.setup_ms)
        await crowd.resize(calls)
        self._most = max(self._most, calls)
        pids = named(self._bridge)
        worker_pids = workers(self._bridge)
        page = await scraped(self._bridge.admin) if self._brain == "conversation" else None
        with undisturbed():
            await asyncio.sleep(SETTLE_S + CALM_S)
            skipped, core = crowd.skipped, CoreClock.read(bench.cores.load)
            clocks = {name: CpuClock.read(pid) for name, pid in pids.items()}
            heard = await listen(crowd.lines, bench.seconds)
            shares = {name: clock.since() for name, clock in clocks.items()}
            load_busy = core.busy_since() if bench.cores.apart else 0.0
        later = await scraped(self._bridge.admin) if page is not None else None
        lost = self._lost(heard) + crowd.ended
        delays = heard.delays_ms if self._brain == "echo" else []
        p50, p95, p99 = (percentile(delays, percent) if delays else None for percent in (50, 95, 99))
        gap = percentile(heard.gaps_ms, 99) if self._has_rhythm else percentile([0.0, *heard.starved_ms], 99)
        own_gap = percentile(heard.sending_gaps_ms, 99)
        seen = Seen(p95, gap, lost, own_gap, load_busy)
        verdict, why = judge(seen, self._one_call_p95_ms)
        if crowd.skipped > skipped:
            verdict, why = Verdict.NOT_JUDGED, f"{crowd.skipped - skipped} frames never sent, {why}"
        self._overloaded = verdict is not Verdict.CLEAN
        if calls == 1:
            self._one_call_p95_ms = p95
        own = [share.used for name, share in shares.items() if name != "agent"]
        cpu = sum(shares[name].used for name in worker_pids) / calls
        beyond_mb = sum(map(memory_mb, worker_pids.values())) - self._base_mb
        rung = Rung(
            side=self._side.name,
            brain=self._brain,
            calls=calls,
            cpu=cpu,
            cpu_all=sum(own) / calls,
            multiple=self._floors.multiple(cpu, calls) if self._brain == "echo" else None,
            delay_p50_ms=p50,
            delay_p95_ms=p95,
            delay_p99_ms=p99,
            added_p50_ms=self._added(p50, 50, calls),
            added_p95_ms=self._added(p95, 95, calls),
            added_p99_ms=self._added(p99, 99, calls),
            gap_p99_ms=gap,
            gap_longest_ms=max(heard.gaps_ms if self._has_rhythm else heard.starved_ms, default=0.0),
            lost=lost,
            base_mb=self._base_mb,
            memory_mb=beyond_mb / self._most,
            memory_beyond_mb=beyond_mb,
            setup_p50_ms=percentile(crowd.setup_ms[before:] or crowd.setup_ms, 50),
            setup_p95_ms=percentile(crowd.setup_ms[before:] or crowd.setup_ms, 95),
            bridge_p95_ms=_bridge_p95_ms(page, later, self._side) if page and later else None,
            worker_waited=max(shares[name].waited for name in worker_pids),
            other_end_cpu=shares["agent"].used,
            load_busy=load_busy,
            load_gap_p99_ms=own_gap,
            verdict=verdict.value,
            why=why,
        )
        bench.rungs.append(rung)
        _say(f"{rung.side} {rung.brain}, {calls} calls: {verdict.value} {why}".rstrip())
        return verdict

    @property
    def _has_rhythm(self) -> bool:
        """RTP comes every 20 ms; what a stream is sent ahead of time does not, and must not run dry."""
        return self._side.name == "sip" or self._brain == "echo"

    def _lost(self, heard: Heard) -> int:
        """In a monologue, which has no pause, a packet without a sound is one that was not there in time."""
        match self._brain:
            case "echo":
                return heard.lost + heard.not_back
            case "monologue":
                return heard.lost + heard.silent
            case _:
                return heard.lost

    def _added(self, delay_ms: float | None, percent: int, calls: int) -> float | None:
        if delay_ms is None or not self._side.floor_delay_counts:
            return delay_ms
        return max(0.0, delay_ms - self._floors.delay_ms(percent, calls))


def _bridge_p95_ms(before: Page, after: Page, side: Side) -> float | None:
    """Of `bridge_latency_seconds`, agent -> wire, between two scrapes."""
    ingress = "sip" if side.name == "sip" else "twilio"

    def buckets(page: Page) -> dict[float, float]:
        return {
            float(dict(labels)["le"]): value
            for (name, labels), value in page.samples.items()
            if name == "telbridge_bridge_latency_seconds_bucket"
            and {"direction": "down", "ingress": ingress}.items() <= dict(labels).items()
        }

    old, new = buckets(before), buckets(after)
    counts = {edge: value - old.get(edge, 0.0) for edge, value in sorted(new.items())}
    total = counts.get(math.inf, 0.0)
    return next((edge * 1000 for edge, count in counts.items() if total and count >= 0.95 * total), None)


async def measure(options: Options) -> list[Figure]:
    with on_two_cores() as cores:
        bench = Bench(cores, options)
        if not cores.apart:
            _say("one core only: telbridge and the load share it, which judges neither")
        for side in SIDES:
            if options.wants(side.name, [one.name for one in SIDES]):
                await bench.side(side)
    table(bench.rungs)
    path = _store(bench)
    print(f"stored in {path}")
    for line in plots.draw(bench.rungs, path.with_suffix("")):
        print(line)
    return bench.figures()


def _store(bench: Bench) -> Path:
    """One JSON file beside the figures'."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}-load.json"
    knees = {name: asdict(replace(knee, beyond_verdict=None)) for name, knee in bench.knees.items()}
    run = {
        "ended_at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds": bench.seconds,
        "knees": knees,
        "rungs": [_finite(asdict(rung)) for rung in bench.rungs],
    }
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def latest_knee(side: str) -> int | None:
    """Of the last run whose results are here."""
    for path in sorted(RESULTS.glob("*-load.json"), reverse=True):
        knee = json.loads(path.read_text("utf-8"))["knees"].get(side)
        if knee and knee["calls"]:
            return int(knee["calls"])
    return None


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields.items()
    }


_COLOURED: Final = {"clean": "clean", "failed": "[red]FAILED", "not judged": "[yellow]not judged"}
COLUMNS: Final[Sequence[tuple[str, Callable[[Rung], str]]]] = (
    ("", lambda r: f"{r.side} {r.brain}"),
    ("calls", lambda r: str(r.calls)),
    ("CPU %", lambda r: f"{r.cpu:.2f}"),
    ("× floor", lambda r: _number(r.multiple, 1)),
    ("added p50", lambda r: _number(r.added_p50_ms, 1)),
    ("p95", lambda r: _number(r.added_p95_ms, 1)),
    ("p99", lambda r: _number(r.added_p99_ms, 1)),
    ("gap p99", lambda r: f"{r.gap_p99_ms:.1f}"),
    ("lost", lambda r: str(r.lost)),
    ("MB", lambda r: f"{r.memory_mb:.2f}"),
    ("set-up p95", lambda r: f"{r.setup_p95_ms:.0f}"),
    ("load gap", lambda r: f"{r.load_gap_p99_ms:.1f}"),
    ("load busy", lambda r: f"{r.load_busy:.0f} %"),
    (
        "",
        lambda r: {"clean": "clean", "failed": "[red]FAILED", "not judged": "[yellow]not judged"}[r.verdict],
    ),
)


def table(rungs: Sequence[Rung]) -> None:
    """CPU and memory a call; times in ms."""
    shown = Table(*(title for title, _ in COLUMNS))
    for rung in rungs:
        shown.add_row(*(cell(rung) for _, cell in COLUMNS))
    Console(width=None if os.environ.get("COLUMNS") else 140).print(shown)
    for rung in rungs:
        if rung.why:
            print(f"{rung.side} {rung.brain}, {rung.calls} calls: {rung.why}")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
