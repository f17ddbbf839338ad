"""Requests that a vendor takes only so often wait for their turn, whichever call they are of. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.sessions.base import Pace

MOST_NAMES: Final = 1000


class Pacing:
    """When the next request of each name may go. One of these serves a process."""

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}

    def turn(self, pace: Pace, now_s: float, *, at_most_s: float) -> float:
        """Seconds to wait; the turn is taken. One that would be more than `at_most_s` away is not waited for,
        nor does it make others wait: the vendor may refuse it."""
        wait_s = max(0.0, self._next_s.get(pace.name, now_s) - now_s)
        if wait_s > at_most_s:
            return at_most_s
        self._next_s.pop(pace.name, None)  # The youngest last.
        self._next_s[pace.name] = now_s + wait_s + pace.every_s
        if len(self._next_s) > MOST_NAMES:
            del self._next_s[next(iter(self._next_s))]
        return wait_s


EVERYBODY: Final = Pacing()
