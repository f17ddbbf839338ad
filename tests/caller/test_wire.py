"""SIP messages on the wire: folding, framing, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.caller.wire import MAX_MESSAGE_OCTETS, StreamFramer, parse, summary

OPTIONS = (
    b"OPTIONS sip:us@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bKa\r\n"
    b"f: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:us@127.0.0.1>\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n"
)
WITH_BODY = OPTIONS + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
WITHOUT_BODY = OPTIONS + b"l: 0\r\n\r\n"


def test_folded_lines_and_spaces_before_the_colon_are_read():
    message = parse(WITH_BODY.replace(b"To: ", b"To : ").replace(b";tag=1", b"\r\n ;tag=1"))
    assert message.from_address.parameters["tag"] == "1"
    assert message.to_address.uri.user == "us"


def test_a_body_ends_at_content_length():
    assert parse(WITH_BODY + b"garbage").body == b"hello"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"hello",
        WITH_BODY[:-1],
        WITH_BODY.replace(b"Call-ID: c1\r\n", b""),
        WITH_BODY.replace(b"CSeq: 1 OPTIONS\r\n", b""),
        WITH_BODY.replace(b"CSeq: 1 ", b"CSeq: x "),
        WITH_BODY.replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n"),
    ],
)
def test_what_is_no_message_is_a_value_error(broken):
    with pytest.raises(ValueError):
        parse(broken)


@given(cuts=st.lists(st.integers(0, 3 * len(WITH_BODY)), max_size=8))
def test_a_stream_gives_the_same_messages_however_it_is_cut(cuts):
    stream = WITH_BODY + b"\r\n\r\n" + WITHOUT_BODY + WITH_BODY
    framer, found, start = StreamFramer(), [], 0
    for end in [*sorted(cuts), len(stream)]:
        found += framer.feed(stream[start:end])
        start = max(start, end)
    assert found == [WITH_BODY, WITHOUT_BODY, WITH_BODY]


def test_a_stream_without_end_of_message_is_refused():
    with pytest.raises(ValueError, match="more than"):
        StreamFramer().feed(b"x" * (MAX_MESSAGE_OCTETS + 1))


def test_a_ladder_names_requests_by_method_and_responses_by_status():
    assert summary(parse(WITH_BODY)) == "OPTIONS"
