"""What a call tells of itself while it runs, for metrics. Nothing here may block or raise; frames are never
told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from telbridge.call.turns import Turn


class Observer(Protocol):
    """One call's."""

    def answered(self) -> None: ...

    def turn_over(self, turn: Turn) -> None:
        """Nothing more will come of this turn but a later judgement on its interruption."""

    def session_ready(self, agent: str, connect_ms: float, configure_ms: float) -> None:
        """A session is configured: from its being asked for to its open WebSocket, and from there on."""

    def session_lost(self, agent: str) -> None: ...

    def key(self, method: str) -> None:
        """The caller pressed one; `Dtmf.method`."""

    def ordered(self, action: str) -> None:
        """The dialplan had something done, by the name of the order."""

    def failed(self, action: str) -> None:
        """It could not be done."""

    def asked(self, what: str, took_ms: float, *, failed: bool) -> None:
        """A server or a function outside gave its answer: "webhook", "http" or "python"."""

    def counted(self, metric: str, add: float, labels: Mapping[str, str]) -> None:
        """The dialplan counts something."""


class Nobody:
    """Is told and does nothing with it."""

    def answered(self) -> None: ...
    def turn_over(self, turn: Turn) -> None: ...
    def session_ready(self, agent: str, connect_ms: float, configure_ms: float) -> None: ...
    def session_lost(self, agent: str) -> None: ...
    def key(self, method: str) -> None: ...
    def ordered(self, action: str) -> None: ...
    def failed(self, action: str) -> None: ...
    def asked(self, what: str, took_ms: float, *, failed: bool) -> None: ...
    def counted(self, metric: str, add: float, labels: Mapping[str, str]) -> None: ...


NOBODY: Final = Nobody()
