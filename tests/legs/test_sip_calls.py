"""Calls as callers make them: codecs, answers, endings, keys, hold."""

from __future__ import annotations

import pytest
from sip_bed import PCMA_OFFER, PCMU_OFFER, Bridge, Caller, sipp

pytestmark = pytest.mark.sip


@pytest.mark.parametrize(("offer", "codec"), [(PCMU_OFFER, "pcmu/8000"), (PCMA_OFFER, "pcma/8000")])
def test_audio_goes_both_ways_and_the_caller_ends_it(
    bridge: Bridge, offer: tuple[int, ...], codec: str
) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        assert caller.invite(body=caller.offer(offer))[0] == 200
        facts = bridge.wait("call", signalling_id=caller.call_id)
        bridge.event("LegAnswered", call=facts["call_id"])
        assert caller.echo(offer[0]) >= 10
        caller.bye()
    assert (facts["codec"], facts["caller"], facts["called"]) == (codec, "+4930123", "echo")
    assert facts["ingress"] == "sip" and facts["peer"] == "{}:{}".format(
        "127.0.0.1", facts["peer"].split(":")[1]
    )
    ended = bridge.event("LegEnded", call=facts["call_id"])
    assert ended["ending"] == "caller_hung_up"
    quality = bridge.wait("quality", call=facts["call_id"])
    assert quality["codec"] == codec.partition("/")[0]
    assert quality["rx_packets"] >= 10 and quality["tx_packets"] >= 10 and quality["rx_lost"] == 0


@pytest.mark.parametrize(
    ("offer", "rtpmaps", "first", "codec"),
    [
        ((0, 8), (), 0, "pcmu/8000"),
        ((8, 0), (), 8, "pcma/8000"),
        ((18, 9, 8, 0, 101), (), 8, "pcma/8000"),
        ((96, 97, 0), ("a=rtpmap:96 opus/48000/2", "a=rtpmap:97 PCMA/8000"), 97, "pcma/8000"),
    ],
)
def test_the_first_codec_of_the_offer_that_we_speak_is_taken(
    bridge: Bridge, offer: tuple[int, ...], rtpmaps: tuple[str, ...], first: int, codec: str
) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        assert caller.invite(body=caller.offer(offer, rtpmaps=rtpmaps))[0] == 200
        assert caller.answered[0] == first
        assert bridge.wait("call", signalling_id=caller.call_id)["codec"] == codec
        caller.bye()


def test_no_codec_in_common_is_488(bridge: Bridge) -> None:
    with Caller(bridge) as caller:
        assert caller.invite(body=caller.offer((18, 9, 101)))[0] == 488


