"""What the dispatcher writes into messages to be found again: Via, Record-Route, Contact. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from telbridge.dispatch.hops import Hop
from telbridge.dispatch.message import SipMessage, read_uri, uri_of

LOOPBACK: Final = "127.0.0.1"
_OUR_USER: Final = re.compile(r"(?i)sips?:w(\d{1,4})@")


@dataclass(frozen=True, slots=True)
class Marks:
    """Our own addresses on both sides."""

    port: int
    """Of SIP on the outside, UDP and TCP."""
    tls_port: int
    inner_port: int
    """Of our socket towards the workers, on loopback."""
    public_address: str | None
    """What stands in for our own address, when a NAT stands before us."""

    def public(self, hop: Hop) -> str:
        """Our address as this peer reaches it."""
        return self.public_address or hop.local

    def port_for(self, hop: Hop) -> int:
        """Our port as this peer reaches it."""
        return self.tls_port if hop.transport == "tls" else self.port

    def inner_via(self, branch: str, peer: Hop) -> str:
        """On top of a request for a worker: its responses name the peer again."""
        return f"SIP/2.0/UDP {LOOPBACK}:{self.inner_port};branch={branch};peer={peer.token}"

    def outer_via(self, branch: str, to: Hop) -> str:
        """On top of a request for a peer."""
        return f"SIP/2.0/{to.transport.upper()} {self._outside(to)};rport;branch={branch}"

    def record_routes(self, worker: int, peer: Hop) -> tuple[str, str]:
        """Of a new dialog, one for either side (RFC 5658). The worker's says where the peer is."""
        mark = f"lr;w={worker}"
        inner = f"<sip:{LOOPBACK}:{self.inner_port};{mark};peer={peer.token}>"
        return inner, f"<sip:{self._outside(peer)}{_transport(peer)};{mark}>"

    def contact(self, worker: int, peer: Hop) -> str:
        """In a worker's stead, whose own is loopback: for peers that heed no Record-Route."""
        return f"<sip:w{worker}@{self._outside(peer)}{_transport(peer)}>"

    def without_ours(self, routes: list[str]) -> tuple[list[str], Hop | None]:
        """What of a worker's Route lies beyond us, and the peer that ours names. Behind ours a peer may have
        put what looks like it."""
        if not _is_ours(routes, LOOPBACK, self.inner_port):
            return routes, None
        uri = read_uri(uri_of(routes.pop(0)))
        flow = hop_of(uri.parameters.get("peer")) if uri else None
        if flow is not None and _is_ours(routes, self.public(flow), self.port_for(flow)):
            routes.pop(0)
        return routes, flow

    def _outside(self, hop: Hop) -> str:
        return f"{self.public(hop)}:{self.port_for(hop)}"


def hop_of(token: str | None) -> Hop | None:
    """The peer that a mark of ours names."""
    try:
        return Hop.of_token(token or "")
    except ValueError:
        return None


def worker_of_route(message: SipMessage) -> int | None:
    """The worker that a Route of ours names."""
    for route in message.values("Route"):
        uri = read_uri(uri_of(route))
        named = (uri.parameters.get("w") if uri else None) or ""
        if named.isascii() and named.isdigit():
            return int(named[:4])
    return None


def worker_of_uri(message: SipMessage) -> int | None:
    """The worker that a Contact of ours names."""
    found = _OUR_USER.match(message.uri)
    return int(found[1]) if found else None


def _is_ours(routes: list[str], host: str, port: int) -> bool:
    uri = read_uri(uri_of(routes[0])) if routes else None
    return uri is not None and (uri.host, uri.port) == (host, port) and "w" in uri.parameters


def _transport(peer: Hop) -> str:
    return f";transport={peer.transport}" if peer.is_stream else ""
