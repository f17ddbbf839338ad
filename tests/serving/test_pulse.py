"""A worker's pulse: the lag of its event loop, and what its doors refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from prometheus_client import CollectorRegistry

from telbridge.legs.sip.endpoint import Counters
from telbridge.ops.metrics import Metrics
from telbridge.serving.pulse import Pulse, refused_by_sip, refused_streams


async def test_a_stalled_loop_is_seen_and_a_quiet_one_is_not() -> None:
    registry = CollectorRegistry()
    pulse = Pulse(Metrics(registry), lambda: iter(()))

    def count(least: str = "") -> float:
        name = "telbridge_event_loop_lag_seconds_" + ("bucket" if least else "count")
        return registry.get_sample_value(name, {"le": least} if least else {}) or 0.0

    async def beats(number: int) -> None:
        async with asyncio.timeout(20):
            while count() < number:  # noqa: ASYNC110 - a registry tells nobody
                await asyncio.sleep(0.01)

    await beats(1)
    time.sleep(0.75)  # noqa: ASYNC251 - what a pulse is for
    before = count()
    await beats(int(before) + 1)
    pulse.stop()
    assert count("0.5") < count(), "no beat was half a second late"
    (total,) = [registry.get_sample_value("telbridge_event_loop_lag_seconds_sum")]
    assert total is not None
    assert total >= 0.6


async def test_calls_that_found_a_door_closed_are_offered_and_rejected() -> None:
    registry = CollectorRegistry()
    counters, no_room = Counters(), Counter[str]()

    def refused() -> list[tuple[str, str, int]]:
        return [*refused_by_sip(counters), *refused_streams(no_room)]

    pulse = Pulse(Metrics(registry), lambda: iter(refused()))
    counters.calls_refused_full, counters.strangers_dropped = 3, 9
    no_room["draining"] = 2
    pulse.stop()
    counters.calls_refused_full = 4
    pulse.stop()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"telbridge_{name}_total", labels)

    assert value("calls_rejected", ingress="sip", reason="full") == 4
    assert value("calls_rejected", ingress="stream", reason="draining") == 2
    assert value("calls_offered", ingress="sip", trunk="") == 4
