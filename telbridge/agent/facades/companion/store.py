"""Connections of Napster's Companion API between their creation over REST and their end.

Sources: https://developers.napster.com/docs/deploying-your-agent/connections/websockets and the vendor's
skills (https://github.com/Napster/omniagent-api-skills). The limits are the vendor's to set and have
changed (5 sessions, one creation in 5 s, then one a second): here they are off unless given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from telbridge.agent.facades.companion.schema import Wanted

TOKEN_LIFE_S: Final = 60
"""How long a token waits for its WebSocket; the service's own time is documented nowhere."""


@dataclass(frozen=True, slots=True)
class CompanionOptions:
    """What tests of a client may want to be different."""

    concurrent_max: int | None = None
    """Sessions at once; one more is answered 409."""
    creation_interval_s: float = 0.0
    """Time between two creations; what comes sooner is answered 429."""
    duplicate_calls: bool = False
    """Each function call is told twice, as the pages say may happen."""


class Abortable(Protocol):
    def abort(self) -> None:
        """End the session from outside."""


@dataclass(frozen=True, slots=True)
class TooManyError(Exception):
    """No session now. `retry_after_s`: None where waiting alone does not help."""

    retry_after_s: float | None


@dataclass(slots=True)
class _Connection:
    wanted: Wanted
    token: str | None
    """None once it has been used."""
    expires_ns: int
    session: Abortable | None = None


@dataclass(slots=True)
class Connections:
    """All that are pending or live, by id."""

    options: CompanionOptions
    _connections: dict[str, _Connection] = field(default_factory=dict)
    _next_creation_ns: int = 0

    def pace(self, *, now_ns: int) -> None:
        """Count one creation. TooManyError if it comes too soon."""
        if now_ns < self._next_creation_ns:
            raise TooManyError((self._next_creation_ns - now_ns) / 1e9)
        self._next_creation_ns = now_ns + int(self.options.creation_interval_s * 1e9)

    def create(self, connection_id: str, token: str, wanted: Wanted, *, now_ns: int) -> None:
        """TooManyError if as many as may be are there; those whose token has lapsed are not."""
        late = [key for key, kept in self._connections.items() if kept.token and now_ns >= kept.expires_ns]
        for key in late:
            del self._connections[key]
        limit = self.options.concurrent_max
        if limit is not None and len(self._connections) >= limit:
            raise TooManyError(None)
        self._connections[connection_id] = _Connection(wanted, token, now_ns + TOKEN_LIFE_S * 1_000_000_000)

    def redeem(self, token: str, *, now_ns: int) -> tuple[str, Wanted] | None:
        """Id and session that this token opens; None if it opens none (any more)."""
        for connection_id, kept in self._connections.items():
            if token and kept.token == token and now_ns < kept.expires_ns:
                kept.token = None
                return connection_id, kept.wanted
        return None

    def begun(self, connection_id: str, session: Abortable) -> None:
        if (kept := self._connections.get(connection_id)) is not None:
            kept.session = session
        else:
            session.abort()  # deleted while its WebSocket was being opened

    def ended(self, connection_id: str) -> None:
        self._connections.pop(connection_id, None)

    def abort(self, connection_id: str) -> bool:
        """End it; False if there is none."""
        kept = self._connections.pop(connection_id, None)
        if kept is not None and kept.session is not None:
            kept.session.abort()
        return kept is not None
