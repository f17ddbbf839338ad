"""The wheel of PyPI carries four calls a process: forty over ten workers, their cost and their sound."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from bench.crowd import CoreClock, allow_files, listen, on_two_cores
from bench.figures import Figure, at_most, exactly, percentile, told
from bench.lines import LinePhone
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock
from bench.sides import SipCrowd, running
from bench.usage import named, owner_of_udp, workers

CALLS: Final = 40
A_WORKER: Final = 4
SECONDS: Final = 15.0
SETTLE_S: Final = 1.5
CPU: Final = 1.5
"""% of a core, a call."""
P50_MS, P95_MS, GAP_P99_MS = 45.0, 55.0, 23.0
"""As the built pjsua2 must (bench.echo)."""


async def measure(options: Options) -> list[Figure]:
    calls, seconds = options.count(CALLS), options.seconds or SECONDS
    allow_files()
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        settings = {"sip": {"max_calls": calls}}
        async with running(cores, "echo", Path(folder), settings, "wheel") as bridge, LinePhone() as phone:
            pids = {name: pid for name, pid in named(bridge).items() if name != "agent"}
            crowd = SipCrowd(phone, bridge.uri, pulses=True)
            await crowd.resize(calls)
            with undisturbed():
                await asyncio.sleep(SETTLE_S)
                core = CoreClock.read(cores.load)
                clocks = {name: CpuClock.read(pid) for name, pid in pids.items()}
                heard = await listen(crowd.lines, seconds)
                used = {name: clock.since().used for name, clock in clocks.items()}
                busy = core.busy_since()
            ours = workers(bridge)
            ports = [call.remote.port for call, _ in crowd.calls if call.remote is not None]
            most = max(map([owner_of_udp(port, ours) for port in ports].count, ours))
            ended = crowd.ended
            await crowd.resize(0)
    name = f"wheel, {calls} calls over {len(ours)} workers"
    cpu = sum(used[one] for one in ours) / calls
    return [
        at_most(f"{name}: CPU a call", cpu, CPU, "% of a core"),
        told(f"{name}: with dispatcher and supervisor", sum(used.values()) / calls, "% of a core"),
        at_most(f"{name}: calls in one worker, most", most, A_WORKER, ""),
        exactly(f"{name}: calls that ended meanwhile", ended, 0),
        at_most(f"{name}: echo p50", percentile(heard.delays_ms, 50), P50_MS, "ms"),
        at_most(f"{name}: echo p95", percentile(heard.delays_ms, 95), P95_MS, "ms"),
        at_most(f"{name}: packet gap p99", percentile(heard.gaps_ms, 99), GAP_P99_MS, "ms"),
        exactly(f"{name}: packets and pulses lost", heard.lost + heard.not_back, 0),
        told(f"{name}: the caller's own packet gap p99", percentile(heard.sending_gaps_ms, 99), "ms"),
        told(f"{name}: the load's core was busy", busy, "% of the time"),
    ]
