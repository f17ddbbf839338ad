"""What metrics, records and the speech meter cost: a worker with them and one without, in turns.

Both run all the time on telbridge's core, and take the load by turns (with, without, without, with …), so
that what else the machine does falls on both. Over a call's talk, and over its whole life with set-up and
record.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.crowd import Cores, allow_files, listen, on_two_cores
from bench.figures import Figure, at_most, percentile, told
from bench.lines import LinePhone
from bench.options import Options
from bench.phone import undisturbed
from bench.processes import CpuClock, child, echo_agent
from bench.sides import SipCrowd
from tests.e2e.bridge import environment
from tests.ports import free_port

CALLS: Final = 40
SECONDS: Final = 8.0
ROUNDS: Final = 4
SETTLE_S: Final = 1.0
MORE: Final = 10.0
"""% that everything may cost on top of nothing."""


@dataclass(frozen=True, slots=True)
class Turn:
    """CPU of one worker's turn, a call."""

    talk: float
    """% of a core while all talk."""
    life_ms: float
    """From before the first INVITE until all was over."""
    load_gap_p99_ms: float


async def measure(options: Options) -> list[Figure]:
    calls, seconds = options.count(CALLS), options.seconds or SECONDS
    allow_files()
    turns: dict[str, list[Turn]] = {"with": [], "without": []}
    with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(echo_agent())
            workers = {}
            for name in turns:
                own = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
                workers[name] = await stack.enter_async_context(
                    _worker(cores, url, Path(own), bare=name == "without")
                )
            for round_number in range(ROUNDS):
                order = list(turns) if round_number % 2 == 0 else list(turns)[::-1]
                for name in order:
                    turns[name].append(await _turn(workers[name], calls, seconds))
    name = f"overhead, {calls} calls of {seconds:g} s"
    figures = []
    for what, unit in (("talk", "% of a core"), ("life_ms", "ms of CPU")):
        medians = {kind: statistics.median(getattr(turn, what) for turn in turns[kind]) for kind in turns}
        said = "talk" if what == "talk" else "whole life"
        figures += [
            told(f"{name}: {said}, with all, a call", medians["with"], unit),
            told(f"{name}: {said}, with none, a call", medians["without"], unit),
            at_most(f"{name}: {said}, more by", 100 * (medians["with"] / medians["without"] - 1), MORE, "%"),
        ]
    pairs = [100 * (a.talk / b.talk - 1) for a, b in zip(turns["with"], turns["without"], strict=True)]
    gaps = [turn.load_gap_p99_ms for kind in turns.values() for turn in kind]
    return [
        *figures,
        told(f"{name}: talk, more by, least of {ROUNDS} rounds", min(pairs), "%"),
        told(f"{name}: talk, more by, most of {ROUNDS} rounds", max(pairs), "%"),
        told(f"{name}: the caller's own packet gap p99", max(gaps), "ms"),
    ]


@asynccontextmanager
async def _worker(
    cores: Cores, agent_url: str, folder: Path, *, bare: bool
) -> AsyncIterator[Mapping[str, Any]]:
    """Its ready line with its `pid`, and `uri` to call."""
    port = free_port()
    settings: dict[str, dict[str, Any]] = {
        "sip": {"host": "127.0.0.1", "port": port},
        "http": {"port": free_port()},
        "call": {"greeting": '""'},
        "records": {"path": str(folder / "calls.jsonl")},
        "log": {"format": "json"},
    }
    environ = environment("built", settings)
    # Metrics go to a file in memory, as under a supervisor.
    environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    taken_out = ["--bare"] if bare else []
    async with AsyncExitStack() as stack:
        with cores.bridges_start():
            ready = await stack.enter_async_context(
                child("bench.lone_worker", str(urlsplit(agent_url).port), *taken_out, environ=environ)
            )
        yield {**ready, "uri": f"sip:agent@127.0.0.1:{port}"}


async def _turn(worker: Mapping[str, Any], calls: int, seconds: float) -> Turn:
    async with LinePhone() as phone:
        crowd = SipCrowd(phone, worker["uri"], pulses=True)
        born = CpuClock.read(worker["pid"])
        await crowd.resize(calls)
        with undisturbed():
            await asyncio.sleep(SETTLE_S)
            clock = CpuClock.read(worker["pid"])
            heard = await listen(crowd.lines, seconds)
            talk = clock.since().used / calls
        if heard.not_back:
            print(f"  {heard.not_back} pulses lost")
        await crowd.resize(0)
        await asyncio.sleep(SETTLE_S)
        life_s = CpuClock.read(worker["pid"]).used_s - born.used_s
    return Turn(talk, 1000 * life_s / calls, percentile(heard.sending_gaps_ms, 99))
