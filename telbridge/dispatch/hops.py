"""Where messages come from and go to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final, Literal

Transport = Literal["udp", "tcp", "tls"]
DEFAULT_PORT: Final = 5060
DEFAULT_PORTS: Final[dict[str, int]] = {"udp": DEFAULT_PORT, "tcp": DEFAULT_PORT, "tls": 5061}
"""RFC 3261 §19.1.2."""
HOPS_KEPT: Final = 1_024
_TRANSPORTS: Final[dict[str, Transport]] = {"udp": "udp", "tcp": "tcp", "tls": "tls"}


@dataclass(frozen=True, slots=True)
class Hop:
    """A peer's address, and ours on the way to it."""

    transport: Transport
    host: str
    """A number; a name only where a URI of the peer's holds one."""
    port: int
    local: str
    """Our own address as this peer reaches it: what stands in Via, Record-Route and Contact."""

    @property
    def is_stream(self) -> bool:
        """A connection, whose other end is where answers go."""
        return self.transport != "udp"

    @property
    def token(self) -> str:
        """As a parameter of Via or of a URI: `udp-192.0.2.5-5060-192.0.2.10`."""
        return f"{self.transport}-{self.host}-{self.port}-{self.local}"

    @staticmethod
    @lru_cache(HOPS_KEPT)
    def of_token(text: str) -> Hop:
        """The reverse. ValueError for anything else: whoever sends messages can write parameters."""
        transport, host, port, local = text.split("-")
        if transport not in _TRANSPORTS or not port.isascii() or not 0 < int(port) < 65536:
            raise ValueError(f"no hop: {text!r}")
        return Hop(_TRANSPORTS[transport], str(IPv4Address(host)), int(port), str(IPv4Address(local)))


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Octets for the outside."""

    data: bytes
    to: Hop
    """TCP and TLS: the connection with this peer."""
    instead: Hop | None = None
    """TCP and TLS without that connection: connect to this. UDP where that cannot be, or to a name that
    nobody knows: this."""


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Octets for a worker, on loopback."""

    data: bytes
    port: int


Send = ToPeer | ToWorker
