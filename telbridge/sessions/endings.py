"""What the end of an agent's WebSocket, or an HTTP status in its place, means for the call: one rule for all.

None of the vendors lists its close codes, so they are read by their general meaning (RFC 6455 §7.4), after
whatever the API said before it closed. A code that nobody explains gets another try: tries are few, and a
caller is waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telbridge.call.events import Ending, SessionEnd

NORMAL: Final = frozenset({1000, 1005})
"""The peer closed on purpose; 1005: its close frame names no code. A broken connection has none."""
OUR_FAULT: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""The peer blames what we sent: the same would happen again."""
MOST_REASON: Final = 200

_PASSING: Final = frozenset({408, 409, 425, 429})
"""Too early, too many: passes by itself. From 500 on the API blames itself."""


def described(code: int | None, reason: str) -> str:
    """For `SessionEnd.detail`."""
    said = reason[:MOST_REASON]
    if code is None:
        return said or "connection lost"
    return f"close {code}: {said}" if said else f"close {code}"


def of_close(code: int | None, reason: str, *, ready: bool) -> SessionEnd:
    """Of a WebSocket whose end nothing announced. `ready`: the session had been."""
    detail = described(code, reason)
    if not ready:
        detail += "; before the session was ready"
    if code in NORMAL:
        return SessionEnd(Ending.AGENT_HUNG_UP if ready else Ending.AGENT_UNREACHABLE, detail)
    if code in OUR_FAULT:
        return SessionEnd(Ending.AGENT_LOST if ready else Ending.AGENT_REFUSED, detail)
    return SessionEnd(Ending.AGENT_LOST if ready else Ending.AGENT_UNREACHABLE, detail, may_reconnect=True)


def remedies(
    *, key: str, rights: str = "the key's permissions", address: str = "url", request: str = ""
) -> dict[int, str]:
    """What to do about the statuses that no further try mends; the arguments say what to look at."""
    return {
        400: f"the API took the request for malformed; check {request or address}",
        401: f"the key was refused; check {key}",
        402: "the account has no credit; check its balance",
        403: f"the key may not do this; check {rights}",
        404: f"no such address; check {address}",
    }


def of_status(
    status: int | None, remedy: Mapping[int, str], *, what: str = "instead of a WebSocket"
) -> SessionEnd:
    """Of an HTTP answer that is not the wanted one; None: no answer came. `what` it was to be."""
    if status is None:
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"no answer {what}", may_reconnect=True)
    if status in remedy:
        return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status} {what}: {remedy[status]}")
    passes = status in _PASSING or status >= 500
    return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} {what}", may_reconnect=passes)
