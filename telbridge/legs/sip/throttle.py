"""How many new calls a second the library survives.

A build with select() has 64 handles. Each INVITE takes two for its media, also one that is refused, and they
come free half a second after the call: at some 55 INVITEs a second its assertion ends the process.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from telbridge.legs.sip.library import PjsuaBuild

WINDOW_NS: Final = 700_000_000
INVITES: Final = 16
"""In any window: 32 handles, beside those of the four live calls."""
REMEMBERED: Final = 256


class InviteThrottle:
    """Pure: Call-IDs and times in, yes or no out. What was admitted stays so: it may be retransmitted."""

    def __init__(self) -> None:
        self._admitted_ns: deque[int] = deque()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def admits(self, call_id: bytes, now_ns: int) -> bool:
        if call_id in self._known:
            return True
        while self._admitted_ns and now_ns - self._admitted_ns[0] >= WINDOW_NS:
            self._admitted_ns.popleft()
        if len(self._admitted_ns) >= INVITES:
            return False
        self._admitted_ns.append(now_ns)
        self._known[call_id] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return True


def throttle_for(build: PjsuaBuild) -> InviteThrottle | None:
    """The built one has thousands of handles."""
    return InviteThrottle() if build.kind == "wheel" else None
