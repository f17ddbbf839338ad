"""Who may call: addresses in, yes or no out. The gate (gate.py) asks it for each SIP message."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

LOCAL_NETWORKS: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",  # loopback, RFC 1122
        "10.0.0.0/8",  # private, RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # link local, RFC 3927
        "::1/128",
        "fe80::/10",
        "fc00::/7",  # unique local, RFC 4193
    )
)
REMEMBERED: Final = 1024
"""Answers kept: more distinct peers than that at a time are strangers on a scan."""
LOG_EVERY_NS: Final = 60_000_000_000
LOGGED_SOURCES: Final = 20
"""Sources named in the log within that time."""


class AccessPolicy:
    """Loopback and private networks (unless `trust_private` is off), and those in `allow`."""

    def __init__(self, allow: Iterable[Network] = (), *, trust_private: bool = True) -> None:
        self.networks: tuple[Network, ...] = (*(LOCAL_NETWORKS if trust_private else ()), *allow)
        self._known: OrderedDict[bytes, bool] = OrderedDict()

    def permits(self, packed: bytes) -> bool:
        """`packed`: 4 or 16 octets of an address. Anything else is refused."""
        answer = self._known.get(packed)
        if answer is None:
            answer = self._known[packed] = self._decide(packed)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return answer

    def _decide(self, packed: bytes) -> bool:
        try:
            address = ip_address(packed)
        except ValueError:
            return False
        # A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self.networks)


class StrangerLog:
    """Decides which stranger is worth a line: each source at most once a minute, and a few sources at all
    (source addresses of datagrams cost their sender nothing)."""

    def __init__(self) -> None:
        self._window_ns = 0
        self._named: set[bytes] = set()

    def due(self, source: bytes, now_ns: int) -> bool:
        if now_ns >= self._window_ns:
            self._window_ns = now_ns + LOG_EVERY_NS
            self._named.clear()
        if source in self._named or len(self._named) >= LOGGED_SOURCES:
            return False
        self._named.add(source)
        return True
