"""What RFC 4475 tortures a parser with, in words of our own, as far as a proxy must judge it."""

from __future__ import annotations

import pytest

from telbridge.dispatch.framing import PING, Framer
from telbridge.dispatch.hops import ToPeer, ToWorker
from telbridge.dispatch.message import MAX_OCTETS, Malformed, parse, split, tag
from tests.dispatch.sides import SDP, Net, Phone, answer, header

GOOD = Phone(Net()).request("INVITE", body=SDP)


def changed(old: str, new: str) -> bytes:
    assert old.encode() in GOOD
    return GOOD.replace(old.encode(), new.encode())


def status(sent: object) -> int:
    assert isinstance(sent, ToPeer)
    return int(sent.data.split()[1])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(changed("Content-Length: ", "Content-Length: 9"), 400, id="body shorter than it says"),
        pytest.param(changed("Content-Length: ", "Content-Length: -"), 400, id="negative length"),
        pytest.param(changed("CSeq: 1 ", "CSeq: 36893488147419103232 "), 400, id="CSeq beyond 32 bits"),
        pytest.param(changed("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"), 400, id="CSeq of another method"),
        pytest.param(changed("Max-Forwards: 70", "Max-Forwards: 300"), 400, id="Max-Forwards beyond a byte"),
        pytest.param(
            changed("sip:agent@192.0.2.10 ", "<sip:agent@192.0.2.10> "), 400, id="brackets round the URI"
        ),
        pytest.param(changed("agent@192.0.2.10 ", "agent@192.0.2.10; lr "), 400, id="spaces in the URI"),
        pytest.param(changed("INVITE sip", "INVITE  sip"), 400, id="two spaces"),
        pytest.param(changed("10 SIP/2.0", "10 SIP/7.0"), 505, id="another version"),
        pytest.param(changed("Call-ID:", "Call-ID: x\r\nCall-ID:"), 400, id="two Call-IDs"),
        pytest.param(changed("Content-Length", "Content-Length: 3\r\nContent-Length"), 400, id="two lengths"),
    ],
)
def test_a_broken_request_ends_here_with_an_answer(message: bytes, expected: int) -> None:
    net = Net()
    sent = net.from_peer(message)
    assert status(sent) == expected and isinstance(sent, ToPeer)
    assert header(sent.data, "Call-ID")[0] in ("a@phone", "x")
    assert net.core.counters.malformed == 1
    assert net.from_peer(message.replace(b"INVITE", b"ACK")) is None, "an ACK is never answered"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(changed("Via: ", "X-Via: "), id="no Via"),
        pytest.param(changed("From: ", "X-From: "), id="no From"),
        pytest.param(changed("Via: SIP/2.0/UDP", "Via: SIP 2.0 UDP"), id="Via that is none"),
        pytest.param(GOOD.partition(b"\r\n\r\n")[0], id="cut off"),
        pytest.param(GOOD.replace(b"\r\n", b"\n"), id="line feeds alone"),
        pytest.param(changed("Contact", "Con\0tact"), id="a zero octet"),
        pytest.param(changed("Contact: ", "Contact "), id="no colon"),
        pytest.param(changed("Contact: ", "Con(tact: "), id="a name that is no token"),
        pytest.param(changed("Contact: ", "X: y\r\n" * 300 + "Contact: "), id="headers without end"),
        pytest.param(changed("Contact: ", "X: " + "y" * MAX_OCTETS + "\r\nContact: "), id="too long"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_cannot_be_answered_is_counted_and_dropped(message: bytes) -> None:
    net = Net()
    assert net.from_peer(message) is None
    assert net.from_worker(message) is None
    assert net.core.counters.malformed == 2


def test_a_broken_response_is_dropped_without_a_word() -> None:
    phone = Phone(net := Net()).calls()
    asked = net.from_worker(phone.is_asked("INFO"))
    assert isinstance(asked, ToPeer)
    good = answer(asked.data)
    for wrong in (
        good.replace(b"2.0 200", b"2.0 4294967301"),
        good.replace(b"CSeq: 100", b"CSeq: 9292394834772304023312"),
    ):
        assert net.from_peer(wrong) is None
    assert net.core.counters.malformed == 2


def test_a_crooked_but_valid_request_goes_on() -> None:
    """Compact names, folded lines, odd case, spaces round colons and slashes, a comma in a display name."""
    crooked = (
        "INVITE sip:agent@192.0.2.10;unknown=%00 SIP/2.0\r\n"
        "v:  SIP  / 2.0 /UDP\r\n 192.0.2.5;branch=390skdjuw, SIP/2.0/UDP a.example.com;branch=z9hG4bKx\r\n"
        "TO :\r\n sip:agent@example.com ;  x = y\r\n"
        'f: "Weber, \\"A\\" <sip:no@where>;tag=no" <sip:a@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
        "MaX-fOrWaRdS: 0068\r\nCall-ID: w.1@192.0.2.5\r\nCseq: 0009\r\n  INVITE\r\n"
        "NewFangled:   newfangled value\r\n continued\r\nm: <sip:a@192.0.2.5>\r\nl: 0\r\n\r\n"
    )
    sent = (net := Net()).from_peer(crooked.encode())
    assert isinstance(sent, ToWorker)
    assert parse(sent.data).from_tag == "98asjd8"
    assert header(sent.data, "Max-Forwards") == ["67"]
    assert len(header(sent.data, "Via")) == 3
    replied = net.from_worker(answer(sent.data, 180))
    assert isinstance(replied, ToPeer)
    assert (replied.to.host, replied.to.port) == ("192.0.2.5", 5060)


def test_octets_behind_the_body_are_ignored() -> None:
    sent = Net().from_peer(GOOD + b"INVITE sip:more@example.com SIP/2.0\r\n\r\n")
    assert isinstance(sent, ToWorker)
    assert sent.data.endswith(SDP.encode())


def test_the_bare_cookie_is_no_branch() -> None:
    """Two such requests are told apart by their other fields."""
    net = Net()
    invites = [
        Phone(net, name).request("INVITE", branch="?").replace(b"z9hG4bK?", b"z9hG4bK") for name in "ab"
    ]
    sent = [net.from_peer(invite) for invite in invites]
    vias = {header(got.data, "Via")[0] for got in sent if isinstance(got, ToWorker)}
    assert len(vias) == 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("<sip:a@b>;tag=1", "1"),
        ("sip:a@b;tag=2;x", "2"),
        ("sip:a@b", ""),
        ("<sip:a@b;tag=no>", ""),
        ('"x;tag=no <y>" <sip:a@b> ; TAG = 3', "3"),
        ("Müller; tag=no <sip:a@b>;tag=4", "4"),
    ],
)
def test_the_tag_is_the_headers_and_not_the_uris(address: str, expected: str) -> None:
    assert tag(address) == expected


