"""Keys from the library's DTMF reports: one `Dtmf` a key, with its length where the peer tells it.

RFC 4733 events are reported at their start, at each update and at their end. The key counts at its end; when
the three end packets are lost, at the next key or after a while.
"""

from __future__ import annotations

from telbridge.call.events import Dtmf

IS_UPDATE = 1
IS_END = 2
"""PJMEDIA_STREAM_DTMF_IS_UPDATE and _IS_END (pjmedia/stream.h)."""
LOST_END_NS = 400_000_000
"""Updates come every 20 to 50 ms: after so long without one the end was lost."""
_UNKNOWN_DURATION = 0xFFFFFFFF
_MAX_DURATION_MS = 60_000
_KEYS = frozenset("0123456789*#ABCD")


class KeyWatch:
    """Pure: reports in, keys out."""

    def __init__(self) -> None:
        self.down: Dtmf | None = None
        """The key that is being pressed."""
        self._seen_at_ns = 0

    def seen(self, digit: str, duration_ms: int, flags: int, now_ns: int, *, from_info: bool) -> list[Dtmf]:
        digit = digit.upper()
        if digit not in _KEYS:
            return []
        if not 0 <= duration_ms <= _MAX_DURATION_MS:
            duration_ms = 0
        if from_info:
            return [Dtmf(digit, "info", duration_ms, now_ns)]
        done = []
        if self.down and not flags & IS_UPDATE:
            done.append(self.down)
            self.down = None
        key = Dtmf(digit, "rfc4733", duration_ms, now_ns)
        if flags & IS_END:
            # A second end of the same key (its update flag set, nothing down) says nothing new.
            if self.down or not flags & IS_UPDATE:
                done.append(key)
            self.down = None
        elif self.down or not flags & IS_UPDATE:
            self.down, self._seen_at_ns = key, now_ns
        return done

    def overdue(self, now_ns: int) -> list[Dtmf]:
        """The key whose end was lost, if there is one."""
        return self.ended() if now_ns - self._seen_at_ns >= LOST_END_NS else []

    def ended(self) -> list[Dtmf]:
        """Nothing more comes: a key that is down counts. Who presses one and hangs up may be read so, for
        signalling and audio come by two sockets."""
        if self.down is None:
            return []
        key, self.down = self.down, None
        return [key]
