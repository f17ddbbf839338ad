"""Where a request of ours or of a worker's goes (RFC 3261 §12.2.1.1, §16.6). Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address

from telbridge.dispatch.hops import DEFAULT_PORTS, HOPS_KEPT, Hop
from telbridge.dispatch.message import read_uri, uri_of


def aim(target: str, routes: list[str]) -> tuple[str, list[str], str]:
    """Request-URI, Route and the URI of the next hop. A strict router of RFC 2543 wants to be the
    Request-URI, and the target last."""
    if not routes:
        return target, [], target
    following = uri_of(routes[0])
    uri = read_uri(following)
    if uri is not None and "lr" not in uri.parameters:
        return following, [*routes[1:], f"<{target}>"], following
    return target, routes, following


def way(text: str, flow: Hop) -> tuple[Hop, Hop | None]:
    """Where a request for this URI goes, and where instead. `flow` is where the peer's own messages come
    from: a call that came by TCP stays on its connection; nothing of one that came by TLS goes in clear."""
    uri = read_uri(text)
    if uri is None or not uri.host or uri.host.startswith("["):
        return flow, None
    asked = "tls" if uri.scheme == "sips" else (uri.parameters.get("transport") or flow.transport).lower()
    port = uri.port if uri.port is not None and 0 < uri.port < 65536 else DEFAULT_PORTS.get(asked, 5060)
    if "tls" in (asked, flow.transport):
        both = asked == flow.transport
        return flow, Hop("tls", uri.host, port, flow.local) if both else None
    if asked == "tcp":
        named = Hop("tcp", uri.host, port, flow.local)
        return (flow, named) if flow.transport == "tcp" else (named, flow)
    surely = is_number(uri.host) and flow.transport == "udp"
    return Hop("udp", uri.host, port, flow.local), None if surely else flow


@lru_cache(HOPS_KEPT)
def is_number(host: str) -> bool:
    """An IPv4 address, and no name."""
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True
