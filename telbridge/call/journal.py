"""What happened in a call besides speech, for its record: kinds and times, none of the words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

MOST: Final = 1000
"""Events that are kept of one call: a peer in a loop must not fill the memory."""
OF_TURNS: Final = frozenset(
    {
        "agent_said",
        "agent_speaking",
        "agent_stopped",
        "caller_said",
        "caller_speaking",
        "caller_stopped",
        "interrupted",
    }
)
"""Events of a dialplan that the record tells otherwise: as turns, and as stretches of speech."""


@dataclass(frozen=True, slots=True)
class Happening:
    """`kind` is an event's name in a dialplan, or an order's; `facts` hold no words and no keys, but may hold
    telephone numbers."""

    at_ms: float
    kind: str
    facts: dict[str, str] = field(default_factory=dict)


class Journal:
    """The events of one call, in order. Every time is passed in."""

    def __init__(self, started_ns: int) -> None:
        self._started_ns = started_ns
        self.events: Final[list[Happening]] = []
        self.dropped = 0
        """How many came after the first MOST."""

    def note(self, kind: str, at_ns: int, **facts: str) -> None:
        """One more."""
        if len(self.events) >= MOST:
            self.dropped += 1
            return
        self.events.append(Happening((at_ns - self._started_ns) / 1e6, kind, facts))


class Note(Protocol):
    """Takes what happened, by its name, with its facts."""

    def __call__(self, event: str, /, **facts: str) -> None: ...


class Speech:
    """When one of the two voices was heard: stretches of ms since the call arrived, in order."""

    def __init__(self) -> None:
        self.stretches: Final[list[tuple[float, float]]] = []
        self._since_ms: float | None = None

    def began(self, at_ms: float) -> None:
        """One that speaks already goes on."""
        if self._since_ms is None:
            self._since_ms = at_ms

    def so_far(self, at_ms: float) -> list[tuple[float, float]]:
        """With the one that goes on."""
        if self._since_ms is None:
            return self.stretches
        return [*self.stretches, (self._since_ms, max(self._since_ms, at_ms))]

    def ended(self, at_ms: float) -> None:
        """Nothing, if it was silent."""
        since_ms, self._since_ms = self._since_ms, None
        if since_ms is not None and len(self.stretches) < MOST:
            self.stretches.append((since_ms, max(since_ms, at_ms)))
