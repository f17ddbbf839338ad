"""Whether audio still comes from the peer: counts and times in, events out. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.call.events import LegEvent, MediaBack, MediaLost

LOST_NS: Final = 2_000_000_000
"""Without a packet for so long, the audio counts as lost."""
LOOK_EVERY_NS: Final = 250_000_000


class MediaWatch:
    """Look at it as often as `next_look_ns` says. On hold there may be no RTP; session timers watch then."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_ns = int(timeout_s * 1e9)
        self._every_ns = min(self._timeout_ns // 4, LOOK_EVERY_NS)
        self._packets = 0
        self._heard_at_ns = 0
        self._lost = False
        self.next_look_ns = 0

    def start(self, now_ns: int) -> None:
        """The call was answered."""
        self._heard_at_ns = now_ns

    def silent_ns(self, now_ns: int) -> int:
        """Since the last look that found a new packet."""
        return now_ns - self._heard_at_ns

    def timed_out(self, now_ns: int) -> bool:
        """The caller has vanished."""
        return self.silent_ns(now_ns) >= self._timeout_ns

    def look(self, packets: int | None, *, held: bool, now_ns: int) -> list[LegEvent]:
        """`packets`: of the live stream, None where there is none."""
        self.next_look_ns = now_ns + self._every_ns
        if packets and packets != self._packets:
            self._packets = packets
            self._heard_at_ns = now_ns
            if self._lost:
                self._lost = False
                return [MediaBack(now_ns)]
        elif held:
            self._heard_at_ns = now_ns
        elif self.silent_ns(now_ns) >= LOST_NS and not self._lost:
            self._lost = True
            return [MediaLost(now_ns)]
        return []
