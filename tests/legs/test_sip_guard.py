"""Who may call, how many, and what the endpoint survives."""

from __future__ import annotations

import random
import socket

import pytest
from sip_bed import HOST, Bridge, Caller, sipp

from tests.ports import free_port

pytestmark = pytest.mark.sip

ONLY_US = {"trust_private": False, "allow": ["127.0.0.1/32"]}
STRANGER = "127.0.0.2"


def test_strangers_get_no_answer_and_are_counted(pjsua2: str) -> None:
    with Bridge(pjsua2, **ONLY_US) as bridge:
        with Caller(bridge, source=STRANGER) as stranger:
            for method in ("OPTIONS", "REGISTER", "INVITE", "BYE"):
                stranger.request(method)
            stranger.send(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n"
                "Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            )
            # Whatever came before it has been dropped once a friend's request is answered.
            sipp(bridge, "options.xml")
            assert stranger.nothing_comes(0.3)
        _one_call(bridge)
        counters = bridge.do("count")["counters"]
        assert counters["strangers_dropped"] == 5 and counters["calls_offered"] == 1
        lines = [line for line in bridge.logged if "sip_stranger_dropped" in line]
        assert len(lines) == 1 and STRANGER in lines[0]


def _one_call(bridge: Bridge) -> str:
    bridge.mark()
    with Caller(bridge) as friend:
        assert friend.invite()[0] == 200
        call = bridge.wait("call")["call_id"]
        bridge.event("LegAnswered", call=call)
        friend.bye()
        bridge.event("LegEnded", call=call)
    return str(call)


@pytest.mark.parametrize("transports", [["udp", "tcp"], ["tcp"]])
def test_strangers_get_no_answer_over_tcp(pjsua2: str, transports: list[str]) -> None:
    request = (
        f"OPTIONS sip:x@{HOST} SIP/2.0\r\nVia: SIP/2.0/TCP {STRANGER}:9;branch=z9hG4bK1\r\n"
        "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    with Bridge(pjsua2, transports=transports, **ONLY_US) as bridge:
        with socket.socket() as stranger:
            stranger.bind((STRANGER, 0))
            stranger.settimeout(0.5)
            with pytest.raises((TimeoutError, ConnectionError)):
                stranger.connect((HOST, bridge.port))
                stranger.sendall(request)
                if stranger.recv(100) == b"":
                    raise ConnectionResetError
        sipp(bridge, "options.xml", transport="t1")
        sipp(bridge, "call.xml", transport="t1")
        assert bridge.do("count")["counters"]["stranger_connections_dropped"] >= 1


def test_one_call_more_than_there_are_slots(pjsua2: str) -> None:
    with Bridge(pjsua2, max_calls=4) as bridge:
        callers = [Caller(bridge) for _ in range(5)]
        try:
            assert [caller.invite()[0] for caller in callers[:4]] == [200] * 4
            status, text = callers[4].invite()
            assert (status == 503 and "Retry-After: 5" in text) if pjsua2 == "built" else status == 486
            bridge.do("quality", call=bridge.wait("call")["call_id"])
            assert (
                sum('"sip_call_refused"' in line and '"no free slot"' in line for line in bridge.logged) == 1
            )
            for caller in callers[:4]:
                assert caller.echo(0, wanted=3) >= 3
            callers[0].bye()
            bridge.event("LegEnded")
            assert callers[4].invite()[0] == 200
            for caller in callers[1:]:
                caller.bye()
        finally:
            for caller in callers:
                caller.__exit__()


def test_more_calls_than_the_build_can_is_a_warning(pjsua2: str) -> None:
    with Bridge(pjsua2, max_calls=5000) as bridge:
        assert bridge.wait("ready")["max_calls"] == (4 if pjsua2 == "wheel" else 1024)
        assert any("sip_max_calls_clamped" in line for line in bridge.logged)


def test_drain_refuses_new_calls_and_lets_the_old_ones_talk(pjsua2: str) -> None:
    with Bridge(pjsua2) as bridge, Caller(bridge) as old, Caller(bridge) as new:
        bridge.mark()
        old.invite()
        bridge.do("drain")
        status, text = new.invite()
        assert status == 503 and "Retry-After: " in text
        sipp(bridge, "options503.xml")
        sipp(bridge, "options503.xml", transport="t1")
        assert old.echo(0) >= 10
        old.request("OPTIONS")
        # In a dialog the library has no answer of its own to that; the drain's would end dialogs.
        assert old.response(to="OPTIONS")[0] != 503
        old.bye()


def test_a_caller_that_vanished_is_hung_up_on(pjsua2: str) -> None:
    with Bridge(pjsua2, media_timeout_s=1.0) as bridge, Caller(bridge) as caller:
        caller.invite()
        bridge.event("LegAnswered")
        assert caller.echo(0) >= 10
        ended = bridge.event("LegEnded")
        assert ended["ending"] == "media_timeout"
        assert bridge.wait("quality")["rx_packets"] >= 10


def test_a_caller_on_hold_may_be_silent(pjsua2: str) -> None:
    with Bridge(pjsua2, media_timeout_s=0.6) as bridge, Caller(bridge) as caller:
        caller.invite()
        bridge.event("LegAnswered")
        caller.invite(body=caller.offer(direction="inactive"))
        bridge.event("Held")
        with pytest.raises(AssertionError):
            bridge.wait("event", name="LegEnded", patience_s=1.5)
        caller.bye()


def test_nobody_makes_us_call_or_takes_a_call_over(pjsua2: str) -> None:
    with (
        Bridge(pjsua2) as bridge,
        Caller(bridge) as caller,
        Caller(bridge) as thief,
        Caller(bridge) as target,
    ):
        caller.invite()
        victim = "sip:victim@{}:{}".format(*target.sip.getsockname())
        caller.request("REFER", f"Refer-To: <{victim}>")
        assert caller.response(to="REFER")[0] == 603
        assert (
            thief.invite(f"Replaces: {caller.call_id};to-tag={caller.to_tag};from-tag={caller.tag}")[0] == 603
        )
        thief.request("SUBSCRIBE", "Event: presence", "Expires: 600")
        assert thief.response(to="SUBSCRIBE")[0] == 489
        assert caller.echo(0) >= 10
        assert target.nothing_comes(0.2)
        caller.bye()


def test_a_bug_in_one_call_ends_that_call_only(pjsua2: str) -> None:
    with Bridge(pjsua2) as bridge:
        with Caller(bridge, "bug") as bad, Caller(bridge) as good, Caller(bridge, "on-call-bug") as worse:
            good.invite()
            bad.invite()
            assert bridge.event("LegEnded")["ending"] == "internal_error"
            assert worse.invite()[0] == 500
            assert good.echo(0) >= 10
            good.bye()
        assert sum("a bug of the test's" in line and "Traceback" in line for line in bridge.logged) == 2


def test_stop_ends_live_calls_and_start_works_again(pjsua2: str) -> None:
    with Bridge(pjsua2) as bridge:
        for _ in range(3):
            bridge.mark()
            with Caller(bridge) as talking, Caller(bridge, "ring") as ringing:
                talking.invite()
                ringing.request("INVITE", body=ringing.offer())
                assert ringing.response(final=False)[0] == 100
                bridge.event("LegAnswered")
                bridge.do("restart")
                ends = [
                    event["ending"] for event in bridge.since_mark("event") if event["name"] == "LegEnded"
                ]
                assert ends == ["drained"] * 2
                assert ringing.response(to="INVITE")[0] == 503
            _one_call(bridge)


def test_a_port_in_use_is_one_clear_line(pjsua2: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        bridge = Bridge(pjsua2, port=taken.getsockname()[1])
        why = bridge.wait("unavailable")["why"]
        assert bridge.close() == 3
    assert "cannot listen on" in why and "in use" in why


def test_listening_on_every_address(pjsua2: str) -> None:
    with Bridge(pjsua2, host="0.0.0.0", public_address="127.0.0.3", **ONLY_US) as bridge:
        with Caller(bridge) as caller:
            _, text = caller.invite()
            assert "c=IN IP4 127.0.0.3" in text and "Contact: <sip:127.0.0.3:" in text
            caller.target = f"sip:echo@127.0.0.1:{bridge.port}"
            assert caller.echo(0) >= 10
            caller.bye()
        sipp(bridge, "call.xml", transport="t1")
        with socket.socket() as stranger:
            stranger.bind((STRANGER, 0))
            stranger.settimeout(0.3)
            with pytest.raises(TimeoutError):
                stranger.connect((HOST, bridge.port))


@pytest.mark.parametrize("way", ["stream", "callback"])
@pytest.mark.parametrize("uvloop", [False, True])
def test_both_ways_of_audio_on_both_loops(pjsua2: str, way: str, uvloop: bool) -> None:
    with Bridge(pjsua2, uvloop=uvloop, audio=way) as bridge:
        assert bridge.wait("ready")["audio"] == way
        for _ in range(3):
            bridge.mark()
            with Caller(bridge) as caller:
                caller.invite()
                bridge.event("LegAnswered")
                assert caller.echo(0) >= 10
                caller.invite(body=caller.offer(direction="inactive"))
                caller.invite(body=caller.offer((8, 101)))
                assert caller.echo(8) >= 10
                caller.bye()
                bridge.event("LegEnded")
        # pjmedia's clock may be calling one at any time: none dies before that clock stands still.
        assert bridge.do("count")["media_ports"] == (way == "callback")


def test_a_late_clock_catches_up(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.invite()
        call = bridge.event("LegAnswered")["call"]
        assert caller.echo(0) >= 10
        before = bridge.do("quality", call=call)["counters"]["frames_skipped"]
        bridge.do("stall", seconds=0.6)
        assert bridge.do("quality", call=call)["counters"]["frames_skipped"] >= before + 15
        assert caller.echo(0) >= 10
        caller.bye()


def test_nothing_is_left_of_many_calls(bridge: Bridge) -> None:
    """More than the 253 streams that fit into a bridge which nobody clears; one call talks all the while."""
    rate = ("-r", "15", "-l", "2")
    sipp(bridge, "brief.xml", *rate, calls=20)
    before = bridge.do("count")
    with Caller(bridge) as caller:
        caller.invite()
        assert caller.echo(0) >= 10
        sipp(bridge, "brief.xml", *rate, calls=250)
        assert caller.echo(0) >= 10
        caller.bye()
    sipp(bridge, "brief.xml", *rate, calls=20)
    after = bridge.do("count")
    for name in ("pjsua_calls", "threads", "fds", "live_calls"):
        assert after[name] <= before[name], (name, before, after)


def test_a_burst_of_calls_is_survived(pjsua2: str) -> None:
    with Bridge(pjsua2) as bridge:
        with Caller(bridge) as caller:
            caller.invite()
            sipp(bridge, "brief.xml", "-r", "150", calls=300, expect=0 if pjsua2 == "built" else 1)
            assert caller.echo(0) >= 10
            caller.bye()
        throttled = bridge.do("count")["counters"]["calls_throttled"]
        assert throttled == 0 if pjsua2 == "built" else throttled > 50
        sipp(bridge, "call.xml")


GOOD_LINES = (
    "INVITE sip:echo@127.0.0.1 SIP/2.0",
    "Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKfuzz",
    "From: <sip:a@b>;tag=1",
    "To: <sip:echo@b>",
    "Call-ID: fuzz",
    "CSeq: 1 INVITE",
    "Contact: <sip:a@127.0.0.1:9>",
    "Max-Forwards: 70",
    "Content-Type: application/sdp",
    "Content-Length: 5",
)


def malformed(chance: random.Random) -> bytes:
    """A message as broken as the wire may bring it."""
    lines = list(GOOD_LINES)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case 1:
                lines[at] += chance.choice(("", "\x00", "\xff", ";" * 50, '"', "<" * 9)) * chance.randrange(
                    1, 300
                )
            case 2:
                del lines[at]
            case 3:
                lines.insert(at, lines[at])
            case 4:
                lines[at] = lines[at].replace(chance.choice(": @;/"), chance.choice(" :\t\x0b%"))
            case 5:
                lines.insert(at, "X-Huge: " + "h" * chance.choice((300, 3500, 40_000)))
            case 6:
                lines[-1] = f"Content-Length: {chance.choice((-1, 0, 3, 999_999, 2**40))}"
        lines = lines or [""]
    text = "\r\n".join(lines) + "\r\n\r\nv=0\r\nm=audio"
    octets = bytearray(text.encode("latin-1"))
    for _ in range(chance.choice((0, 0, 3))):
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    return bytes(octets[: chance.choice((len(octets), chance.randrange(len(octets) + 1)))])


def test_malformed_messages_change_nothing(bridge: Bridge) -> None:
    chance = random.Random(20261121)
    with Caller(bridge) as caller:
        for _ in range(400):
            caller.send(malformed(chance)[:60_000])
        for junk in (b"", b"\r\n\r\n", b"\x00" * 500, b"INVITE", bytes(range(256)) * 16, b"\r\n" * 3000):
            caller.send(junk)
    for _ in range(20):
        with socket.socket() as stream:
            stream.settimeout(2)
            stream.connect((HOST, bridge.port))
            try:
                for _ in range(5):
                    stream.sendall(malformed(chance))
            except ConnectionError:
                pass
    sipp(bridge, "call.xml")
    sipp(bridge, "call.xml", transport="t1")
    with Caller(bridge) as caller:
        caller.invite()
        assert caller.echo(0) >= 10
        caller.bye()


def test_a_broken_body_is_refused(bridge: Bridge) -> None:
    for body in (
        "v=0",
        "m=audio x RTP/AVP 0",
        "\x01\x02\x03",
        "v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\n",
    ):
        with Caller(bridge) as caller:
            assert 400 <= caller.invite(body=body)[0] < 500


def test_a_free_port_stays_free(bridge: Bridge) -> None:
    """The RTP range of the settings is kept to."""
    with Caller(bridge) as caller:
        caller.invite()
        assert caller.media
        assert bridge.settings["rtp_port_first"] <= caller.media[1] <= bridge.settings["rtp_port_last"]
        caller.bye()
    assert free_port()
