"""Calls of random length with all kinds of endings, for minutes: does anything grow, or fall behind?

`make soak MINUTES=10`: at half the knee of the last `bench load` (or CALLS=n). Each process is sampled; a
straight line through its samples, the warming left out, tells how much a figure surely rose. A few calls last
all the time: by them late frames are seen, and the clock of what the bridge sends.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.call_setup import left
from bench.crowd import Cores, allow_files, gaps_ms, on_two_cores
from bench.endings import AGENT, Endings, WrongEnding, write_dialplans
from bench.figures import Figure, at_most, exactly, percentile, told
from bench.lines import Line, LinePhone
from bench.load import latest_knee
from bench.options import Options
from bench.processes import child
from bench.sides import running
from bench.stream_lines import StreamPhone
from bench.trend import Clock, Trend, clock, fit, settled, unwrapped
from bench.usage import Usage, named
from telbridge.caller import CallHandle
from tests.e2e.bridge import Bridge

SECONDS: Final = 600.0
CALLS: Final = 40
"""Where no knee is known."""
PROBES: Final = 4
"""Calls that last all the time."""
SHORTEST_S, LONGEST_S = 1.0, 20.0
MEDIA_TIMEOUT_S: Final = 5.0
"""After which a killed caller counts as gone: short, so that many of them go within a run."""
EMPTY_S: Final = 40.0
SAMPLES: Final = 120
LATE_MS: Final = 30.0
"""A gap between packets beyond this is a late frame: half a frame too late."""
WARMING_PACKETS: Final = 50
EACH: Final = 10
"""Every tenth packet tells the clock well enough."""
PPM: Final = 30.0
ACCUMULATED_MS: Final = 20.0
"""A frame: more, and the clock runs away."""
MEMORY_MB: Final = 3.0
MEMORY_MB_A_MINUTE: Final = 0.5
OTHERS: Final = 3.0
"""Files and sockets that may be more at the end, by the line."""
THREADS: Final = 1.0
LATE_RISE: Final = 0.5
"""% of the frames."""


@dataclass(slots=True)
class Story:
    """What happened."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """By ending and what was wrong with it."""
    samples: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    """By process and figure: (s, value)."""
    late: list[tuple[float, float]] = field(default_factory=list)
    """(s, % of the probes' frames that were late)."""
    began: float = field(default_factory=time.monotonic)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.began


async def measure(options: Options) -> list[Figure]:
    seconds = options.seconds or SECONDS
    knee = latest_knee("sip")
    calls = max(PROBES + 1, options.count(knee // 2 if knee else CALLS))
    allow_files()
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with AsyncExitStack() as stack:
            bridge = await _bridge(stack, cores, Path(folder))
            phone = await stack.enter_async_context(LinePhone())
            streams = await stack.enter_async_context(StreamPhone(f"http://127.0.0.1:{bridge.http_port}"))
            endings = Endings(phone, streams, f"127.0.0.1:{bridge.port}", random.Random(7))
            await _one_of_each(endings)
            await left(bridge, EMPTY_S)
            pids = named(bridge)
            before = {name: Usage.of(pid) for name, pid in pids.items()}
            story = Story()
            probes = [phone.dial(bridge.uri) for _ in range(PROBES)]
            await _soak(story, endings, bridge, probes, calls - PROBES, seconds)
            clocks = _clocks([line for _, line in probes])
            cut = sum(call.ended is not None for call, _ in probes)
            await asyncio.gather(*(call.hang_up() for call, _ in probes))
            zombies = await left(bridge, EMPTY_S)
            same = named(bridge) == pids
            after = {name: Usage.of(pid) for name, pid in named(bridge).items()} if same else {}
    name = f"soak, {calls} calls, {seconds / 60:g} min"
    return [
        *_of_calls(name, story, cut, zombies),
        exactly(f"{name}: processes that were started anew", 0 if same else 1, 0),
        *_of_processes(name, story, before, after),
        *_of_frames(name, story, clocks),
    ]


async def _bridge(stack: AsyncExitStack, cores: Cores, folder: Path) -> Bridge:
    script, key = folder / "agent.toml", folder / "key"
    script.write_text(AGENT, "utf-8")
    key.write_text("no-secret", "utf-8")
    agent = await stack.enter_async_context(
        child("telbridge.agent", "--brain", "script", "--script", str(script), "--exit-with-parent")
    )
    settings: dict[str, dict[str, Any]] = {
        "sip": {"media_timeout_s": MEDIA_TIMEOUT_S},
        "dialplans": {"folder": str(write_dialplans(folder))},
        "openai_realtime": {
            "url": f"ws://127.0.0.1:{agent['port']}{agent['path']}",
            "audio": "g711",
            "api_key": f'{{ file = "{key}" }}',
        },
    }
    return await stack.enter_async_context(running(cores, "echo", folder, settings))


async def _one_of_each(endings: Endings) -> None:
    """What is loaded or opened once only is."""
    for name, ending in endings.kinds.items():
        try:
            await ending(SHORTEST_S)
        except WrongEnding as wrong:
            print(f"  before the soak: {name}: {wrong}")


async def _soak(
    story: Story,
    endings: Endings,
    bridge: Bridge,
    probes: list[tuple[CallHandle, Line]],
    chairs: int,
    seconds: float,
) -> None:
    for call, line in probes:
        await call.wait_answered(10)
        line.begin(time.monotonic_ns())
    story.began = time.monotonic()
    tasks = [asyncio.create_task(_chair(story, endings, random.Random(n), seconds)) for n in range(chairs)]
    every_s = max(1.0, seconds / SAMPLES)
    since_ns = time.monotonic_ns()
    while story.now_s < seconds:
        await asyncio.sleep(min(every_s, max(0.0, seconds - story.now_s)))
        since_ns = _sample(story, bridge, [line for _, line in probes], since_ns)
    await asyncio.gather(*tasks)
    for _, line in probes:
        line.end(time.monotonic_ns())


async def _chair(story: Story, endings: Endings, dice: random.Random, seconds: float) -> None:
    """One call after the other, as long as there is time."""
    kinds = list(endings.kinds)
    await asyncio.sleep(dice.random() * min(5.0, seconds / 4))
    while True:
        length_s = dice.uniform(SHORTEST_S, min(LONGEST_S, max(SHORTEST_S, seconds / 4)))
        if story.now_s + length_s > seconds:
            return
        kind = dice.choice(kinds)
        story.ended[kind] += 1
        try:
            await endings.kinds[kind](length_s)
        except (WrongEnding, OSError, TimeoutError) as wrong:
            story.wrong[f"{kind}: {wrong or type(wrong).__name__}"] += 1
        await asyncio.sleep(0.1 * dice.random())


def _sample(story: Story, bridge: Bridge, probes: list[Line], since_ns: int) -> int:
    at_s, now_ns = story.now_s, time.monotonic_ns()
    for name, pid in named(bridge).items():
        with suppress(OSError):  # it is being started anew, which is told
            for figure, value in Usage.of(pid).fields().items():
                story.samples.setdefault((name, figure), []).append((at_s, value))
    gaps = [gap for line in probes for gap in _gaps(line, since_ns, now_ns)]
    if gaps:
        story.late.append((at_s, 100 * sum(gap > LATE_MS for gap in gaps) / len(gaps)))
    return now_ns


def _gaps(line: Line, since_ns: int, now_ns: int) -> list[float]:
    found: list[float] = gaps_ms(line.arrivals(), since_ns, now_ns).tolist()
    return found


def _clocks(lines: list[Line]) -> list[Clock]:
    """By some of each probe's packets."""
    clocks = []
    for line in lines:
        arrivals, stamps = (column[WARMING_PACKETS::EACH] for column in line.clock())
        with suppress(ValueError):
            clocks.append(clock(arrivals, unwrapped(stamps), 8000))
    return clocks


# ---------------------------------------------------------------------------------------- what came of it


def _of_calls(name: str, story: Story, cut: int, zombies: float) -> list[Figure]:
    for what, count in sorted(story.wrong.items()):
        print(f"  wrong: {count} x {what}")
    total = sum(story.ended.values())
    return [
        *(told(f"{name}: {kind}", count, "calls") for kind, count in sorted(story.ended.items())),
        exactly(f"{name}: calls that ended otherwise, of {total}", sum(story.wrong.values()), 0),
        exactly(f"{name}: calls that should have lasted and did not, of {PROBES}", cut, 0),
        exactly(f"{name}: calls left in workers afterwards", zombies, 0),
    ]


def _of_processes(name: str, story: Story, before: dict[str, Usage], after: dict[str, Usage]) -> list[Figure]:
    figures = []
    for (process, what), points in sorted(story.samples.items()):
        if len(settled(points)) < 3:
            continue
        trend = fit(settled(points))
        figures.append(_rise(f"{name}: {process}, {what.removesuffix('_mb')}", what, trend))
    for process, usage in after.items():
        for what in ("files", "sockets", "threads"):
            left_over = usage.fields()[what] - before[process].fields()[what]
            limit = THREADS if what == "threads" else OTHERS
            figures.append(at_most(f"{name}: {process}, {what} left over at the end", left_over, limit, ""))
    return figures


def _rise(name: str, what: str, trend: Trend) -> Figure:
    """How much it surely rose; the slope stands in the name."""
    unit = "MB" if what == "memory_mb" else ""
    limit = THREADS if what == "threads" else OTHERS
    if what == "memory_mb":
        limit = max(MEMORY_MB, MEMORY_MB_A_MINUTE * trend.length_s / 60)
    slope = f"{trend.mean:.0f} {unit}".rstrip() + f", {trend.a_minute:+.2g} a minute"
    return at_most(f"{name} ({slope}): surely rose by", trend.sure_rise, limit, unit)


def _of_frames(name: str, story: Story, clocks: list[Clock]) -> list[Figure]:
    shares = [share for _, share in story.late]
    figures = [told(f"{name}: late frames, mean", sum(shares) / max(1, len(shares)), "%")]
    if len(settled(story.late)) >= 3:
        trend = fit(settled(story.late))
        figures.append(at_most(f"{name}: late frames surely rose by", trend.sure_rise, LATE_RISE, "%"))
    worst = max(clocks, key=lambda one: abs(one.ppm), default=Clock(math.inf, 0.0, math.inf))
    sure = max(0.0, abs(worst.ppm) - 2 * worst.error_ppm)
    figures += [
        told(f"{name}: clock of what is sent, off by", worst.ppm, f"ppm ± {worst.error_ppm:.1f}"),
        at_most(f"{name}: clock surely off by", sure, PPM, "ppm"),
        at_most(f"{name}: clock, come off in all", abs(worst.accumulated_ms), ACCUMULATED_MS, "ms"),
        told(f"{name}: late frames, worst sample", percentile(shares, 100), "%"),
    ]
    return figures