def test_commas_in_quotes_and_brackets_part_nothing() -> None:
    assert split('"a, b" <sip:c,d@e>, <sip:f>;x="g,\\",h" ,, i') == [
        '"a, b" <sip:c,d@e>',
        '<sip:f>;x="g,\\",h"',
        "i",
    ]


# ---------------------------------------------------------------- TCP


def test_messages_and_pings_come_out_of_a_stream_however_it_is_cut() -> None:
    stream = b"\r\n" + GOOD + PING + GOOD + PING
    for size in (1, 7, 100, len(stream)):
        framer = Framer()
        found = [out for at in range(0, len(stream), size) for out in framer.feed(stream[at : at + size])]
        assert found == [GOOD, PING, GOOD, PING]


@pytest.mark.parametrize(
    "stream",
    [
        GOOD.replace(b"Content-Length", b"X-Length"),
        GOOD.replace(b"Content-Length", b"l: 3\r\nContent-Length"),
        GOOD.replace(b"Content-Length: ", b"Content-Length: 9999"),
        b"x" * (MAX_OCTETS + 1),
    ],
    ids=["no length", "two lengths", "too long", "no end"],
)
def test_a_stream_that_cannot_be_cut_is_given_up(stream: bytes) -> None:
    with pytest.raises(Malformed):
        Framer().feed(stream)
