"""The load of `bench.load` alone, against somebody else's server: its cost, measured in the same way.

`python -m bench peer --uri sip:agent@127.0.0.1:6060 --pid PID --calls 1,20,40` for SIP;
`--uri ws://127.0.0.1:8765/ws` for a server of Twilio's media streams. Start the peer yourself, on one core
(`taskset -c 0 …`), with an agent that gives back what it hears as its other end (peers/README.md).
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from bench.crowd import CoreClock, allow_files, listen, on_two_cores
from bench.figures import Figure, percentile, told
from bench.knee import Seen, judge
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock
from bench.sides import Crowd, sip, streams

LADDER = (1, 10, 20, 40)
SECONDS = 6.0
SETTLE_S = 2.0


async def measure(options: Options) -> list[Figure]:
    """ValueError without `--uri` or `--pid`."""
    if not options.uri or not options.pids:
        raise ValueError("a peer needs --uri and --pid: its address, and the processes that are its cost")
    allow_files()
    figures: list[Figure] = []
    one_call_p95_ms: float | None = None
    with on_two_cores() as cores:
        async with _crowd(options.uri) as crowd:
            for calls in options.calls or LADDER:
                await crowd.resize(calls)
                with undisturbed():
                    await asyncio.sleep(SETTLE_S)
                    core = CoreClock.read(cores.load)
                    clocks = [CpuClock.read(pid) for pid in options.pids]
                    heard = await listen(crowd.lines, options.seconds or SECONDS)
                    cpu = sum(clock.since().used for clock in clocks)
                    busy = core.busy_since()
                p50, p95 = (percentile(heard.delays_ms, percent) for percent in (50, 95))
                gap, own_gap = percentile(heard.gaps_ms, 99), percentile(heard.sending_gaps_ms, 99)
                lost = heard.lost + heard.not_back + crowd.ended
                verdict, why = judge(Seen(p95, gap, lost, own_gap, busy), one_call_p95_ms or p95)
                one_call_p95_ms = one_call_p95_ms or p95
                name = f"peer, {calls} calls"
                figures += [
                    told(f"{name}: {verdict.value} {why}".rstrip(), calls, "calls"),
                    told(f"{name}: CPU a call", cpu / calls, "% of a core"),
                    told(f"{name}: echo p50", p50, "ms"),
                    told(f"{name}: echo p95", p95, "ms"),
                    told(f"{name}: packet gap p99", gap, "ms"),
                    told(f"{name}: lost of {len(heard.delays_ms)} pulses and the packets", lost, ""),
                    told(f"{name}: set-up p95", percentile(crowd.setup_ms, 95), "ms"),
                ]
    return figures


def _crowd(uri: str) -> AbstractAsyncContextManager[Crowd]:
    """By the address's kind."""
    return sip(uri, pulses=True) if uri.startswith("sip:") else streams(uri, webhook=False)
