"""What TLS to the agent costs: the same calls by SIP, their sessions by ws:// and by wss://, in turns."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import trustme

from bench.crowd import Cores, allow_files, listen, on_two_cores
from bench.figures import Figure, at_most, exactly, percentile, told
from bench.lines import LinePhone
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock, bridge, child
from bench.sides import SipCrowd
from bench.usage import workers
from tests.e2e.bridge import Bridge

CALLS: Final = 80
SECONDS: Final = 5.0
TURNS: Final = 3
SETTLE_S: Final = 3.0
COSTLIER: Final = 1.25
"""Issue 7: with TLS to the agent at most a quarter more."""


async def measure(options: Options) -> list[Figure]:
    calls, seconds = options.count(CALLS), options.seconds or SECONDS
    allow_files()
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with AsyncExitStack() as stack:
            ways = ("ws", "wss")
            bridges = {
                way: await stack.enter_async_context(_bridge(cores, way, Path(folder))) for way in ways
            }
            cpu: dict[str, list[float]] = {way: [] for way in bridges}
            delays: dict[str, list[float]] = {way: [] for way in bridges}
            lost = 0
            for _ in range(TURNS):
                for way, one in bridges.items():
                    used, heard_ms, missing = await _turn(one, calls, seconds)
                    cpu[way].append(used)
                    delays[way] += heard_ms
                    lost += missing
    name = f"TLS to the agent, {calls} calls"
    clear, secured = fmean(cpu["ws"]), fmean(cpu["wss"])
    return [
        told(f"{name}: CPU a call without it", clear, "% of a core"),
        told(f"{name}: CPU a call with it", secured, "% of a core"),
        at_most(f"{name}: CPU as a multiple of that without", secured / clear, COSTLIER, "×"),
        told(f"{name}: echo p95 without it", percentile(delays["ws"], 95), "ms"),
        told(f"{name}: echo p95 with it", percentile(delays["wss"], 95), "ms"),
        exactly(f"{name}: packets and pulses lost", lost, 0),
    ]


async def _turn(one: Bridge, calls: int, seconds: float) -> tuple[float, list[float], int]:
    """CPU a call in % of a core, the echoes' delays in ms, how much was lost."""
    async with LinePhone() as phone:
        crowd = SipCrowd(phone, one.uri, pulses=True)
        await crowd.resize(calls)
        with undisturbed():
            await asyncio.sleep(SETTLE_S)
            clocks = [CpuClock.read(pid) for pid in workers(one).values()]
            heard = await listen(crowd.lines, seconds)
            used = sum(clock.since().used for clock in clocks)
        lost = heard.lost + heard.not_back + crowd.ended
        await crowd.resize(0)
    return used / calls, heard.delays_ms, lost


@asynccontextmanager
async def _bridge(cores: Cores, way: str, folder: Path) -> AsyncIterator[Bridge]:
    """On its core; its agent, on the load's, is reached by ws:// or wss://."""
    authority, pem, root, key = trustme.CA(), folder / "agent.pem", folder / "root.pem", folder / "key"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(root))
    key.write_text("no-secret", "utf-8")
    secured = ("bench.tls_agent", str(pem))
    clear = ("telbridge.agent", "--brain", "echo", "--exit-with-parent")
    async with child(*(secured if way == "wss" else clear)) as agent:
        session: dict[str, Any] = {
            "url": f"{way}://127.0.0.1:{agent['port']}{agent['path']}",
            "audio": "g711",
            "api_key": f'{{ file = "{key}" }}',
        }
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(root)  # Whom OpenSSL trusts.
        try:
            async with AsyncExitStack() as stack:
                with cores.bridges_start():
                    settings = {"call": {"agent": "openai_realtime"}, "openai_realtime": session}
                    one = await stack.enter_async_context(bridge("built", settings))
                yield one
        finally:
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before