def test_an_invite_without_offer_gets_ours(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.request("INVITE")
        status, text = caller.response(to="INVITE")
        caller.to_tag = text.lower().split("\r\nto:")[1].split("tag=")[1].split("\r\n")[0].split(";")[0]
        caller.to_tag = text[text.lower().index(caller.to_tag) :][: len(caller.to_tag)]
        caller.learn(text)
        assert status == 200 and caller.answered[0] == 0
        caller.request("ACK", cseq=caller.cseq, body=caller.offer(PCMA_OFFER))
        bridge.event("LegAnswered")
        assert caller.echo(8) >= 10
        caller.bye()


@pytest.mark.parametrize("called", ["+49%2030", "a.b-c_d!", "x" * 200])
def test_any_user_part_is_taken(bridge: Bridge, called: str) -> None:
    bridge.mark()
    with Caller(bridge, called) as caller:
        assert caller.invite()[0] == 200
        assert bridge.wait("call")["called"] == called.replace("%20", " ")
        caller.bye()


def test_useful_headers_are_kept_within_bounds(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        many = [f"X-Number-{number}: {number}" for number in range(40)]
        known = ("User-Agent: phone/1", "s: Hello", "Route-Me: no", "Proxy-Authorization: Digest x")
        assert caller.invite(*known, "X-Long: " + "l" * 900, *many)[0] == 200
        headers = bridge.wait("call")["headers"]
        caller.bye()
    assert headers["User-Agent"] == "phone/1" and headers["X-Long"] == "l" * 256
    assert headers["Subject"] == "Hello" and headers["From"].startswith("<sip:+4930123@")
    assert not {"Route-Me", "Proxy-Authorization", "Via"} & set(headers) and len(headers) == 32


def test_a_caller_that_gives_up_is_told_apart(bridge: Bridge) -> None:
    bridge.mark()
    sipp(bridge, "cancel.xml", service="ring")
    assert bridge.ended()["ending"] == "caller_cancelled"


@pytest.mark.parametrize(
    ("called", "status", "header"),
    [("reject-404", 404, ""), ("busy", 503, "Retry-After: 7")],
)
def test_a_call_can_be_refused(bridge: Bridge, called: str, status: int, header: str) -> None:
    bridge.mark()
    with Caller(bridge, called) as caller:
        got, text = caller.invite()
    assert got == status and header in text
    assert bridge.ended()["ending"] == "agent_hung_up"


def test_we_can_hang_up(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.invite()
        call = bridge.event("LegAnswered")["call"]
        caller.echo(0, wanted=1)
        bridge.do("hang_up", call=call)
        ended = bridge.event("LegEnded", call=call)
        while not (text := caller.received().decode()).startswith("BYE "):
            pass
        head = [
            line
            for line in text.split("\r\n")
            if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")
        ]
        caller.send("\r\n".join(["SIP/2.0 200 OK", *head, "Content-Length: 0", "", ""]))
    assert ended["ending"] == "agent_hung_up"
    assert bridge.wait("quality", call=call)["tx_packets"] > 0
    assert len([event for event in bridge.since_mark("event") if event["name"] == "LegEnded"]) == 1


def test_options_are_answered(bridge: Bridge) -> None:
    sipp(bridge, "options.xml")


def test_calls_over_tcp(bridge: Bridge) -> None:
    bridge.mark()
    sipp(bridge, "call.xml", transport="t1", calls=2)
    assert bridge.ended()["ending"] == "caller_hung_up"


def test_keys_by_info(bridge: Bridge) -> None:
    bridge.mark()
    sipp(bridge, "info.xml")
    call = bridge.ended()["call"]
    keys = [
        event for event in bridge.since_mark("event") if event["name"] == "Dtmf" and event["call"] == call
    ]
    assert [(key["digit"], key["method"], key["duration_ms"]) for key in keys] == [
        ("5", "info", 160),
        ("#", "info", 250),
    ]


def test_keys_by_rfc_4733(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.invite()
        bridge.event("LegAnswered")
        caller.echo(0, wanted=3)
        for key in (1, 1, 11):
            caller.key(key)
        caller.key(0, ends=0)
        bridge.event("Dtmf", digit="0")
        caller.bye()
    keys = [event for event in bridge.since_mark("event") if event["name"] == "Dtmf"]
    assert [(key["digit"], key["method"]) for key in keys] == [(digit, "rfc4733") for digit in "11#0"]
    assert [key["duration_ms"] for key in keys] == [100] * 4


def test_hold_resume_move_and_change_of_codec_in_one_call(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.invite()
        bridge.event("LegAnswered")
        assert caller.echo(0) >= 10
        for direction in ("sendonly", "inactive", "null address"):
            body = caller.offer(direction=direction)
            if direction == "null address":  # RFC 2543's way of holding
                body = caller.offer().replace(f"c=IN IP4 {caller.source}", "c=IN IP4 0.0.0.0")
            assert caller.invite(body=body)[0] == 200
            bridge.event("Held")
            bridge.mark()
            assert caller.invite()[0] == 200
            bridge.event("Resumed")
            bridge.mark()
            assert caller.echo(0) >= 10, direction
        caller.new_media_socket()
        assert caller.invite()[0] == 200
        assert caller.echo(0) >= 10
        assert caller.invite(body=caller.offer(PCMA_OFFER))[0] == 200
        assert caller.answered[0] == 8
        assert caller.echo(8) >= 10
        assert caller.invite(body=caller.offer((18,)))[0] == 488
        assert caller.echo(8) >= 10
        caller.bye()
    bridge.event("LegEnded", ending="caller_hung_up")
    assert not [event for event in bridge.since_mark("event") if event["name"] in ("Held", "Resumed")]
    assert bridge.wait("quality")["rx_packets"] >= 60


def test_a_reinvite_without_offer_gets_ours(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        caller.invite(body=caller.offer(PCMA_OFFER))
        bridge.event("LegAnswered")
        caller.request("INVITE")
        status, text = caller.response(to="INVITE")
        caller.learn(text)
        assert status == 200 and set(caller.answered) >= {0, 8}
        caller.request("ACK", cseq=caller.cseq, body=caller.offer(PCMU_OFFER))
        assert caller.echo(0) >= 10
        caller.bye()


def test_a_contact_that_no_dns_knows_does_not_stop_the_clock(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller, Caller(bridge) as other:
        other.invite()
        caller.contact = "sip:test@nowhere.invalid"
        caller.invite()
        call = bridge.wait("call", signalling_id=caller.call_id)["call_id"]
        bridge.event("LegAnswered", call=call)
        bridge.do("hang_up", call=call)
        assert other.echo(0) >= 10
        assert bridge.event("LegEnded", call=call)["ending"] == "agent_hung_up"
        other.bye()


def test_hold_by_sipp(bridge: Bridge) -> None:
    bridge.mark()
    sipp(bridge, "hold.xml")
    call = bridge.ended()["call"]
    names = [event["name"] for event in bridge.since_mark("event") if event["call"] == call]
    assert names == ["LegAnswered", "Held", "Resumed", "LegEnded"]
