"""Keys that we press, as they stand on the wire, on both ways of the audio; keys that come by other ways."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sip_bed import HOST, PATIENCE_S, PCMU_OFFER, Bridge, Caller

from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.legs.sip.watch import LOST_NS

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
    start_ms: int
    """By its RTP timestamp, since that of the first key."""


def answered(bridge: Bridge, caller: Caller, offer: tuple[int, ...] = PCMU_OFFER, *headers: str) -> str:
    bridge.mark()
    assert caller.invite(*headers, body=caller.offer(offer))[0] == 200
    call: str = bridge.event("LegAnswered")["call"]
    return call


def keys_on_the_wire(bridge: Bridge, caller: Caller, wanted: int, *, orders: int = 1) -> list[Key]:
    """The telephone-events until so many are over and so many orders carried out; we talk meanwhile."""
    packets: dict[int, list[bytes]] = {}
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        sent = sum(one["name"] == "DtmfSent" for one in bridge.since_mark("event"))
        caller.send_rtp(b"\x20" * 160, 0)
        for payload, packet in caller.packets(0.02):
            if payload == 101:
                packets.setdefault(int.from_bytes(packet[4:8], "big"), []).append(packet)
        over = sum(sum(bool(packet[13] & 0x80) for packet in key) >= 3 for key in packets.values())
        if sent >= orders and over >= wanted:
            break
    first = min(packets, default=0)
    return [_key((stamp - first) // 8, packets[stamp]) for stamp in packets]


def _key(start_ms: int, packets: list[bytes]) -> Key:
    assert packets[0][1] & 0x80, "the marker stands on the first packet of a key (RFC 4733 §2.5.1.1)"
    assert not any(packet[1] & 0x80 for packet in packets[1:])
    (event,) = {packet[12] for packet in packets}
    return Key(
        EVENTS[event],
        max(int.from_bytes(packet[14:16], "big") for packet in packets) // 8,
        len(packets),
        sum(bool(packet[13] & 0x80) for packet in packets),
        start_ms,
    )


def test_keys_go_out_as_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        before = bridge.do("send_dtmf", call=call, digits=",15,#d", tone_ms=100, gap_ms=80)
        keys = keys_on_the_wire(bridge, caller, 4)
        after = bridge.do("count")
        assert caller.echo(0) >= 10, "audio goes on behind the keys"
        caller.bye()
    assert "".join(key.digit for key in keys) == "15#D"
    # The PyPI build of the library has one length, 200 ms.
    lengths = {key.ms for key in keys}
    assert lengths in ({100}, {200})
    (length,) = lengths
    assert all(key.ends == 3 for key in keys)
    assert all(key.packets == length // 20 + 2 for key in keys)
    # A machine that stands still makes gaps longer; frames that are skipped then, shorter by RTP's time.
    slack_ms = 30 + 20 * (after["counters"]["frames_skipped"] - before["counters"]["frames_skipped"])
    gaps = [late.start_ms - early.start_ms - early.ms for early, late in itertools.pairwise(keys)]
    assert all(gap >= least - slack_ms for gap, least in zip(gaps, (80, 80 + 500, 80), strict=True)), gaps


@pytest.mark.parametrize(("offer", "waits"), [(PCMU_OFFER, True), (NO_EVENTS, False)])
def test_the_agents_words_wait_for_keys_in_the_audio(
    bridge: Bridge, offer: tuple[int, ...], waits: bool
) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller, offer)
        before = bridge.do("send_dtmf", call=call, digits="1,2")["taken"][call]
        if offer is NO_EVENTS:
            info(caller, after=info(caller))
        spoken = bridge.event("DtmfSent", call=call)["taken"] - before
        caller.bye()
    assert spoken == 0 if waits else spoken >= 10, spoken


def test_the_length_of_a_key_is_the_one_asked_for(bridge: Bridge, pjsua2: str) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits="7", tone_ms=300)
        keys = keys_on_the_wire(bridge, caller, 1)
        caller.bye()
    assert [key.ms for key in keys] == [200 if pjsua2 == "wheel" else 300]


def test_two_orders_of_keys_follow_one_another(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        bridge.do("send_dtmf", call=call, digits="12", tone_ms=40)
        bridge.do("send_dtmf", call=call, digits="3", tone_ms=40)
        assert [key.digit for key in keys_on_the_wire(bridge, caller, 3, orders=2)] == ["1", "2", "3"]
        caller.bye()
        bridge.event("LegEnded", call=call)
    assert [one["name"] for one in bridge.since_mark("event")].count("DtmfSent") == 2


def test_keys_go_out_by_info_where_there_are_no_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS, "Allow: INVITE, ACK, BYE, INFO")
        bridge.do("send_dtmf", call=call, digits="4,*", tone_ms=120)
        first = info(caller)
        infos = [first, next_info(caller, after=first)]
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


def next_info(caller: Caller, after: str = "") -> str:
    """The next INFO of the bridge; `after`: the one before it, of which copies may come."""
    while not (text := caller.received().decode()).startswith("INFO ") or text == after:
        pass
    return text


def info(caller: Caller, status: str = "200 OK", after: str = "") -> str:
    """The next INFO of the bridge, answered."""
    text = next_info(caller, after)
    caller.respond(text, status)
    return text


def test_keys_that_the_peer_refuses_fail(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS)
        bridge.do("send_dtmf", call=call, digits="1,,,,,,2")
        info(caller, "415 Unsupported Media Type")
        assert "415" in bridge.event("DtmfFailed", call=call)["detail"]
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
        bridge.do("send_dtmf", call=call, digits="1")
        caller.bye()
        bridge.event("LegEnded", call=call)
        time.sleep(0.5)  # longer than the key would have taken
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


def dialled(caller: Caller, digits: str) -> bool:
    """Tones of 60 ms with gaps of as much, in the audio. Whether our own pace was that of a telephone."""
    clock = np.arange(480) / 8000
    tones = [sum(5000 * np.sin(2 * np.pi * hz * clock) for hz in DTMF_HZ[digit]) for digit in digits]
    audio = np.concatenate([part for tone in tones for part in (tone, np.zeros(480))])
    codes = pcm16_to_ulaw(audio.astype("<i2").tobytes())
    start, late_s = time.monotonic(), 0.0
    for number in range(len(codes) // 160):
        due = start + number * 0.02
        time.sleep(max(0.0, due - time.monotonic()))  # the pace of the wire, not a wait for anything
        late_s = max(late_s, time.monotonic() - due)
        caller.send_rtp(codes[number * 160 : number * 160 + 160], 0)
    return late_s < 0.02


def test_tones_are_keys_where_there_are_no_telephone_events(either_way: Bridge) -> None:
    bridge = either_way
    with Caller(bridge) as caller:
        call = answered(bridge, caller, NO_EVENTS)
        for _ in range(5):
            caller.echo(0, wanted=5)
            bridge.mark()
            steady = dialled(caller, "159#D")
            caller.echo(0, wanted=5)
            bridge.event("Dtmf", call=call, digit="D")
            keys = [one for one in bridge.since_mark("event") if one["name"] == "Dtmf"]
            if steady or "".join(key["digit"] for key in keys) == "159#D":
                break  # Else we made holes in the tones ourselves.
        caller.bye()
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


def test_audio_that_stops_and_comes_again_is_told(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        call = answered(bridge, caller)
        assert caller.echo(0) >= 10
        bridge.mark()
        lost = bridge.event("MediaLost", call=call)
        assert lost["at_ns"] - caller.sent_at_ns >= LOST_NS  # one clock for all processes of a machine
        assert caller.echo(0) >= 10
        bridge.event("MediaBack", call=call)
        caller.invite(body=caller.offer(direction="inactive"))
        bridge.event("Held", call=call)
        time.sleep(LOST_NS / 1e9 + 0.4)  # nothing must happen
        caller.bye()
        bridge.event("LegEnded", call=call, ending="caller_hung_up")
    names = [one["name"] for one in bridge.since_mark("event")]
    assert names[names.index("Held") :] == ["Held", "LegEnded"]


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
