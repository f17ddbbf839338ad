"""Audio of the caller that waits in the jitter buffer: when to read more of it, and when to make it shorter.

A stall of ours, of the caller or of the network leaves frames standing there, and each is 20 ms of delay for
the rest of the call: pjmedia's own shrinking takes seconds and stops early. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np

WINDOW_TICKS: Final = 25
"""0.5 s: what waits all that time is no jitter."""
KEPT_PIECES: Final = 2
"""Waiting before a read, those about to be read included; the rest is against jitter. With G.711 pjmedia cuts
packets into pieces of 10 ms: two are the frame that is read."""
MAX_OWED: Final = 25
OWED_TICKS: Final = 10
"""What the jitter buffer did not have so long after a stall was lost, not late."""
QUIET_PEAK: Final = 300
"""Of a frame, -41 dBFS: it goes at once, nobody would miss it."""
_PLENTY: Final = 1 << 30
EVERY_TICKS: Final = 4
"""Of a line that is never quiet frames go no closer together than this."""


class Backlog:
    """One a leg. Each tick: `tick`, then read once, then as often as `takes_another` says."""

    def __init__(self, pieces: int) -> None:
        """So many pieces of what waits are one frame."""
        self.surplus = 0
        """Frames that should go."""
        self.gone = 0
        self.owed = 0
        """Ticks to be made up for."""
        self._pieces = pieces
        self._owed_ticks = 0
        self._ticks, self._least = 0, _PLENTY
        self._since = EVERY_TICKS

    def tick(self, due: int, waiting: int) -> None:
        """`due`: ticks since the last one, more than 1 after a stall; `waiting`: pieces before the read."""
        if due > 1:
            self.owed, self._owed_ticks = min(self.owed + due - 1, MAX_OWED), OWED_TICKS
        elif self.owed:
            self._owed_ticks -= 1
            if not self._owed_ticks:
                self.owed = 0
        if waiting < self._least:
            self._least = waiting
        self._since += 1
        self._ticks += 1
        if self._ticks >= WINDOW_TICKS:
            self._judge()

    def takes_another(self, waiting: int) -> bool:
        """After a stall the ticks that were missed are made up for, but only by what is there: reading an
        empty buffer would invent a frame, and the true one would come on top of it."""
        if not self.owed or waiting < self._pieces:
            return False
        self.owed -= 1
        return True

    def joins(self, frame: memoryview, waiting: int, *, loud_too: bool = True) -> bool:
        """Whether this frame (linear, 16 bit) and the next become one; `waiting`: pieces behind it. What was
        too much half a second ago may be gone: a key or a gap empties the jitter buffer."""
        if not self.surplus or waiting < max(KEPT_PIECES, self._pieces):
            return False
        if not loud_too or self._since < EVERY_TICKS:
            peak = int(np.abs(np.frombuffer(frame, "<i2").astype(np.int32)).max(initial=0))
            if peak > QUIET_PEAK:
                return False
        self.surplus -= 1
        self.gone += 1
        self._since = 0
        return True

    def _judge(self) -> None:
        self.surplus = min(max(0, self._least - KEPT_PIECES) // self._pieces, MAX_OWED)
        self._ticks, self._least = 0, _PLENTY
