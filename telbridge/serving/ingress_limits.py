"""How much one address may ask. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_ADDRESSES: Final = 4_096
"""Remembered at a time; the one that has been quiet longest is forgotten."""


class Throttle:
    """A bucket an address: `rate` a second, twice as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._burst = rate, 2 * rate
        self.shared_by = 1
        """Workers that have such buckets: together they fill at `rate`. How many come at once is counted by
        each, for who asks much asks over one connection, and those are at one worker."""
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def admits(self, address: str, now_ns: int) -> bool:
        """Take one from the bucket; False if it is empty."""
        left, since_ns = self._buckets.pop(address, (self._burst, now_ns))
        left = min(self._burst, left + (now_ns - since_ns) * self._rate / self.shared_by / 1e9)
        admitted = left >= 1
        self._put(address, left - 1 if admitted else left, now_ns)
        self.refused += not admitted
        return admitted

    def give_back(self, address: str, now_ns: int) -> None:
        """The request turned out to be welcome: those are not counted."""
        left, since_ns = self._buckets.pop(address, (self._burst, now_ns))
        self._put(address, min(self._burst, left + 1), since_ns)

    def _put(self, address: str, left: float, now_ns: int) -> None:
        self._buckets[address] = (left, now_ns)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)


class Seldom:
    """For a log line that strangers can cause: one a second, with the number of those left out."""

    def __init__(self, every_ns: int = 1_000_000_000) -> None:
        self._every_ns = every_ns
        self._next_ns = 0
        self._left_out = 0

    def now(self, now_ns: int) -> int | None:
        """How many were left out since the last one; None: leave this one out."""
        if now_ns < self._next_ns:
            self._left_out += 1
            return None
        self._next_ns = now_ns + self._every_ns
        left_out, self._left_out = self._left_out, 0
        return left_out
