"""The wheel carries four calls at a time: a fifth gets its answer, and the four hear nothing of it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import Final

from bench.echo import PULSES, echo_figures
from bench.figures import Figure, exactly, told
from bench.phone import echo_run, spread_phone, talking
from bench.processes import echo_bridge
from telbridge.caller import CallFailed, Softphone

CALLS: Final = 4
ATTEMPT_EVERY_S: Final = 0.5
ANSWER_S: Final = 5.0
REFUSALS: Final = (486, 503)


@dataclass(slots=True)
class Attempts:
    """Fifth calls, one after the other, and what they were told."""

    statuses: list[int] = field(default_factory=list)
    """0 for one that was answered, or not at all."""
    answer_ms: list[float] = field(default_factory=list)

    async def run(self, phone: Softphone, uri: str) -> None:
        """Until cancelled."""
        while True:
            await self._attempt(phone, uri)
            await asyncio.sleep(ATTEMPT_EVERY_S)

    async def _attempt(self, phone: Softphone, uri: str) -> None:
        started_ns = time.monotonic_ns()
        fifth = await phone.call(uri)
        try:
            await fifth.wait_answered(ANSWER_S)
            status = 0
        except CallFailed as refusal:
            status = refusal.ended.code or 0
        except TimeoutError:
            status = 0
        self.answer_ms.append((time.monotonic_ns() - started_ns) / 1e6 if status else math.inf)
        self.statuses.append(status)
        await fifth.hang_up()


async def measure() -> list[Figure]:
    attempts = Attempts()
    async with (
        echo_bridge("wheel") as bridge,
        spread_phone(CALLS) as phone,
        talking(phone, bridge.uri, CALLS) as calls,
    ):
        fifth = asyncio.create_task(attempts.run(phone, bridge.uri))
        try:
            run = await echo_run(calls, PULSES)
        finally:
            fifth.cancel()
            await asyncio.wait([fifth])
        ended = sum(call.ended is not None for call in calls)
        sources = sum(len(call.media.sources) for call in calls)
    refused = sum(status in REFUSALS for status in attempts.statuses)
    tried = len(attempts.statuses)
    name = f"capacity, wheel, {CALLS} calls"
    return [
        exactly(f"{name}: fifth calls without 486 or 503, of {tried}", tried - refused, 0),
        told(f"{name}: until the fifth is refused, longest", max(attempts.answer_ms, default=math.inf), "ms"),
        exactly(f"{name}: calls that ended meanwhile", ended, 0),
        exactly(f"{name}: where their sound comes from", sources, CALLS, "sources"),
        *echo_figures(f"{name}, a fifth tries", run),
    ]
