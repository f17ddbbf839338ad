"""A worker's pulse: how late its event loop is, and what SIP has refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from telbridge.legs.sip.endpoint import Counters
from telbridge.legs.sip.ticker import Ticker
from telbridge.ops.metrics import Metrics

BEAT_NS: Final = 100_000_000
LOOK_EVERY: Final = 10
"""Beats between two looks at what SIP counts."""


class SipDoor(Protocol):
    """SipEndpoint."""

    @property
    def counters(self) -> Counters: ...


class Pulse:
    """Beats from here to `stop`."""

    def __init__(
        self, metrics: Metrics, sip: SipDoor, *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._lag, self._metrics, self._sip, self._clock = metrics.loop_lag, metrics, sip, clock
        self._seen: dict[str, int] = {}
        self._beats = 0
        self._due_ns = clock() + BEAT_NS
        self._ticker = Ticker(BEAT_NS, self._beat)

    def stop(self) -> None:
        """A last look; safe twice."""
        self._look()
        self._ticker.stop()

    def _beat(self, periods: int) -> None:
        """The first of the beats that are due is the one that waited longest."""
        self._lag.observe(max(0, self._clock() - self._due_ns) / 1e9)
        self._due_ns += periods * BEAT_NS
        self._beats += 1
        if self._beats % LOOK_EVERY == 0:
            self._look()

    def _look(self) -> None:
        for reason, count in _refusals(self._sip.counters):
            new = count - self._seen.get(reason, 0)
            self._seen[reason] = count
            for _ in range(new):
                self._metrics.offered("sip")
                self._metrics.rejected("sip", reason)


def _refusals(counters: Counters) -> Iterator[tuple[str, int]]:
    yield "full", counters.calls_refused_full
    yield "draining", counters.calls_refused_draining
    yield "codec", counters.calls_refused_codec
    yield "throttled", counters.calls_throttled
