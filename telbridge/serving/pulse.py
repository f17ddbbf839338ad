"""A worker's pulse: that it lives, how late its event loop is, and which calls its doors have refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from telbridge.legs.sip.endpoint import Counters
from telbridge.legs.sip.ticker import Ticker
from telbridge.ops.metrics import Metrics

BEAT_NS: Final = 100_000_000
LOOK_EVERY: Final = 10
"""Beats between two looks at the doors."""

Refused = tuple[str, str, int]
"""The kind of leg, why, and how many calls since the start."""


class Pulse:
    """Beats from here to `stop`."""

    def __init__(
        self,
        metrics: Metrics,
        refused: Callable[[], Iterator[Refused]],
        *,
        show: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`refused`: what never became a call. `show`: called once a second, as long as the event loop
        turns."""
        self._lag, self._metrics, self._refused, self._clock = metrics.loop_lag, metrics, refused, clock
        self._show = show
        self._seen: Counter[tuple[str, str]] = Counter()
        self._beats = 0
        self._due_ns = clock() + BEAT_NS
        self._look(born=True)
        self._ticker = Ticker(BEAT_NS, self._beat)

    def stop(self) -> None:
        """After a last look; safe twice."""
        self._look()
        self._ticker.stop()

    def _beat(self, periods: int) -> None:
        """Of the beats that are due, the first has waited longest."""
        self._lag.observe(max(0, self._clock() - self._due_ns) / 1e9)
        self._due_ns += periods * BEAT_NS
        self._beats += 1
        if self._beats % LOOK_EVERY == 0:
            self._show()
            self._look()

    def _look(self, *, born: bool = False) -> None:
        """`born`: for the first time; what has not happened yet is counted as 0, so that its first time
        shows."""
        for ingress, why, count in self._refused():
            new = count - self._seen[ingress, why]
            self._seen[ingress, why] = count
            if new or born:
                self._metrics.refused(ingress, why, new)


def refused_by_sip(counters: Counters) -> Iterator[Refused]:
    """Strangers are none of these."""
    yield "sip", "full", counters.calls_refused_full
    yield "sip", "draining", counters.calls_refused_draining
    yield "sip", "codec", counters.calls_refused_codec
    yield "sip", "throttled", counters.calls_throttled


def refused_streams(no_room: Mapping[str, int]) -> Iterator[Refused]:
    """Of whichever carrier: nobody has asked yet."""
    for why, count in ({"full": 0, "draining": 0} | dict(no_room)).items():
        yield "stream", why, count
