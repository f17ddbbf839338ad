"""Calls that come fast: so many set-ups a second through the dispatcher, each call a short talk.

From the INVITE's sending to the 200's being read; calls that failed; calls that stayed in a worker when all
was over, by the bridge's own metrics.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.crowd import allow_files, on_two_cores
from bench.figures import Figure, at_most, exactly, percentile, told
from bench.lines import LinePhone
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock
from bench.sides import running
from bench.usage import named
from telbridge.caller import CallFailed
from tests.e2e.bridge import Bridge
from tests.e2e.metrics_page import scraped

RATE: Final = 50
"""Calls a second."""
SECONDS: Final = 60.0
HOLD_S: Final = 1.5
MAX_CALLS: Final = 200
"""More than one worker's share, so that there is a dispatcher; enough for RATE · HOLD_S and stragglers."""
ANSWER_S: Final = 10.0
OVER_S: Final = 10.0
"""Until a worker must have forgotten a call that is over."""
P95_MS: Final = 60.0


@dataclass(slots=True)
class Outcome:
    setup_ms: list[float] = field(default_factory=list)
    """Infinite for a call that failed."""
    late_ms: list[float] = field(default_factory=list)
    """By how much later than planned we dialled."""
    failures: list[str] = field(default_factory=list)
    at_a_time: int = 0


async def measure(options: Options) -> list[Figure]:
    seconds, rate = options.seconds or SECONDS, options.count(RATE)
    allow_files()
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        settings = {"sip": {"max_calls": MAX_CALLS}}
        async with running(cores, "echo", Path(folder), settings) as bridge:
            pids = {name: pid for name, pid in named(bridge).items() if name != "agent"}
            if "dispatcher" not in pids:
                raise RuntimeError(f"{MAX_CALLS} calls made no dispatcher")
            await _flood(bridge, rate, 2.0)  # what is done once only is done
            clocks = [CpuClock.read(pid) for pid in pids.values()]
            outcome = await _flood(bridge, rate, seconds)
            used = sum(clock.since().used for clock in clocks)
            zombies = await left(bridge, OVER_S)
            offered = (await scraped(bridge.admin)).value("calls_offered_total")
    count, name = len(outcome.setup_ms), f"setup, {rate} calls/s for {seconds:g} s"
    for failure in sorted(set(outcome.failures)):
        print(f"  failed: {outcome.failures.count(failure)} x {failure}")
    return [
        at_most(f"{name}: INVITE to 200 p95", percentile(outcome.setup_ms, 95), P95_MS, "ms"),
        told(f"{name}: INVITE to 200 p50", percentile(outcome.setup_ms, 50), "ms"),
        told(f"{name}: INVITE to 200 p99", percentile(outcome.setup_ms, 99), "ms"),
        told(f"{name}: INVITE to 200, longest", max(outcome.setup_ms), "ms"),
        exactly(f"{name}: calls that failed, of {count}", len(outcome.failures), 0),
        exactly(f"{name}: calls left in workers afterwards", zombies, 0),
        told(f"{name}: calls that the bridge counted beside these", offered - count - rate * 2, ""),
        told(f"{name}: calls at a time, most", outcome.at_a_time, ""),
        told(f"{name}: telbridge's CPU, all processes", used, "% of a core"),
        told(f"{name}: dialled later than planned, p99", percentile(outcome.late_ms, 99), "ms"),
    ]


async def _flood(bridge: Bridge, rate: int, seconds: float) -> Outcome:
    outcome, tasks = Outcome(), set()
    async with LinePhone() as phone:
        with undisturbed():
            begin = time.monotonic()
            for number in range(round(rate * seconds)):
                due = begin + number / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                outcome.late_ms.append((time.monotonic() - due) * 1000)
                tasks.add(asyncio.create_task(_call(phone, bridge.uri, outcome)))
                outcome.at_a_time = max(outcome.at_a_time, sum(not task.done() for task in tasks))
            await asyncio.gather(*tasks)
    return outcome


async def _call(phone: LinePhone, uri: str, outcome: Outcome) -> None:
    call, _ = phone.dial(uri)
    try:
        answered = await call.wait_answered(ANSWER_S)
    except (CallFailed, TimeoutError) as failure:
        outcome.setup_ms.append(math.inf)
        ended = failure.ended if isinstance(failure, CallFailed) else None
        outcome.failures.append(f"{ended.code} {ended.phrase}" if ended else f"no answer in {ANSWER_S:g} s")
        await call.hang_up()
        return
    outcome.setup_ms.append((answered.at_ns - call.times.invited_ns) / 1e6)
    await asyncio.sleep(HOLD_S)
    if call.ended is not None:
        outcome.failures.append(f"ended by itself: {call.ended.by.value} {call.ended.reason or ''}".rstrip())
    await call.hang_up()


async def left(bridge: Bridge, within_s: float) -> float:
    """Live calls by the metrics, once they have had their time to go."""
    until = time.monotonic() + within_s
    while True:
        live = (await scraped(bridge.admin)).value("calls_live")
        if not live or time.monotonic() > until:
            return live
        await asyncio.sleep(0.2)
