"""Forty calls talk while the workers are replaced: what they hear of it, and how soon the new ones serve."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import pairwise
from typing import Final

import aiohttp

from bench.figures import Figure, at_most, exactly, percentile, told
from bench.phone import spread_phone, talking, undisturbed
from bench.processes import bridge
from telbridge.caller import CallHandle
from telbridge.serving.upgrade import HEADER, PATH

CALLS: Final = int(os.environ.get("UPGRADE_CALLS", "40"))
AROUND_S: Final = 2.0
GAP_MS: Final = 40.0
NEW_CALL_S: Final = 5.0
SETTINGS: Final = {"local_agent": {"brain": "echo"}, "sip": {"dispatcher": True}}


async def measure() -> list[Figure]:
    async with (
        bridge("built", SETTINGS) as running,
        spread_phone(CALLS) as phone,
        talking(phone, running.uri, CALLS) as calls,
    ):
        with undisturbed():
            await asyncio.sleep(AROUND_S)
            start_ns = time.monotonic_ns()
            async with (
                aiohttp.ClientSession(headers={HEADER: "bench"}) as http,
                http.post(running.admin + PATH) as answer,
            ):
                assert answer.status == 200, await answer.text()
            upgraded_ns = time.monotonic_ns()
            fresh = await phone.call(running.uri)
            await fresh.wait_answered(10)
            answered_ns = time.monotonic_ns()
            new = _worker_of(fresh)
            await asyncio.sleep(AROUND_S)
            end_ns = time.monotonic_ns()
        await fresh.hang_up()
        alive = sum(call.ended is None for call in calls)
        gaps = [gap for call in calls for gap in _gaps_ms(call, start_ns, end_ns)]
        lost = sum(_lost(call, start_ns, end_ns) for call in calls)
    return [
        exactly(f"upgrade: calls of {CALLS} that it ended", CALLS - alive, 0),
        exactly("upgrade: packets that they lost", lost, 0),
        at_most("upgrade: their packet gap p99", percentile(gaps, 99), 25.0, "ms"),
        at_most("upgrade: their packet gap, longest", max(gaps), GAP_MS, "ms"),
        exactly("upgrade: new call at an old worker", int(new == 1), 0),
        told("upgrade: until the command is through", (upgraded_ns - start_ns) / 1e9, "s"),
        at_most("upgrade: order to first new call answered", (answered_ns - start_ns) / 1e9, NEW_CALL_S, "s"),
    ]


def _worker_of(call: CallHandle) -> int:
    return int(call.dialog.peers.routes[0].uri.parameters["w"] or 0)


def _gaps_ms(call: CallHandle, start_ns: int, end_ns: int) -> list[float]:
    times = [packet.at_ns for packet in call.received if start_ns <= packet.at_ns <= end_ns]
    return [(later - before) / 1e6 for before, later in pairwise(times)] or [float("inf")]


def _lost(call: CallHandle, start_ns: int, end_ns: int) -> int:
    seen = [packet.sequence for packet in call.received if start_ns <= packet.at_ns <= end_ns]
    return sum((later - before - 1) & 0xFFFF for before, later in pairwise(seen))
