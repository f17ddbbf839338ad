"""What TLS to the agent costs: the same calls by SIP, their sessions by ws:// and by wss://.

Both at the same moment, in two bridges on one core: in turns, seconds apart, the same code came out between
1.1 and 1.6 times, for a shared machine is faster or slower by half from one moment to the next.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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

WAYS: Final = ("ws", "wss")
CALLS: Final = 40
"""By each way: one core of any machine has room for both."""
SECONDS: Final = 20.0
SETTLE_S: Final = 3.0
COSTLIER: Final = 1.25
"""Issue 7: with TLS to the agent at most a quarter more."""


async def measure(options: Options) -> list[Figure]:
    calls, seconds = options.count(CALLS), options.seconds or SECONDS
    allow_files()
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with AsyncExitStack() as stack:
            ways = [await stack.enter_async_context(_way(cores, name, Path(folder))) for name in WAYS]
            for way in ways:
                await way.crowd.resize(calls)
            with undisturbed():
                await asyncio.sleep(SETTLE_S)
                clear, secured = await asyncio.gather(*(_heard(way, calls, seconds) for way in ways))
            for way in ways:
                await way.crowd.resize(0)
    name = f"TLS to the agent, {calls} calls with and {calls} without at once"
    return [
        told(f"{name}: CPU a call without it", clear.cpu, "% of a core"),
        told(f"{name}: CPU a call with it", secured.cpu, "% of a core"),
        at_most(f"{name}: CPU as a multiple of that without", secured.cpu / clear.cpu, COSTLIER, "×"),
        told(f"{name}: echo p95 without it", percentile(clear.delays_ms, 95), "ms"),
        told(f"{name}: echo p95 with it", percentile(secured.delays_ms, 95), "ms"),
        exactly(f"{name}: packets and pulses lost", clear.lost + secured.lost, 0),
    ]


@dataclass(frozen=True, slots=True)
class _Way:
    """To the agent, with its bridge and its callers."""

    bridge: Bridge
    crowd: SipCrowd


@dataclass(frozen=True, slots=True)
class _Heard:
    cpu: float
    """Of the workers, % of a core a call."""
    delays_ms: list[float]
    lost: int


async def _heard(way: _Way, calls: int, seconds: float) -> _Heard:
    clocks = [CpuClock.read(pid) for pid in workers(way.bridge).values()]
    heard = await listen(way.crowd.lines, seconds)
    used = sum(clock.since().used for clock in clocks)
    return _Heard(used / calls, heard.delays_ms, heard.lost + heard.not_back + way.crowd.ended)


@asynccontextmanager
async def _way(cores: Cores, name: str, folder: Path) -> AsyncIterator[_Way]:
    async with _bridge(cores, name, folder) as bridge, LinePhone() as phone:
        yield _Way(bridge, SipCrowd(phone, bridge.uri, pulses=True))


@asynccontextmanager
async def _bridge(cores: Cores, way: str, folder: Path) -> AsyncIterator[Bridge]:
    """On its core; its agent, on the load's, is reached by ws:// or wss://."""
    authority = trustme.CA()
    pem, root, key = (folder / f"{way}-{what}" for what in ("agent.pem", "root.pem", "key"))
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
