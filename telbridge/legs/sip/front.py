"""What an endpoint is told when the dispatcher stands before it (telbridge/dispatch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PEER_HEADER: Final = "Telbridge-Peer"
"""The dispatcher says in it where a request came from: `host:port`. It lets nobody else say so."""
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Front:
    """The dispatcher, as its workers see it."""

    port: int
    """Of its loopback socket. Nothing else is believed to be it."""

    def peer(self, source: str, told: str) -> str | None:
        """Whose request it is: `source` as the library says, `told` the value of PEER_HEADER. None for
        somebody on this machine who goes round the dispatcher."""
        return told if told and source == f"{LOOPBACK}:{self.port}" else None
