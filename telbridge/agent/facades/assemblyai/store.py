"""What AssemblyAI's service remembers beyond one connection: temporary tokens, and sessions that dropped.

Sources: the vendor's pages "Generate a voice agent token" and "Events reference" (`session.resume`). Both
are kept as documented. Live, tokens were seen to work more than once and no session could be resumed
(September 2026); a client that is well with this agent is well with both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from telbridge.agent.facades.assemblyai.schema import Json, Refusal, RefusedError

GRACE_NS: Final = 30_000_000_000
"""How long a dropped session waits for its client."""
MEMORY_NS: Final = 10 * GRACE_NS
"""How long a session past its grace is told apart from one that never was."""


@dataclass(slots=True)
class Conversation:
    """What of a session outlives its connection."""

    id: str
    config: Json
    began_ns: int
    audio_ms: float = 0.0
    """Caller audio taken so far."""


@dataclass(slots=True)
class Dropped:
    """Sessions whose connection ended before they did."""

    _sessions: dict[str, tuple[Conversation, int]] = field(default_factory=dict)

    def keep(self, conversation: Conversation, *, now_ns: int) -> None:
        for session_id, (_, dropped_ns) in list(self._sessions.items()):
            if now_ns - dropped_ns > MEMORY_NS:
                del self._sessions[session_id]
        self._sessions[conversation.id] = (conversation, now_ns)

    def take(self, session_id: str, *, now_ns: int) -> Conversation:
        """The session, which then is not here any more. RefusedError if it cannot be resumed."""
        found = self._sessions.pop(session_id, None)
        if found is None:
            raise RefusedError(Refusal("session_not_found", "Session not found."))
        conversation, dropped_ns = found
        if now_ns - dropped_ns > GRACE_NS:
            raise RefusedError(Refusal("session_expired", "Session expired."))
        return conversation


@dataclass(slots=True)
class Tokens:
    """Temporary tokens that wait to be redeemed, each once."""

    _tokens: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, token: str, *, expires_ns: int, session_max_s: int, now_ns: int) -> None:
        self._tokens = {name: kept for name, kept in self._tokens.items() if kept[0] > now_ns}
        self._tokens[token] = (expires_ns, session_max_s)

    def redeem(self, token: str, *, now_ns: int) -> int | None:
        """The longest session that this token opens, in seconds; None if it opens none."""
        expires_ns, session_max_s = self._tokens.pop(token, (0, 0))
        return session_max_s if now_ns < expires_ns else None
