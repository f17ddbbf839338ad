"""AudioSocket: its frames, its announcements, and calls over real TCP from what behaves as Asterisk does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_8K, PCM_16K
from telbridge.call.events import Ending
from telbridge.caller.streams.webhook import Refusal
from telbridge.config import ConfigErrors, load
from telbridge.legs.streams.announcements import MOST, Announcement, Announcements
from telbridge.legs.streams.audiosocket import AUDIO, AudioSocketPeer, Compressed, FrameCutter, framed
from telbridge.legs.streams.peer import Fault, Happening, Ignored, Key, Started, Stopped
from tests.legs.stream_bed import say_until, stream_bed, until
from tests.legs.test_stream_calls import MS, heard, speech, spoken_part

MS_NS = 1_000_000
CALL = UUID("40325ec2-5efd-4bd3-805f-53576e581d14")
HELLO = framed(0x01, CALL.bytes)
ANNOUNCED = "/asterisk/announce"


def started(kind: int = 0x10) -> AudioSocketPeer:
    peer = AudioSocketPeer()
    assert peer.receive(HELLO) == Ignored("UUID")
    assert peer.receive(framed(kind, bytes(320))) == Started(str(CALL), str(CALL), "", AUDIO[kind])
    return peer


# ---------------------------------------------------------------- frames


frames_of_any_kind = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=400)), max_size=12)


@settings(deadline=None, max_examples=40)
@given(frames_of_any_kind, st.lists(st.integers(1, 60), max_size=200))
def test_frames_are_the_same_however_tcp_cuts_or_joins_them(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(framed(kind, payload) for kind, payload in sent)
    cutter, got, at = FrameCutter(), [], 0
    for size in cuts:
        got += cutter.feed(wire[at : at + size])
        at += size
    got += cutter.feed(wire[at:])
    assert got == [framed(kind, payload) for kind, payload in sent]


kinds = st.sampled_from((0x00, 0x01, 0x03, *AUDIO, 0x17, 0xFF)) | st.integers(0, 255)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(kinds, st.binary(max_size=400))), st.booleans())
def test_whatever_comes_is_a_happening_and_no_exception(
    sent: list[tuple[int, bytes]], after_start: bool
) -> None:
    peer = started() if after_start else AudioSocketPeer()
    for kind, payload in sent:
        assert isinstance(peer.receive(framed(kind, payload)), Happening)
    assert isinstance(peer.receive(b"\x10"), Fault)
    assert isinstance(peer.receive("text"), Fault)


def test_a_stream_from_its_first_frame_to_its_last() -> None:
    """Octets as Asterisk 22.10 sent them."""
    peer = AudioSocketPeer()
    assert peer.receive(bytes.fromhex("010010" + CALL.hex)) == Ignored("UUID")
    assert peer.receive(bytes.fromhex("100140") + bytes(320)) == Started(str(CALL), str(CALL), "", PCM_8K)
    assert peer.receive(bytes.fromhex("100004") + b"\1\0\2\0") == b"\1\0\2\0"
    assert peer.receive(bytes.fromhex("03000135")) == Key("5")
    assert peer.receive(bytes.fromhex("000000")) == Stopped()
    assert peer.audio(memoryview(b"\1\0\2\0")) == bytes.fromhex("100004") + b"\1\0\2\0"
    assert peer.goodbye("whatever") == b"\0\0\0"
    assert (peer.greeting(), peer.mark("1"), peer.clear()) == (None, None, None)


@pytest.mark.parametrize("kind", AUDIO)
def test_each_rate_has_its_kind_both_ways(kind: int) -> None:
    peer, frame = started(kind), AUDIO[kind].silence(AUDIO[kind].rate_hz // 50)
    assert peer.receive(framed(kind, frame)) == frame
    assert peer.audio(frame) == framed(kind, frame)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([framed(0x10, bytes(320))], "no UUID before anything else"),
        ([framed(0x01, bytes(15))], "UUID of another length than 16 octets"),
        ([HELLO, HELLO], "UUID twice"),
        ([HELLO, framed(0x10, bytes(320)), framed(0x10, bytes(3))], "half a sample of audio"),
        ([HELLO, framed(0xFF, b"\x04")], "Asterisk reports error 04"),
        ([HELLO, framed(0xFF)], "Asterisk reports error without a code"),
    ],
)
def test_what_breaks_the_protocol_is_a_fault(frames: list[bytes], reason: str) -> None:
    peer = AudioSocketPeer()
    assert [peer.receive(frame) for frame in frames][-1] == Fault(reason)


def test_a_caller_who_was_silent_at_first_may_turn_out_to_have_another_rate() -> None:
    """The channel driver drops what is not of its own rate: all is converted then, both ways."""
    peer = AudioSocketPeer()
    peer.receive(HELLO)
    assert peer.assume(PCM_8K).format == PCM_8K
    ups = [peer.receive(framed(0x12, bytes(640))) for _ in range(5)]
    assert ups == [bytes(320)] * 5
    assert peer.audio(bytes(320)) == framed(0x12, bytes(640))
    assert peer.receive(framed(0x10, b"\1\0")) == b"\1\0"
    assert peer.audio(bytes(320)) == framed(0x10, bytes(320))


def test_a_start_is_assumed_only_for_a_known_uuid() -> None:
    with pytest.raises(ValueError, match="before the UUID"):
        AudioSocketPeer().assume(PCM_8K)


def test_g711_under_the_name_of_linear_audio_is_noticed() -> None:
    """By its pace: a telephone with frames of 10 ms sends as many octets twice as often."""
    g711, short, late = Compressed(), Compressed(), Compressed()
    frame = framed(0x10, bytes(160))
    assert [ms for ms in range(0, 4000, 20) if g711.add(frame, ms * MS_NS)] == [2000]
    assert not any(short.add(frame, ms * MS_NS) for ms in range(0, 4000, 10))
    pauses = (ms for ms in range(0, 4000, 20) if ms % 1000 >= 200)
    assert not any(late.add(frame, ms * MS_NS) for ms in pauses)
    assert not any(g711.add(framed(0x10, bytes(320)), ms * MS_NS) for ms in range(0, 4000, 20))


# ---------------------------------------------------------------- announcements


def test_an_announcement_is_good_once_and_for_a_minute() -> None:
    book, call = Announcements(), Announcement("+15005550006", "100", {"queue": "support"})
    book.put("a", call, 0)
    book.put("b", call, 0)
    assert book.take("a", 59_999 * MS_NS) == call
    assert book.take("a", 59_999 * MS_NS) is None
    assert book.take("b", 60_000 * MS_NS) is None
    assert book.take("c", 0) is None


def test_announcements_that_nobody_takes_are_forgotten() -> None:
    book = Announcements()
    for number in range(2 * MOST):
        book.put(str(number), Announcement(), 0)
    assert len(book) == MOST
    book.put("last", Announcement(), 61_000 * MS_NS)
    assert len(book) == 1


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
async def test_audio_of_each_rate_goes_both_ways(rate_hz: int) -> None:
    """The agent of these tests speaks μ-law; what it says comes back as it was, but for the resampling."""
    answer = speech(400)
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket(rate_hz=rate_hz))
        assert side.leg.format == side.leg.facts.wire_format
        assert side.leg.format.rate_hz == rate_hz
        side.says(answer)
        await call.play(np.random.default_rng(3).integers(-8000, 8000, 3200).astype("<i2").tobytes())
        await until(lambda: len(spoken_part(heard(call))) >= 395 * MS)
        await until(lambda: len(b"".join(side.session.uplink)) >= 8 * 450)
        if rate_hz == 8_000:
            assert spoken_part(answer) in heard(call)
            assert b"".join(side.session.uplink) in b"".join(packet.payload for packet in call.sent)
        assert call.facts.complaints == []


async def test_speech_is_sent_in_real_time_however_fast_the_agent_is() -> None:
    """Asterisk hands on each frame the moment that it comes."""
    answer = speech(700)
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket())
        await say_until(side, answer, lambda: spoken_part(answer) in heard(call))
        # Two frames ahead, and the simulator plays by a tick of its own.
        assert call.player.counters.most_buffered <= (40 + 20) * MS


async def test_an_idle_call_is_sent_silence_without_a_gap() -> None:
    """After two seconds without a word from either side `AudioSocket()` gives up."""
    async with stream_bed() as bed:
        call, _ = await bed.dial(bed.audiosocket())
        before, since = call.player.counters.received, time.monotonic()
        await until(lambda: call.player.counters.received - before >= 500 * MS)
        assert time.monotonic() - since >= 0.35, "faster than real time"


async def test_after_an_interruption_only_what_had_left_is_heard() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket())
        reply = side.says(speech(5000))
        await until(lambda: len(spoken_part(heard(call))) >= 300 * MS)
        sent_ms = (time.monotonic_ns(), len(spoken_part(heard(call))) / MS)
        side.hears_the_caller()
        await asyncio.sleep(0.2)
        heard_ms = len(spoken_part(heard(call))) / MS
        assert heard_ms - sent_ms[1] <= 120
        (fate,) = [fate for fate in side.session.heard if fate.reply == reply]
        # It tells what was handed over: a fade follows, and up to two frames were on their way.
        assert fate.heard_ms == pytest.approx(heard_ms, abs=60)
        assert fate.heard_samples + fate.discarded_samples == 5000 * MS


async def test_the_last_word_is_heard_before_the_hang_up_frame() -> None:
    goodbye = speech(400)
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket())
        side.says(goodbye)
        side.session.ends(Ending.AGENT_HUNG_UP)
        ended = await call.wait_ended()
        summary = await side.summary()
        await until(lambda: call.player.buffered == 0 or call.ended is not None)
    assert (ended.by, ended.reason) == ("peer", "hang-up frame")
    assert summary.ending is Ending.AGENT_HUNG_UP
    assert call.player.counters.received >= len(goodbye)


async def test_keys_reach_the_agent() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket())
        await call.dtmf("5#")
        await until(lambda: len(side.session.texts) == 2)
        assert ["5" in side.session.texts[0], "#" in side.session.texts[1]] == [True, True]


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_asterisk_hangs_up_by_closing(how: str) -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.audiosocket())
        if how == "closes":
            await call.hang_up()
        else:
            call.vanish()
        summary = await side.summary()
        await until(lambda: bed.ingress.live_calls == 0)
    assert summary.ending is Ending.CALLER_HUNG_UP


async def test_what_was_announced_is_known_of_the_call() -> None:
    form = {"uuid": str(CALL).upper(), "from": "+15005550006", "to": "100", "queue": "sup\nport"}
    async with stream_bed() as bed, aiohttp.ClientSession() as http:
        async with http.post(bed.http(ANNOUNCED), data=form) as answer:
            assert (answer.status, await answer.text()) == (200, str(CALL))
        call, side = await bed.dial(bed.audiosocket(str(CALL)))
        facts = side.leg.facts
        assert (facts.ingress, facts.caller, facts.called) == ("audiosocket", "+15005550006", "100")
        assert (facts.parameters, facts.signalling_id) == ({"queue": "support"}, str(CALL))
        await call.hang_up()
        again = await bed.phone.call(bed.audiosocket(str(CALL)))
        assert (await again.wait_ended()).reason == "hang-up frame", "an announcement was good twice"


async def test_a_uuid_that_nobody_announced_is_a_call_only_where_that_is_set() -> None:
    uuid = str(uuid4())
    async with stream_bed() as bed:
        refused = await bed.phone.call(bed.audiosocket(uuid))
        await refused.wait_ended()
        assert bed.sides == []
    async with stream_bed(audiosocket={"unannounced": True}) as bed:
        call, side = await bed.dial(bed.audiosocket(uuid))
        assert (side.leg.facts.caller, side.leg.facts.signalling_id) == ("", uuid)
        await call.hang_up()


async def test_nobody_without_the_token_announces_from_elsewhere() -> None:
    """`public_url` makes everybody somebody from elsewhere."""
    elsewhere = {"http": {"public_url": "https://voice.example.com"}}
    secret = {"asterisk": {"token": {"env": "PBX"}}}
    async with (
        stream_bed(**elsewhere, **secret, environ={"PBX": "k3y"}) as bed,
        aiohttp.ClientSession() as http,
    ):
        for headers, status in [
            ({}, 403),
            ({"Authorization": "Bearer k3"}, 403),
            ({"Authorization": "Basic k3y"}, 403),
            ({"Authorization": "Bearer k3y"}, 200),
            ({"Authorization": aiohttp.encode_basic_auth("anybody", "k3y")}, 200),
        ]:
            async with http.post(bed.http(ANNOUNCED), data={"from": "1"}, headers=headers) as answer:
                assert answer.status == status, headers


async def test_a_wrong_announcement_gets_a_clear_answer() -> None:
    async with stream_bed(streams={"max_calls": 1}) as bed, aiohttp.ClientSession() as http:
        url = bed.http(ANNOUNCED)
        async with http.post(url, data={"uuid": "no"}) as answer:
            assert (answer.status, await answer.text()) == (400, "uuid is no UUID")
        async with http.post(url, json={"from": "1"}) as answer:
            assert answer.status == 415
        async with http.post(url, data={str(number): "" for number in range(65)}) as answer:
            assert answer.status == 400
        call, _ = await bed.dial(bed.audiosocket())
        with pytest.raises(Refusal, match=r"503 'no room'"):
            await bed.phone.call(bed.audiosocket())
        await call.hang_up()


async def test_an_address_that_may_not_connect_is_cut_off() -> None:
    async with stream_bed(audiosocket={"allow": ["10.0.0.0/8"]}) as bed:
        call = await bed.phone.call(bed.audiosocket())
        assert (await call.wait_ended()).by in ("network", "peer")
        assert bed.sides == []


async def test_a_port_that_is_taken_is_named() -> None:
    async with stream_bed() as bed:
        with pytest.raises(ConfigErrors, match="cannot listen on 127"):
            async with stream_bed(audiosocket={"port": bed.audiosocket_port}):
                pass


def test_the_settings_on_the_page_are_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "asterisk.md").read_text("utf-8")
    snippets = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "telbridge.toml"
    file.write_text("\n".join(snippets), "utf-8")
    settings = load(file, {})
    assert (settings.sip.port, settings.audiosocket.port) == (5070, 9092)
    assert settings.asterisk.token is not None


# ---------------------------------------------------------------- raw octets


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_silence_comes_while_the_agent_is_still_to_come() -> None:
    """The channel is answered, and may send nothing itself."""
    async with (
        stream_bed(audiosocket={"unannounced": True}) as bed,
        connected(bed.audiosocket_port) as (reader, writer),
    ):
        writer.write(HELLO)
        async with asyncio.timeout(20):
            for _ in range(5):
                assert await reader.readexactly(323) == framed(0x10, bytes(320))


async def test_a_silent_caller_is_answered_all_the_same() -> None:
    """A channel that waits sends no audio at all, and is not gone."""
    async with (
        stream_bed(audiosocket={"unannounced": True}, streams={"media_timeout_s": 0.3}) as bed,
        connected(bed.audiosocket_port) as (reader, writer),
    ):
        for octet in HELLO:
            writer.write(bytes((octet,)))
            await asyncio.sleep(0)
        await until(lambda: len(bed.sides) == 1)
        await bed.sides[0].ready()
        for _ in range(25):
            assert await reader.readexactly(323) == framed(0x10, bytes(320))
        assert not bed.sides[0].leg.over
        writer.write(framed(0x12, bytes(640)))
        await until(lambda: bed.sides[0].leg._intake.audio_messages == 1)
        cutter, kinds_ = FrameCutter(), set()
        while 0x12 not in kinds_:
            kinds_ |= {frame[0] for frame in cutter.feed(await reader.read(4096))}


@pytest.mark.parametrize(
    "octets",
    [b"GET / HTTP/1.1\r\n\r\n", framed(0x10, bytes(320)), b"", b"\1"],
    ids=["HTTP", "audio", "nothing", "a beginning"],
)
async def test_strangers_get_the_hang_up_frame_and_no_call(octets: bytes) -> None:
    async with (
        stream_bed(streams={"start_timeout_s": 0.1}) as bed,
        connected(bed.audiosocket_port) as (reader, writer),
    ):
        writer.write(octets)
        assert await asyncio.wait_for(reader.read(), 30) == b"\0\0\0"
        assert bed.sides == []


async def test_a_caller_who_does_not_read_is_ended() -> None:
    async with (
        stream_bed(audiosocket={"unannounced": True}) as bed,
        connected(bed.audiosocket_port) as (_, writer),
    ):
        writer.write(HELLO + framed(0x12, bytes(640)))
        await until(lambda: len(bed.sides) == 1)
        side = bed.sides[0]
        assert side.leg.format == PCM_16K
        side.leg._wire._transport.write(bytes(8_000_000))
        summary = await side.summary()
        assert (summary.ending, summary.detail) == (Ending.LEG_FAILED, "the peer does not read")


async def test_ending_while_audio_pours_in_still_delivers_the_hang_up_frame() -> None:
    """A connection closed with octets unread is reset, and `AudioSocket()` takes that for an error."""
    async with (
        stream_bed(audiosocket={"unannounced": True}) as bed,
        connected(bed.audiosocket_port) as (reader, writer),
    ):
        writer.write(HELLO + framed(0x10, bytes(320)))
        await until(lambda: len(bed.sides) == 1)
        await bed.sides[0].ready()

        async def pour() -> None:
            while True:
                writer.write(framed(0x10, bytes(320)))
                await asyncio.sleep(0.002)

        pouring = asyncio.create_task(pour())
        await asyncio.sleep(0.05)
        bed.sides[0].session.ends(Ending.AGENT_HUNG_UP)
        received = await asyncio.wait_for(reader.read(), 30)
        pouring.cancel()
        assert received.endswith(b"\0\0\0")
