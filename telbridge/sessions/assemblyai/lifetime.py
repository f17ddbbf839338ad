"""How long an AssemblyAI session has to live, by the server's own clock."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from telbridge.call.events import AgentEvent, SessionExpiring
from telbridge.dialplan.vocabulary import Json

EXPIRY_NOTICE_S: Final = 60.0
"""So long before its end a session is told to be expiring."""


class Lifetime:
    """Of one session; its end is told once, in time for what must be said before."""

    def __init__(self) -> None:
        self._expires_ns: int | None = None
        self.is_ending = False
        """It was told: this session is not worth resuming."""

    def begin(self, ready: Json, now_ns: int) -> None:
        """session.ready."""
        life_s = lifetime_s(ready)
        if life_s is not None:
            self._expires_ns = now_ns + int(life_s * 1e9)

    def deadline_ns(self) -> int | None:
        return None if self._expires_ns is None else self._expires_ns - int(EXPIRY_NOTICE_S * 1e9)

    def time_passed(self, now_ns: int) -> list[AgentEvent]:
        if self._expires_ns is None or self._expires_ns - now_ns > EXPIRY_NOTICE_S * 1e9:
            return []
        left_s = (self._expires_ns - now_ns) / 1e9
        self._expires_ns, self.is_ending = None, True
        return [SessionExpiring(max(0.0, left_s), of_age=True)]


def lifetime_s(ready: Json) -> float | None:
    """Seconds from session.ready to its `expires_at`; None if the message does not tell both times. Only the
    difference counts: our own clock may be set to anything."""
    expires, now = epoch_s(ready.get("expires_at")), epoch_s(ready.get("timestamp"))
    return None if expires is None or now is None else max(0.0, expires - now)


def epoch_s(found: object) -> float | None:
    """A moment: epoch seconds from live servers, ISO 8601 on the vendor's pages."""
    if isinstance(found, str):
        try:
            return datetime.fromisoformat(found).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if abs(found) < 1e12 and math.isfinite(found) else None
