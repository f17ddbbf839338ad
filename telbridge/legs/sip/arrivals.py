"""When the audio came that is being read: pjmedia does not tell, but how much stands in its jitter buffer.

What was not there a tick ago has come since; its time is the middle, so off by half a tick at most. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FAR_NS: Final = 100_000_000
"""After a stall of ours nobody knows: what is there has just come."""


class Arrivals:
    """One stream's. Each tick: `look`; after each read: `taken`."""

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        """Of what stands there, in the jitter buffer's own pieces: a frame of ours is one or more."""
        self._a_frame = 0
        self._looked_ns = 0

    def look(self, waiting: int, now_ns: int) -> None:
        """So many pieces stand there now."""
        since_ns = now_ns - self._looked_ns
        self._looked_ns = now_ns
        if waiting != len(self._times):
            self._match(waiting, now_ns - since_ns // 2 if since_ns < FAR_NS else now_ns)

    def taken(self, waiting: int, now_ns: int) -> int:
        """A frame was read, and so many pieces stand there after it: when it came. Now, if it was made up."""
        gone = len(self._times) - waiting
        if gone == 1 == self._a_frame:
            return self._times.popleft()
        if gone > 0:
            self._a_frame = min(gone, self._a_frame or gone)
        else:  # Others came while it was read, or there was nothing to read.
            gone = min(self._a_frame, len(self._times))
        came_ns = now_ns
        for _ in range(gone):
            came_ns = self._times.popleft()
        self._match(waiting, now_ns)
        return came_ns

    def _match(self, waiting: int, came_ns: int) -> None:
        while len(self._times) > waiting:  # The jitter buffer threw some away: the oldest.
            self._times.popleft()
        self._times.extend([came_ns] * (waiting - len(self._times)))
