"""One clock for all stream legs of a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from telbridge.call.events import Ending
from telbridge.legs.sip.ticker import Ticker

TICK_NS: Final = 20_000_000


class Ticking(Protocol):
    """What the clock drives."""

    def tick(self, now_ns: int) -> None: ...

    def end(self, ending: Ending, detail: str = "") -> None: ...


class StreamClock:
    """Ticks every 20 ms: one timer, no task, no timer a call."""

    def __init__(self, clock: Callable[[], int], log: Any) -> None:
        self._clock, self._log = clock, log
        self._legs: dict[int, Ticking] = {}
        self._ticker = Ticker(TICK_NS, self._tick)

    def __len__(self) -> int:
        return len(self._legs)

    def add(self, leg: Ticking) -> None:
        self._legs[id(leg)] = leg

    def remove(self, leg: Ticking) -> None:
        self._legs.pop(id(leg), None)

    def stop(self) -> None:
        """Safe twice."""
        self._ticker.stop()

    def _tick(self, _periods: int) -> None:
        """After a stall one tick is enough: legs look at the time, not at the number of ticks."""
        now_ns = self._clock()
        for leg in list(self._legs.values()):
            try:
                leg.tick(now_ns)
            except Exception:  # noqa: BLE001 - the wall between calls
                self._log.exception("stream_bug", where="tick")
                leg.end(Ending.INTERNAL_ERROR)
