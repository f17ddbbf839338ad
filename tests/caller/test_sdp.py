"""Offers, answers and what peers write into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.caller.sdp import Codec, Direction, SessionDescription, answer_to, chosen, codecs_for

OFFER = SessionDescription("127.0.0.1", 4000, codecs_for((PCMU_8K, PCMA_8K)), session_id=7)

LINPHONE = (  # Opus and friends first, static types without rtpmap, session-level c= and direction
    b"v=0\r\no=c 3747 2219 IN IP4 192.0.2.1\r\ns=Talk\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\n"
    b"m=video 9078 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\n"
    b"m=audio 7078 RTP/AVP 96 8 0 18 101 97\r\na=rtpmap:96 opus/48000/2\r\n"
    b"a=rtpmap:101 telephone-event/48000\r\na=rtpmap:97 telephone-event/8000\r\n"
)


def test_an_offer_reads_like_this():
    assert bytes(OFFER) == (
        b"v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=telbridge caller\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
        b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )


def test_other_codecs_and_media_are_skipped():
    theirs = SessionDescription.parse(LINPHONE)
    assert theirs.codecs == (Codec(8, PCMA_8K), Codec(0, PCMU_8K))
    assert (theirs.address, theirs.port, theirs.direction) == ("192.0.2.1", 7078, Direction.SENDONLY)
    assert theirs.event_payload_type == 97


@given(
    codecs=st.permutations([PCMU_8K, PCMA_8K]),
    direction=st.sampled_from(Direction),
    event=st.none() | st.integers(96, 127),
    port=st.integers(0, 65535),
)
def test_parse_and_str_are_a_pair(codecs, direction, event, port):
    one = SessionDescription("10.0.0.1", port, codecs_for(codecs), direction, event)
    assert SessionDescription.parse(bytes(one)) == one


@pytest.mark.parametrize(
    ("offered", "wanted", "answered"),
    [
        (Direction.SENDRECV, Direction.SENDRECV, Direction.SENDRECV),
        (Direction.SENDONLY, Direction.SENDRECV, Direction.RECVONLY),
        (Direction.RECVONLY, Direction.SENDRECV, Direction.SENDONLY),
        (Direction.INACTIVE, Direction.SENDRECV, Direction.INACTIVE),
        (Direction.SENDRECV, Direction.SENDONLY, Direction.SENDONLY),
    ],
)
def test_an_answer_allows_no_more_than_both_want(offered, wanted, answered):
    offer = SessionDescription("10.0.0.1", 5000, codecs_for((PCMA_8K, PCMU_8K)), offered)
    answer = answer_to(offer, OFFER, wanted)
    assert answer.direction is answered
    assert answer.codecs == (Codec(8, PCMA_8K),)
    assert (answer.session_id, answer.version) == (7, 2)


def test_an_offer_without_our_codecs_cannot_be_answered():
    with pytest.raises(ValueError, match="no codec"):
        answer_to(SessionDescription("10.0.0.1", 5000, ()), OFFER)


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.1"])
def test_hold_is_a_null_address_or_a_direction(address):
    direction = Direction.SENDRECV if address == "0.0.0.0" else Direction.SENDONLY
    assert SessionDescription(address, 5000, codecs_for((PCMU_8K,)), direction).on_hold


def test_a_refused_stream_has_no_codec():
    with pytest.raises(ValueError, match="refuses"):
        chosen(SessionDescription("10.0.0.1", 0, codecs_for((PCMU_8K,))))


@pytest.mark.parametrize(
    "broken", [b"", b"v=0\r\nm=audio 1\r\n", LINPHONE.replace(b"c=IN IP4 192.0.2.1\r\n", b"")]
)
def test_what_is_no_description_is_a_value_error(broken):
    with pytest.raises(ValueError):
        SessionDescription.parse(broken)
