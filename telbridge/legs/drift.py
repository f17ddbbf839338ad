"""How much faster or slower a peer's clock runs than ours, by what it sends in how much time. Pure.

The network delays what is sent, never the other way round: so the least delay of some seconds is compared
with that of some seconds much later.
"""

from __future__ import annotations

from typing import Final

WINDOW_NS: Final = 5_000_000_000
JUMP_NS: Final = 300_000_000
"""A delay that grows by so much at once is no clock: the peer paused. All begins anew."""
ABSURD_PPM: Final = 2_000.0
"""No clock is so wrong; the peer sends other frames than we think."""


class Drift:
    """Of one stream. `note` it as often as you like, `ppm` at any time."""

    def __init__(self, shortest_s: float) -> None:
        """`shortest_s`: less time than that proves nothing."""
        self._shortest_ns = int(shortest_s * 1e9)
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None
        self._least: tuple[int, int] | None = None
        self._window_ns = 0
        self._delay_ns = 0

    def note(self, audio_ns: int, now_ns: int) -> None:
        """So much audio has come since the start, the lost included."""
        delay_ns = now_ns - audio_ns
        if self._least is None or delay_ns > self._delay_ns + JUMP_NS:
            self._first = self._last = None
            self._least, self._window_ns = (delay_ns, now_ns), now_ns
        elif delay_ns < self._least[0]:
            self._least = delay_ns, now_ns
        self._delay_ns = delay_ns
        if now_ns - self._window_ns >= WINDOW_NS:
            self._first = self._first or self._least
            self._last = self._least
            self._least, self._window_ns = (delay_ns, now_ns), now_ns

    @property
    def ppm(self) -> float | None:
        """Above 0: the peer's clock is faster than ours. None while that is not known."""
        if self._first is None or self._last is None:
            return None
        (before_ns, began_ns), (after_ns, ended_ns) = self._first, self._last
        length_ns = ended_ns - began_ns
        if length_ns < self._shortest_ns:
            return None
        ppm = (before_ns - after_ns) / length_ns * 1e6
        return ppm if abs(ppm) <= ABSURD_PPM else None
