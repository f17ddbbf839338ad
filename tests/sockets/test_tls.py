"""A client's TLS against OpenSSL's own server, whatever way the network cuts the octets."""

from __future__ import annotations

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sockets.tls_peer import NAME, TRUSTING, VERSIONS, Peer, a_peer, trusting


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("octets_a_piece", [1, 700, 1 << 20])
def test_hands_are_shaken_however_the_octets_come(version, octets_a_piece):
    peer = Peer(version)
    peer.shake_hands(octets_a_piece)
    assert peer.client.tls.version() == {VERSIONS[0]: "TLSv1.2", VERSIONS[1]: "TLSv1.3"}[version]


@given(
    version=st.sampled_from(VERSIONS),
    messages=st.lists(st.binary(min_size=1, max_size=40_000), max_size=5),
    cuts=st.lists(st.integers(0, 250_000), max_size=12),
)
def test_what_the_peer_says_is_delivered_in_order_however_it_is_cut(version, messages, cuts):
    peer = a_peer(version)
    network = b"".join(map(peer.says, messages))
    places = [0, *sorted(cut % (len(network) + 1) for cut in cuts), len(network)]
    for start, end in pairwise(places):
        peer.client.received(network[start:end])
    assert b"".join(peer.told) == b"".join(messages)
    assert peer.faults == []


def test_what_came_at_once_is_delivered_in_one_piece():
    peer = a_peer()
    peer.client.received(peer.says(b"first") + peer.says(b"second") + peer.says(b"third")[:-1])
    assert peer.told == [b"firstsecond"]


def test_words_right_behind_the_handshake_are_not_lost():
    """Of TLS 1.2, where the last flight is the server's."""
    peer = Peer(VERSIONS[0])
    while not (flight := peer.shakes_hands()) or not peer.ready:
        assert not peer.client.shake_hands(flight)
    assert peer.client.shake_hands(flight + peer.says(b"at once"))
    peer.client.received(b"")
    assert peer.told == [b"at once"]


@given(
    version=st.sampled_from(VERSIONS),
    messages=st.lists(st.binary(min_size=1, max_size=70_000), min_size=1, max_size=3),
)
def test_what_we_write_arrives_whole_each_in_one_piece(version, messages):
    peer = a_peer(version)
    before = peer.sent
    for message in messages:
        peer.client.write(message)
    assert peer.hears() == b"".join(messages)
    assert peer.sent - before == len(messages)


def test_the_last_words_are_delivered_before_the_peers_farewell():
    peer = a_peer()
    peer.client.received(peer.says(b"goodbye") + peer.says_goodbye())
    assert peer.told == [b"goodbye", "end"]
    assert peer.faults == []


def test_our_farewell_is_said_behind_our_words():
    peer = a_peer()
    peer.client.write(b"goodbye")
    peer.client.say_goodbye()
    assert peer.hears() == b"goodbye<end>"


def test_what_was_whole_is_delivered_before_a_forged_record_ends_it_all():
    peer = a_peer()
    whole, forged = peer.says(b"whole"), bytearray(peer.says(b"forged"))
    forged[-1] ^= 1
    peer.client.received(whole + bytes(forged))
    assert peer.told == [b"whole"]
    assert [fault.reason for fault in peer.faults] == ["DECRYPTION_FAILED_OR_BAD_RECORD_MAC"]
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        peer.hears()


def test_what_is_written_after_a_fault_fails_too():
    peer = a_peer()
    forged = bytearray(peer.says(b"forged"))
    forged[-1] ^= 1
    peer.client.received(bytes(forged))
    before = peer.sent
    peer.client.write(b"anything")
    assert len(peer.faults) == 2
    peer.client.say_goodbye()
    assert peer.sent == before


@pytest.mark.parametrize(
    ("context", "name", "why"),
    [(trusting(), NAME, "unable to get local issuer"), (TRUSTING, "other.example", "Hostname mismatch")],
)
def test_whom_we_do_not_know_we_do_not_talk_to(context, name, why):
    peer = Peer(context=context, name=name)
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        peer.shake_hands()
    with pytest.raises(ssl.SSLError, match="ALERT"):
        peer.tls.do_handshake()


def test_a_peer_that_speaks_no_tls():
    peer = Peer()
    with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
        peer.client.shake_hands(b"HTTP/1.1 400 Bad Request\r\n\r\n")
