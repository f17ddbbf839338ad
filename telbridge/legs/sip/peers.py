"""What a peer's address says of its call: the trunk's name, and whether its word is believed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from telbridge.legs.sip.access import Network
from telbridge.legs.sip.settings import SipSettings

Address = IPv4Address | IPv6Address


def peer_address(peer: str) -> Address | None:
    """Of `host:port` as the library writes it, `[host]:port` for IPv6; None if there is no number in it."""
    try:
        address = ip_address(peer.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None
    # A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def narrowest(address: Address, networks: Iterable[Network]) -> int:
    """Prefix length of the narrowest network that holds the address, -1 if none does."""
    return max((net.prefixlen for net in networks if address in net), default=-1)


def trunk_of(address: Address | None, settings: SipSettings) -> str:
    """Name of the trunk that the peer belongs to, "" for none; the narrowest network counts."""
    if address is None or not settings.trunks:
        return ""
    found = {name: narrowest(address, trunk.addresses) for name, trunk in settings.trunks.items()}
    name = max(found, key=lambda name: found[name])
    return name if found[name] >= 0 else ""


def names_the_caller(address: Address | None, settings: SipSettings) -> bool:
    """Whether its P-Asserted-Identity is believed (RFC 3325 §5)."""
    return address is not None and narrowest(address, settings.trust_identity) >= 0
