"""Who may send the dispatcher anything, and whom its workers believe."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from telbridge.legs.sip.access import AccessPolicy
from telbridge.legs.sip.front import Front
from telbridge.serving.dispatching import Access


def test_strangers_are_counted_and_let_nowhere() -> None:
    access = Access(AccessPolicy([ip_network("203.0.113.0/24")], trust_private=False))
    assert access.permits("203.0.113.7")
    assert not access.permits("127.0.0.1") and not access.permits("198.51.100.1")
    assert access.strangers_dropped == 2


@pytest.mark.parametrize(
    ("source", "told", "peer"),
    [
        ("127.0.0.1:20500", "203.0.113.7:5060", "203.0.113.7:5060"),
        ("127.0.0.1:20500", "", None),
        ("127.0.0.1:20501", "203.0.113.7:5060", None),
        ("10.0.0.1:20500", "203.0.113.7:5060", None),
    ],
)
def test_only_the_dispatcher_tells_whose_call_it_is(source: str, told: str, peer: str | None) -> None:
    assert Front(20500).peer(source, told) == peer
