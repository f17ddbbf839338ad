"""Audio of the caller that waits in the jitter buffer: when to read more of it, and when to skip some.

A stall of ours, of the caller or of the network leaves frames standing there, and each is 20 ms of delay for
the rest of the call: pjmedia's own shrinking takes seconds and stops early. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np

WINDOW_TICKS: Final = 25
"""0.5 s: what waits all that time is no jitter."""
KEPT_FRAMES: Final = 2
"""Waiting before a read, the one about to be read included; the rest is against jitter."""
MAX_OWED: Final = 10
OWED_TICKS: Final = 10
"""What the jitter buffer did not have so long after a stall was lost, not late."""
QUIET_PEAK: Final = 300
"""Of a frame, -41 dBFS: it may be left out without a click or a word missed."""


class Backlog:
    """One a leg. Each tick: `tick`, then read once, then as often as `takes_another` says."""

    def __init__(self) -> None:
        self.surplus = 0
        """Frames that should be skipped, quiet ones."""
        self.skipped = 0
        self.owed = 0
        """Ticks to be made up for."""
        self._owed_ticks = 0
        self._ticks, self._least = 0, MAX_OWED
        self._quiet_peak = self._least_peak = QUIET_PEAK

    def tick(self, due: int, waiting: int) -> None:
        """`due`: ticks since the last one, more than 1 after a stall; `waiting`: frames before the read."""
        if due > 1:
            self.owed, self._owed_ticks = min(self.owed + due - 1, MAX_OWED), OWED_TICKS
        elif self.owed:
            self._owed_ticks -= 1
            if not self._owed_ticks:
                self.owed = 0
        self._least = min(self._least, waiting)
        self._ticks += 1
        if self._ticks >= WINDOW_TICKS:
            self._judge()

    def takes_another(self, waiting: int) -> bool:
        """After a stall the ticks that were missed are made up for, but only by what is there: reading an
        empty buffer would invent a frame, and the true one would come on top of it."""
        if not self.owed or not waiting:
            return False
        self.owed -= 1
        return True

    def skips(self, frame: memoryview) -> bool:
        """Whether this frame (linear, 16 bit) is left out and the next one read in its place.

        A line that is never quiet gives what was quietest within a window.
        """
        if not self.surplus:
            return False
        peak = int(np.abs(np.frombuffer(frame, "<i2").astype(np.int32)).max(initial=0))
        self._least_peak = min(self._least_peak, peak)
        if peak > self._quiet_peak:
            return False
        self.surplus -= 1
        self.skipped += 1
        return True

    def _judge(self) -> None:
        still = self.surplus
        self.surplus = max(0, self._least - KEPT_FRAMES)
        self._quiet_peak = max(QUIET_PEAK, self._least_peak) if still and self.surplus else QUIET_PEAK
        self._ticks, self._least, self._least_peak = 0, MAX_OWED, 32768
