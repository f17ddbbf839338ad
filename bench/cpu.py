"""What a call costs: CPU time of the worker, as a multiple of what pjsua2 alone takes in C."""

from __future__ import annotations

import asyncio
from typing import Final

from bench.figures import Figure, at_most, told
from bench.phone import SETTLE_S, talking, undisturbed
from bench.processes import CpuClock, CpuShare, child, child_pid, echo_bridge, worker_pid
from telbridge.caller import Softphone
from telbridge.caller.rtp import Histogram

CALLS: Final = 40
STEADY_S: Final = 15.0
MULTIPLE: Final = 5.0


async def measure() -> list[Figure]:
    async with child("bench.floor") as floor:
        loop_back, _ = await _load(f"sip:loop@127.0.0.1:{floor['port']}", [floor["pid"]])
    async with echo_bridge("built") as bridge:
        agent_pid = child_pid(bridge.process.pid, "telbridge.agent")
        (worker, agent), gaps = await _load(bridge.uri, [worker_pid(bridge), agent_pid])
    floor_a_call, a_call = loop_back[0].used / CALLS, worker.used / CALLS
    return [
        told(f"cpu: all-C loop-back, {CALLS} calls, a call", floor_a_call, "% of a core"),
        told(f"cpu: bridge's worker, {CALLS} calls, a call", a_call, "% of a core"),
        at_most("cpu: bridge as a multiple of the all-C loop-back", a_call / floor_a_call, MULTIPLE, "×"),
        told("cpu: the worker waited for a core", worker.waited, "% of the time"),
        told("cpu: echoing agent meanwhile", agent.used, "% of a core"),
        told("cpu: the caller's own packet gap p99", gaps.percentile_ms(99) or 0.0, "ms"),
    ]


async def _load(uri: str, pids: list[int]) -> tuple[list[CpuShare], Histogram]:
    """CPU of these processes while all calls talk; and how evenly the load was sent."""
    gaps = Histogram()
    async with Softphone(keep_packets=False) as phone, talking(phone, uri, CALLS) as calls:
        with undisturbed():
            await asyncio.sleep(SETTLE_S)
            before = [CpuClock.read(pid) for pid in pids]
            await asyncio.sleep(STEADY_S)
            used = [clock.since() for clock in before]
        for call in calls:
            gaps.merge(call.sending_gaps)
            _expect_sound(call.statistics.received)
    return used, gaps


def _expect_sound(packets: int) -> None:
    """A server that sent nothing would be cheap."""
    if packets < 0.95 * STEADY_S * 50:
        raise RuntimeError(f"only {packets} packets came back in {STEADY_S:g} s")
