"""Keys that we press, as they stand on the wire, on both ways of the audio; keys that come by other ways."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sip_bed import HOST, PCMU_OFFER, Bridge, Caller

from telbridge.audio.g711 import pcm16_to_ulaw

pytestmark = pytest.mark.sip
NO_EVENTS = (0,)
EVENTS = "0123456789*#ABCD"
DTMF_HZ = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477), "#": (941, 1477), "D": (941, 1633)}


@pytest.fixture(scope="module", params=["stream", "callback"])
def either_way(pjsua2: str, request: pytest.FixtureRequest) -> Iterator[Bridge]:
    with Bridge(pjsua2, audio=request.param) as running:
        yield running


@dataclass(frozen=True)
class Key:
    """One telephone-event, from all its packets."""

    digit: str
    ms: int
    packets: int
    ends: int
    start: float
    """Arrival of the first packet, in ms since that of the first key."""


def answered(bridge: Bridge, caller: Caller, offer: tuple[int, ...] = PCMU_OFFER, *headers: str) -> str:
    bridge.mark()
    assert caller.invite(*headers, body=caller.offer(offer))[0] == 200
    call: str = bridge.event("LegAnswered")["call"]
    return call


def keys_on_the_wire(caller: Caller, seconds: float) -> list[Key]:
    """Telephone-events of so long, while we talk all the time."""
    packets: dict[int, list[bytes]] = {}
    came: dict[int, float] = {}
    caller.rtp.setblocking(True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        caller.send_rtp(b"\x20" * 160, 0)
        pause = time.monotonic() + 0.02
        while (left := pause - time.monotonic()) > 0:
            caller.rtp.settimeout(left)
            try:
                packet = caller.rtp.recv(2048)
            except TimeoutError:
                break
            if packet[1] & 0x7F == 101:
                stamp = int.from_bytes(packet[4:8], "big")
                packets.setdefault(stamp, []).append(packet)
                came.setdefault(stamp, time.monotonic() * 1000)
    first = min(came.values(), default=0)
    return [_key(came[stamp] - first, packets[stamp]) for stamp in packets]


def _key(start: float, packets: list[bytes]) -> Key:
    assert packets[0][1] & 0x80, "the marker stands on the first packet of a key (RFC 4733 §2.5.1.1)"
    assert not any(packet[1] & 0x80 for packet in packets[1:])
    (event,) = {packet[12] for packet in packets}
    return Key(
        EVENTS[event],
        max(int.from_bytes(packet[14:16], "big") for packet in packets) // 8,
        len(packets),
        sum(bool(packet[13] & 0x80) for packet in packets),
        start,
    )


def test_keys_go_out_as_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits=",15,#d", tone_ms=100, gap_ms=80)
        keys = keys_on_the_wire(caller, 3.2)
        bridge.event("DtmfSent", call=call)
        assert caller.echo(0) >= 10, "audio goes on behind the keys"
        caller.bye()
    assert "".join(key.digit for key in keys) == "15#D"
    # The PyPI build of the library has one length, 200 ms.
    lengths = {key.ms for key in keys}
    assert lengths in ({100}, {200})
    (length,) = lengths
    assert all(key.ends == 3 for key in keys)
    assert all(key.packets == length // 20 + 2 for key in keys)
    gaps = [late.start - early.start - early.ms for early, late in itertools.pairwise(keys)]
    for gap, wanted in zip(gaps, (80, 80 + 500, 80), strict=True):
        assert wanted - 30 <= gap <= wanted + 70, gaps  # ticks of 20 ms on both sides


@pytest.mark.parametrize(("offer", "waits"), [(PCMU_OFFER, True), (NO_EVENTS, False)])
def test_the_agents_words_wait_for_keys_in_the_audio(
    bridge: Bridge, offer: tuple[int, ...], waits: bool
) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller, offer)
        bridge.do("send_dtmf", call=call, digits="1,2")
        bridge.mark()
        bridge.do("taken", call=call)
        before = bridge.wait("taken")["frames"]
        if offer is NO_EVENTS:
            info(caller), info(caller)
        bridge.event("DtmfSent", call=call)
        bridge.mark()
        bridge.do("taken", call=call)
        spoken = bridge.wait("taken")["frames"] - before
        caller.bye()
    assert spoken <= 5 if waits else spoken >= 25, spoken


def test_the_length_of_a_key_is_the_one_asked_for(bridge: Bridge, pjsua2: str) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits="7", tone_ms=300)
        keys = keys_on_the_wire(caller, 1.0)
        caller.bye()
    assert [key.ms for key in keys] == [200 if pjsua2 == "wheel" else 300]


def test_two_orders_of_keys_follow_one_another(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits="12", tone_ms=40)
        bridge.do("send_dtmf", call=call, digits="3", tone_ms=40)
        assert [key.digit for key in keys_on_the_wire(caller, 1.8)] == ["1", "2", "3"]
        caller.bye()
        bridge.event("LegEnded", call=call)
    assert [one["name"] for one in bridge.since_mark("event")].count("DtmfSent") == 2


def test_keys_go_out_by_info_where_there_are_no_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS, "Allow: INVITE, ACK, BYE, INFO")
        bridge.do("send_dtmf", call=call, digits="4,*", tone_ms=120)
        infos = [info(caller), next_info(caller)]
        time.sleep(0.3)  # the last key is not out before its answer
        assert not [one for one in bridge.since_mark("event") if one["name"] == "DtmfSent"]
        caller.respond(infos[1])
        bridge.event("DtmfSent", call=call)
        caller.bye()
    assert all("application/dtmf-relay" in text for text in infos)
    assert [re.findall(r"(?i)(signal|duration) *= *(\S+)", text) for text in infos] == [
        [("Signal", "4"), ("Duration", "120")],
        [("Signal", "*"), ("Duration", "120")],
    ]


def next_info(caller: Caller) -> str:
    while not (text := caller.sip.recv(65536).decode()).startswith("INFO "):
        pass
    return text


def info(caller: Caller, status: str = "200 OK") -> str:
    """The next INFO of the bridge, answered."""
    text = next_info(caller)
    caller.respond(text, status)
    return text


def test_keys_that_the_peer_refuses_fail(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS)
        bridge.do("send_dtmf", call=call, digits="12")
        info(caller, "415 Unsupported Media Type")
        assert "415" in bridge.event("DtmfFailed", call=call)["detail"]
        assert not caller.comes("Signal=2", 0.5), "the rest is not pressed"
        caller.bye()


def test_keys_fail_where_the_peer_takes_none(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS, "Allow: INVITE, ACK, BYE")
        bridge.do("send_dtmf", call=call, digits="1")
        assert "neither" in bridge.event("DtmfFailed", call=call)["detail"]
        caller.bye()


@pytest.mark.parametrize("digits", ["", "x", "1" * 129, "1\r\n2"])
def test_what_is_no_key_fails(bridge: Bridge, digits: str) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits=digits)
        bridge.event("DtmfFailed", call=call)
        caller.bye()


def test_no_event_of_keys_follows_the_end(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits="1,2")
        caller.bye()
        bridge.event("LegEnded", call=call)
        time.sleep(1.2)  # as long as the keys would have taken
    own = [fact["name"] for fact in bridge.since_mark("event") if fact["call"] == call]
    assert own[-1] == "LegEnded"


# ---------------------------------------------------------------- keys in


def send_info(caller: Caller, kind: str, body: str) -> int:
    caller.request("INFO", f"Content-Type: {kind}", body=body)
    return caller.response(to="INFO")[0]


@pytest.mark.parametrize(
    ("kind", "body", "digit", "ms"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5", 160),
        ("application/dtmf-relay", "Signal= *\r\nDuration= 250\r\n", "*", 250),
        ("application/dtmf-relay", "Signal=#\r\n", "#", 0),
        ("application/dtmf", "7", "7", 0),
        ("Application/DTMF; charset=x", " #\r\n", "#", 0),
        ("application/dtmf", "d", "D", 0),
        ("application/dtmf", "11", "#", 0),
    ],
)
def test_a_key_by_info(bridge: Bridge, kind: str, body: str, digit: str, ms: int) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        assert send_info(caller, kind, body) == 200
        key = bridge.event("Dtmf", call=call)
        assert (key["digit"], key["method"], key["duration_ms"]) == (digit, "info", ms)
        caller.bye()


def test_a_copy_of_an_info_is_answered_and_no_second_key(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        assert send_info(caller, "application/dtmf", "7") == 200
        caller.request("INFO", "Content-Type: application/dtmf", body="7", cseq=caller.cseq)
        assert caller.response(to="INFO")[0] == 200
        assert send_info(caller, "application/dtmf", "8") == 200
        bridge.event("Dtmf", call=call, digit="8")
        caller.bye()
        bridge.event("LegEnded", call=call)
    keys = [one["digit"] for one in bridge.since_mark("event") if one["name"] == "Dtmf"]
    assert keys == ["7", "8"]


@pytest.mark.parametrize("body", ["x", "77", ""])
def test_an_info_that_is_no_key_is_none(bridge: Bridge, body: str) -> None:
    with Caller(bridge) as caller:
        answered(bridge, caller)
        assert send_info(caller, "application/dtmf", body) >= 400
        caller.bye()
    assert not [one for one in bridge.since_mark("event") if one["name"] == "Dtmf"]


def test_a_key_for_no_call_is_not_taken(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        caller.to_tag = "nobody"
        assert send_info(caller, "application/dtmf", "7") == 481


def dialled(caller: Caller, digits: str) -> None:
    """Tones of 60 ms with gaps of as much, in the audio."""
    clock = np.arange(480) / 8000
    for digit in digits:
        tone = sum(5000 * np.sin(2 * np.pi * hz * clock) for hz in DTMF_HZ[digit])
        codes = pcm16_to_ulaw(np.concatenate([tone, np.zeros(480)]).astype("<i2").tobytes())
        for at in range(0, len(codes), 160):
            caller.send_rtp(codes[at : at + 160], 0)
            time.sleep(0.02)  # the pace of the wire, not a wait for anything


def test_tones_are_keys_where_there_are_no_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS)
        caller.echo(0, wanted=5)
        dialled(caller, "159#D")
        caller.echo(0, wanted=5)
        bridge.event("Dtmf", call=call, digit="D")
        caller.bye()
    keys = [one for one in bridge.since_mark("event") if one["name"] == "Dtmf"]
    assert "".join(key["digit"] for key in keys) == "159#D"
    assert {key["method"] for key in keys} == {"inband"}


def test_tones_are_only_audio_where_there_are_telephone_events(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        caller.echo(0, wanted=5)
        dialled(caller, "15")
        caller.key(9)
        bridge.event("Dtmf", call=call, digit="9")
        caller.bye()
    keys = [one for one in bridge.since_mark("event") if one["name"] == "Dtmf"]
    assert [key["digit"] for key in keys] == ["9"]


# ---------------------------------------------------------------- audio that stops


def test_audio_that_stops_and_comes_again_is_told(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        assert caller.echo(0) >= 10
        silent_since = time.monotonic()
        bridge.event("MediaLost", call=call)
        assert 1.5 < time.monotonic() - silent_since < 3.0
        assert caller.echo(0) >= 10
        bridge.event("MediaBack", call=call)
        bridge.mark()
        caller.invite(body=caller.offer(direction="inactive"))
        bridge.event("Held", call=call)
        time.sleep(2.8)  # nothing must happen
        caller.bye()
        bridge.event("LegEnded", call=call, ending="caller_hung_up")
    assert [one["name"] for one in bridge.since_mark("event")] == ["Held", "LegEnded"]


def test_the_facts_name_domain_trunk_and_the_asserted_caller(pjsua2: str) -> None:
    trunks = {"office": {"addresses": ["127.0.0.1/32"]}, "wide": {"addresses": ["127.0.0.0/8"]}}
    with Bridge(pjsua2, trunks=trunks, trust_identity=["127.0.0.1/32"]) as bridge:
        for source, trunk, caller_id in ((HOST, "office", "+4930999"), ("127.0.0.2", "wide", "+4930123")):
            bridge.mark()
            with Caller(bridge, source=source) as caller:
                caller.target = f"sip:echo@Tenant.example:{bridge.port}"
                caller.invite('P-Asserted-Identity: "Boss" <sip:+4930999@pbx.example>', "X-Tenant: Blue")
                facts = bridge.wait("call", signalling_id=caller.call_id)
                bridge.event("LegAnswered", call=facts["call_id"])
                caller.bye()
            assert (facts["trunk"], facts["caller"], facts["domain"]) == (trunk, caller_id, "tenant.example")
            assert facts["headers"]["X-Tenant"] == "Blue"
            assert facts["headers"]["P-Asserted-Identity"] == '"Boss" <sip:+4930999@pbx.example>'
