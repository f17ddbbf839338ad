"""chan_websocket: its messages, and calls over real WebSockets from what behaves as Asterisk does."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import Ending
from telbridge.caller.streams.webhook import Refusal
from telbridge.legs.streams.chan_websocket import FORMATS, ChanWebSocketPeer
from telbridge.legs.streams.peer import (
    Complained,
    Fault,
    Flow,
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    Started,
)
from tests.legs.stream_bed import say_until, stream_bed, until
from tests.legs.test_stream_calls import MS, heard, speech, spoken_part

CHANNEL = "1795280000.7"
START = {
    "connection_id": "telbridge",
    "channel": "WebSocket/telbridge/0x7f0e3c00",
    "channel_id": CHANNEL,
    "format": "ulaw",
    "optimal_frame_size": 160,
    "ptime": 20,
}
CONTROLS = ["json", "plain-text"]


def start(control: str, **changed: object) -> str:
    fields = {**START, **changed}
    if control == "json":
        return json.dumps({"event": "MEDIA_START", **fields})
    return " ".join(("MEDIA_START", *(f"{name}:{value}" for name, value in fields.items())))


def event(control: str, name: str, plain: str = "", **fields: object) -> str:
    if control == "json":
        return json.dumps({"event": name, "channel_id": CHANNEL, **fields})
    return f"{name} {plain}".rstrip()


def started(control: str = "json") -> ChanWebSocketPeer:
    peer = ChanWebSocketPeer()
    assert isinstance(peer.receive(start(control)), Started)
    return peer


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize("control", CONTROLS)
def test_a_stream_from_its_first_message_to_its_last(control: str) -> None:
    peer = ChanWebSocketPeer()
    assert peer.receive(start(control)) == Started(CHANNEL, CHANNEL, "", PCMU_8K)
    assert peer.receive(b"\x01\x02") == b"\x01\x02"
    assert peer.receive(event(control, "DTMF_END", f"digit:# channel_id:{CHANNEL}", digit="#")) == Key("#")
    assert peer.receive(event(control, "MEDIA_MARK_PROCESSED", "17", correlation_id="17")) == MarkPlayed("17")
    assert peer.receive(event(control, "MEDIA_XOFF")) == Flow(True)
    assert peer.receive(event(control, "MEDIA_XON")) == Flow(False)
    for full in (True, False):
        plain = f"channel_id:{CHANNEL} queue_length:900 queue_full:{str(full).lower()} media_paused:false"
        assert peer.receive(event(control, "STATUS", plain, queue_full=full)) == Flow(full)
    error = event(control, "ERROR", f"channel_id:{CHANNEL} error_text:no", error_text="no")
    assert peer.receive(error) == Complained("no")
    assert peer.receive(event(control, "QUEUE_DRAINED")) == Ignored("QUEUE_DRAINED")
    assert isinstance(peer.receive(event(control, "SOMETHING_NEW", "a:b")), Ignored)


def test_commands_go_in_the_form_that_asterisk_began_with() -> None:
    plain, spoken = started("plain-text"), started("json")
    assert [plain.answer(), plain.mark("17"), plain.clear(), plain.goodbye("bye")] == [
        "ANSWER",
        "MARK_MEDIA 17",
        "FLUSH_MEDIA",
        "HANGUP",
    ]
    assert [spoken.answer(), spoken.mark("17"), spoken.clear(), spoken.goodbye("bye")] == [
        '{"command":"ANSWER"}',
        '{"command":"MARK_MEDIA","correlation_id":"17"}',
        '{"command":"FLUSH_MEDIA"}',
        '{"command":"HANGUP"}',
    ]
    longest = spoken.mark("9" * 15)
    assert longest is not None and len(longest) <= 128, "Asterisk ignores more"


@pytest.mark.parametrize("codec", FORMATS)
def test_each_codec_that_can_be_cut_into_frames(codec: str) -> None:
    form = FORMATS[codec]
    happening = ChanWebSocketPeer().receive(
        start("json", format=codec, optimal_frame_size=form.bytes_for_ms(20))
    )
    assert isinstance(happening, Started)
    assert happening.format == form


def test_inherited_variables_lose_their_underscores() -> None:
    variables = {"__TELBRIDGE_FROM": "+15005550006", "TELBRIDGE_TO": "100", "QUEUE": "support"}
    happening = ChanWebSocketPeer().receive(start("json", channel_variables=variables))
    assert isinstance(happening, Started)
    assert happening.parameters == {
        "TELBRIDGE_FROM": "+15005550006",
        "TELBRIDGE_TO": "100",
        "QUEUE": "support",
    }


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"format": "opus"}, "no codec opus: write c(ulaw) or c(slin16) into Dial()"),
        ({"optimal_frame_size": 0}, "no frames of 20 ms: leave p out of Dial()"),
        ({"optimal_frame_size": "many"}, "no frames of 20 ms: leave p out of Dial()"),
    ],
)
def test_a_start_that_we_cannot_serve_names_the_remedy(
    control: str, changed: dict[str, object], reason: str
) -> None:
    assert ChanWebSocketPeer().receive(start(control, **changed)) == Fault(reason)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\0\0", "audio before MEDIA_START"),
        ("DTMF_END digit:1", "DTMF_END before MEDIA_START"),
        ("", " before MEDIA_START"),
        ("{", "message is not JSON"),
        ("MEDIA_START", "`format` is no text"),
    ],
)
def test_a_wrong_beginning_is_a_fault(message: Message, reason: str) -> None:
    assert ChanWebSocketPeer().receive(message) == Fault(reason)


def test_what_breaks_the_protocol_later_is_a_fault_too() -> None:
    assert started().receive(start("json")) == Fault("MEDIA_START twice")
    assert started().receive('{"event":"DTMF_END"}') == Fault("`digit` is no text")
    peer = ChanWebSocketPeer()
    peer.receive(start("json", format="slin", optimal_frame_size=320))
    assert peer.receive(b"\0") == Fault("half a sample of audio")
    assert peer.receive(b"") == Ignored("audio of no length")


NAMES = ("event", "MEDIA_START", "DTMF_END", "format", "digit", "channel_id", "queue_full", "STATUS", "ulaw")
scalars = st.none() | st.booleans() | st.integers() | st.sampled_from(NAMES)
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner))
lines = st.lists(st.sampled_from((*NAMES, " ", ":", "{", "160")) | st.text(max_size=3)).map("".join)


@settings(deadline=None, max_examples=40)
@given(st.one_of(st.text(), st.binary(), trees.map(json.dumps), lines))
def test_whatever_comes_is_a_happening_and_no_exception(message: Message) -> None:
    for peer in (ChanWebSocketPeer(), started("json"), started("plain-text")):
        assert isinstance(peer.receive(message), Happening)


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize("control", CONTROLS)
async def test_mu_law_passes_untouched_both_ways(control: str) -> None:
    answer = speech(400)
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket(control=control))
        await asyncio.gather(
            call.play(np.random.default_rng(3).integers(-8000, 8000, 3200).astype("<i2").tobytes()),
            say_until(side, answer, lambda: spoken_part(answer) in heard(call)),
        )
        await until(lambda: len(b"".join(side.session.uplink)) >= 8 * 450)
        assert b"".join(side.session.uplink) in b"".join(packet.payload for packet in call.sent)
        assert call.facts.complaints == []


@pytest.mark.parametrize("codec", ["alaw", "slin16", "slin44"])
async def test_other_codecs_go_both_ways(codec: str) -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket(codec))
        assert side.leg.facts.wire_format == FORMATS[codec]
        side.says(speech(300))
        await until(lambda: len(spoken_part(heard(call))) >= 295 * MS)
        await until(lambda: len(b"".join(side.session.uplink)) >= 8 * 200)
        assert call.facts.complaints == []


async def test_an_interruption_flushes_and_tells_what_was_heard() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket())
        for round_, wait_s in enumerate((0.31, 0.155), 1):
            reply = side.says(speech(5000, seed=round_))
            before = call.player.counters.played
            await asyncio.sleep(wait_s)
            side.hears_the_caller()
            await until(lambda count=round_: len(call.facts.clears) == count)
            (fate,) = [fate for fate in side.session.heard if fate.reply == reply]
            played_ms = (call.facts.clears[-1].played - before) / MS
            # What was played may have begun with silence that stood before it.
            assert fate.heard_ms == pytest.approx(played_ms, abs=60), round_
            assert fate.heard_samples + fate.discarded_samples == 5000 * MS
            assert call.facts.complaints == []


async def test_a_queue_that_is_full_gets_nothing_until_it_is_not() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket())
        call._send('{"event":"MEDIA_XOFF"}')
        await until(lambda: side.leg._lead.stopped)
        side.says(speech(200))
        await asyncio.sleep(0.1)
        assert spoken_part(heard(call)) == b""
        call._send('{"event":"MEDIA_XON"}')
        await until(lambda: spoken_part(speech(200)) in heard(call))


async def test_the_last_word_is_heard_before_we_hang_up() -> None:
    goodbye = speech(300)
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket())
        side.says(goodbye)
        side.session.ends(Ending.AGENT_HUNG_UP)
        ended = await call.wait_ended()
        summary = await side.summary()
    assert spoken_part(goodbye) in heard(call)
    assert (ended.by, ended.code) == ("peer", 1000)
    assert summary.ending is Ending.AGENT_HUNG_UP


async def test_keys_and_facts_reach_the_agent_and_the_caller_hangs_up() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(bed.chan_websocket())
        facts = side.leg.facts
        assert (facts.ingress, facts.caller, facts.called) == (
            "chan_websocket",
            "+15005550006",
            "+15005550001",
        )
        await call.dtmf("5*")
        await until(lambda: len(side.session.texts) == 2)
        await call.hang_up()
        assert (await side.summary()).ending is Ending.CALLER_HUNG_UP


async def test_a_caller_who_says_nothing_is_not_gone() -> None:
    """A silent channel of Asterisk sends no audio; a ping tells that it is there."""
    async with (
        stream_bed(streams={"media_timeout_s": 0.15}) as bed,
        aiohttp.ClientSession() as http,
        http.ws_connect(bed.http("/asterisk/media"), protocols=("media",)) as socket,
    ):
        assert socket.protocol == "media"
        await socket.send_str(start("plain-text"))
        await until(lambda: len(bed.sides) == 1)
        await bed.sides[0].ready()
        async with asyncio.timeout(20):
            answers = [await socket.receive() for _ in range(25)]
        texts = [each.data for each in answers if each.type is aiohttp.WSMsgType.TEXT]
        assert texts[0] == "ANSWER"
        assert not bed.sides[0].leg.over


async def test_a_peer_that_answers_no_ping_is_gone() -> None:
    async with (
        stream_bed(streams={"media_timeout_s": 0.15}) as bed,
        aiohttp.ClientSession() as http,
        http.ws_connect(bed.http("/asterisk/media"), protocols=("media",), autoping=False) as socket,
    ):
        await socket.send_str(start("plain-text"))
        await until(lambda: len(bed.sides) == 1)
        assert (await bed.sides[0].summary()).ending is Ending.LEG_FAILED


async def test_nobody_without_the_token_connects_from_elsewhere() -> None:
    elsewhere = {"http": {"public_url": "https://voice.example.com"}}
    secret = {"asterisk": {"token": {"env": "PBX"}}}
    async with stream_bed(**elsewhere, **secret, environ={"PBX": "k3y"}) as bed:
        for login in ("", "asterisk:k3@"):
            with pytest.raises(Refusal, match="403"):
                await bed.phone.call(bed.chan_websocket(login=login))
        call, _ = await bed.dial(bed.chan_websocket(login="asterisk:k3y@"))
        await call.hang_up()
        by_path = bed.chan_websocket().replace("/media", "/media/k3y")
        call, _ = await bed.dial(by_path)
        await call.hang_up()
        with pytest.raises(Refusal, match="403"):
            await bed.phone.call(by_path.replace("k3y", "k3"))
