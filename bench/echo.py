"""Echo through the whole chain, RTP → session → echo → RTP, and how evenly packets leave."""

from __future__ import annotations

from typing import Final

from bench.figures import Figure, told
from bench.phone import EchoRun, echo_run, spread_phone, talking
from bench.processes import Build, CpuClock, bridge_to, echo_agent, echo_bridge, worker_pid
from tests.e2e.bridge import Bridge

P50_MS: Final = 45.0
P95_MS: Final = 55.0
RESAMPLED_MS: Final = 10.0
"""That much more through 24 kHz."""
GAP_P99_MS: Final = 23.0
PULSES: Final = 80
RUNS: Final[tuple[tuple[Build, int], ...]] = (("built", 4), ("wheel", 4), ("built", 40))


async def measure() -> list[Figure]:
    figures: list[Figure] = []
    for build, count in RUNS:
        async with echo_bridge(build) as bridge:
            figures += await _run(f"echo g711, {build}, {count} calls", bridge, count)
        async with echo_agent() as url, bridge_to(build, url, "pcm24k") as bridge:
            figures += await _run(f"echo 24 kHz, {build}, {count} calls", bridge, count, RESAMPLED_MS)
    return figures


async def _run(name: str, bridge: Bridge, count: int, more_ms: float = 0.0) -> list[Figure]:
    async with spread_phone(count) as phone, talking(phone, bridge.uri, count) as calls:
        worker = CpuClock.read(worker_pid(bridge))
        run = await echo_run(calls, PULSES)
        waited = worker.since().waited
    return [
        *echo_figures(name, run, more_ms),
        told(f"{name}: the worker waited for a core", waited, "% of the time"),
    ]


def echo_figures(name: str, run: EchoRun, more_ms: float = 0.0) -> list[Figure]:
    """Against the targets of this section."""
    return run.figures(name, p50_ms=P50_MS + more_ms, p95_ms=P95_MS + more_ms, gap_p99_ms=GAP_P99_MS)
