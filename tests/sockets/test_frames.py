"""The frames of a server (RFC 6455 §5), whatever way the network cuts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiohttp import WebSocketError, WSMessage, WSMsgType
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from telbridge.sockets.frames import FrameReader, masked_frame

MAX = 100_000


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """As a server sends it."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((0x80 * fin | opcode,)) + length + payload


def masked(octets: bytes, key: bytes) -> bytes:
    """The same frame, shorter than 64 kB, as a client sends it."""
    start = 4 if octets[1] == 126 else 2
    payload = bytes(octet ^ key[at % 4] for at, octet in enumerate(octets[start:]))
    return bytes((octets[0], octets[1] | 0x80)) + octets[2:start] + key + payload


def read(*pieces: bytes, max_octets: int = MAX) -> list[WSMessage]:
    reader = FrameReader(max_octets)
    return [message for piece in pieces for message in reader.feed(piece)]


def cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    before = 0
    for place in sorted({place % (len(octets) + 1) for place in places}):
        yield octets[before:place]
        before = place
    yield octets[before:]


MESSAGES = st.lists(
    st.one_of(
        st.text(max_size=300).map(lambda text: WSMessage(WSMsgType.TEXT, text, None)),
        st.binary(max_size=300).map(lambda octets: WSMessage(WSMsgType.BINARY, octets, None)),
        st.binary(max_size=125).map(lambda octets: WSMessage(WSMsgType.PING, octets, None)),
    ),
    max_size=6,
)


def octets_of(message: WSMessage) -> bytes:
    payload = message.data.encode() if isinstance(message.data, str) else message.data
    return frame(message.type, payload)


@given(MESSAGES, st.lists(st.integers(0, 5_000), max_size=8))
def test_however_it_is_cut_the_same_messages_come_out(messages: list[WSMessage], places: list[int]) -> None:
    octets = b"".join(map(octets_of, messages))
    assert read(*cut(octets, places)) == messages


@given(MESSAGES, st.lists(st.integers(0, 5_000), max_size=8), st.binary(min_size=4, max_size=4))
def test_a_client_masks_its_frames(messages: list[WSMessage], places: list[int], key: bytes) -> None:
    octets = b"".join(masked(octets_of(message), key) for message in messages)
    reader = FrameReader(MAX, masked=True)
    assert [message for piece in cut(octets, places) for message in reader.feed(piece)] == messages


@given(
    st.one_of(st.text(max_size=300), st.binary(max_size=300)),
    st.integers(0, 400),
    st.binary(min_size=4, max_size=4),
)
def test_one_whole_frame_is_its_message_and_nothing_else_is(data: str | bytes, at: int, key: bytes) -> None:
    opcode, payload = (1, data.encode()) if isinstance(data, str) else (2, data)
    for octets, is_masked in (
        (frame(opcode, payload), False),
        (masked_frame(opcode, payload, key), True),
    ):
        reader = FrameReader(MAX, masked=is_masked)
        short = octets[: at % len(octets)]
        if len(octets) >= 4:
            assert reader.whole(octets) == data
        assert reader.whole(short) is None
        assert reader.whole(octets + octets[:1]) is None
        assert [message.data for message in reader.feed(octets)] == [data]  # Nothing had been taken.
        reader.feed(short)
        if short:
            assert reader.whole(octets) is None  # It belongs behind what came before.


def test_a_frame_that_breaks_the_protocol_is_left_to_the_long_way() -> None:
    for broken in (b"\x81\x02\xff\xfe", b"\xc1\x02hi", b"\x01\x02hi", b"\x89\x02hi", b"\x81\x82hi"):
        assert FrameReader(MAX).whole(broken) is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_of_a_client_are_read_by_others(size: int) -> None:
    payload, opcode = bytes(range(256)) * (size // 256) + bytes(range(size % 256)), 1 if size > 125 else 9
    feed = StreamReader()
    feed.feed_data(masked_frame(opcode, payload, b"\x01\x80\x00\xff"))
    parse = Frame.parse(feed.read_exact, mask=True, max_size=None)
    try:
        next(parse)
    except StopIteration as done:
        assert (done.value.opcode, done.value.data, done.value.fin) == (opcode, payload, True)
    else:
        raise AssertionError("half a frame")


def test_a_client_that_does_not_mask_breaks_the_protocol() -> None:
    (fault,) = FrameReader(MAX, masked=True).feed(frame(1, b"hello"))
    assert fault.type is WSMsgType.ERROR


@given(st.text(min_size=1, max_size=200), st.lists(st.integers(0, 500), max_size=5), st.booleans())
def test_a_message_in_parts_with_a_ping_between_them(text: str, places: list[int], pinged: bool) -> None:
    parts = list(cut(text.encode(), places))
    frames = [frame(0 if index else 1, part, fin=False) for index, part in enumerate(parts)]
    frames.append(frame(0, b""))
    if pinged:
        frames.insert(1, frame(9, b"?"))
    found = read(b"".join(frames))
    assert [m.data for m in found] == ([b"?", text] if pinged else [text])


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_random_octets_never_raise_and_a_fault_is_the_last(octets: bytes, places: list[int]) -> None:
    kinds = [message.type for message in read(*cut(octets, places))]
    assert WSMsgType.ERROR not in kinds[:-1]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_every_way_to_write_a_length(size: int) -> None:
    assert read(frame(2, b"x" * size)) == [WSMessage(WSMsgType.BINARY, b"x" * size, None)]


def test_a_close_frame_tells_code_and_reason() -> None:
    assert read(frame(8, b"\x03\xe8bye")) == [WSMessage(WSMsgType.CLOSE, 1000, "bye")]
    assert read(frame(8, b"")) == [WSMessage(WSMsgType.CLOSE, 1005, "")]


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        pytest.param(b"\xc1\x01x", 1002, id="reserved bit"),
        pytest.param(b"\x81\x81\0\0\0\0x", 1002, id="masked"),
        pytest.param(frame(3, b""), 1002, id="unknown opcode"),
        pytest.param(frame(9, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(9, b"", fin=False), 1002, id="ping in parts"),
        pytest.param(frame(0, b"x"), 1002, id="continuation of nothing"),
        pytest.param(frame(1, b"x", fin=False) + frame(1, b"y"), 1002, id="message within a message"),
        pytest.param(frame(8, b"\x03"), 1002, id="close of one octet"),
        pytest.param(frame(1, b"\xff"), 1007, id="no UTF-8"),
        pytest.param(frame(1, b"\xff", fin=False) + frame(0, b""), 1007, id="no UTF-8 in parts"),
        pytest.param(b"\x82\x7f" + (MAX + 1).to_bytes(8, "big"), 1009, id="announced too long"),
        pytest.param(frame(2, b"x" * MAX, fin=False) + frame(0, b"y"), 1009, id="grown too long"),
    ],
)
def test_what_breaks_the_protocol_ends_it_with_its_code(octets: bytes, code: int) -> None:
    *before, fault = read(frame(1, b"ok") + octets, frame(1, b"later"))
    assert [message.data for message in before] == ["ok"]
    assert fault.type is WSMsgType.ERROR
    assert isinstance(fault.data, WebSocketError)
    assert fault.data.code == code
