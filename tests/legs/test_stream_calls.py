"""Calls by media stream over real WebSockets: what the caller hears, what the agent is told was heard."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K, PCMU_8K
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.call.events import AgentAudio, Ending, ReplyId
from telbridge.caller.streams.call import StreamCall
from telbridge.serving.outside import in_format
from tests.legs.stream_bed import StreamBed, stream_bed, until

MS = 8
"""Octets of μ-law."""


def speech(ms: int, seed: int = 1) -> bytes:
    """μ-law in which every piece differs and no code is silence."""
    codes = np.random.default_rng(seed).integers(0, 120, ms * MS, dtype=np.uint8)
    return codes.tobytes()


def heard(call: StreamCall) -> bytes:
    return b"".join(packet.payload for packet in call.received)


def spoken_part(audio: bytes) -> bytes:
    """From the first octet that is not silence to the last."""
    return audio.strip(b"\xff")


def url_of(bed: StreamBed, kind: str) -> str:
    return bed.twilio if kind == "twilio" else bed.generic


@pytest.mark.parametrize("kind", ["twilio", "generic"])
async def test_mu_law_passes_untouched_both_ways(kind: str) -> None:
    answer = speech(400)
    async with stream_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        side.says(answer)
        await call.play(np.random.default_rng(3).integers(-8000, 8000, 3200).astype("<i2").tobytes())
        await until(lambda: call.player.counters.played >= len(answer) and call.player.buffered == 0)
        await until(lambda: len(b"".join(side.session.uplink)) >= 8 * 450)
        sent = b"".join(packet.payload for packet in call.sent)
        uplink = b"".join(side.session.uplink)
        assert uplink in sent
        assert spoken_part(sent) in uplink
        assert spoken_part(answer) in heard(call)
        assert call.facts.complaints == []


@pytest.mark.parametrize("kind", ["twilio", "generic"])
async def test_a_burst_is_sent_ahead_by_no_more_than_the_lead_and_heard_whole(kind: str) -> None:
    answer = speech(1500)
    async with stream_bed(streams={"lead_ms": 120}) as bed:
        call, side = await bed.dial(url_of(bed, kind))
        side.says(answer)
        await until(lambda: call.player.counters.played >= len(answer))
        assert spoken_part(answer) in heard(call), "speech was torn"
        # The simulator plays by its own tick: a frame may wait there for up to one more.
        assert call.player.counters.most_buffered <= (120 + 20) * MS


@pytest.mark.parametrize("kind", ["twilio", "generic"])
async def test_an_interruption_clears_at_once_and_tells_what_was_heard(kind: str) -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        for round_, wait_s in enumerate((0.31, 0.555, 0.127), 1):
            before = call.player.counters.played
            reply = side.says(speech(5000, seed=round_))
            await asyncio.sleep(wait_s)
            side.hears_the_caller()
            await until(lambda count=round_: len(call.facts.clears) == count)
            cleared = call.facts.clears[-1]
            (fate,) = [fate for fate in side.session.heard if fate.reply == reply]
            played_ms = (cleared.played - before) / MS
            assert fate.heard_ms == pytest.approx(played_ms, abs=40), round_
            assert fate.heard_samples + fate.discarded_samples == 5000 * MS
            assert call.player.buffered == 0
            await asyncio.sleep(0.1)
            assert call.player.counters.played == cleared.played, "something was said after the clear"


async def test_the_end_of_a_reply_that_only_the_carrier_still_holds_can_be_interrupted() -> None:
    """The agent has long finished, and so has our queue: what was not heard is told all the same."""
    async with stream_bed(streams={"lead_ms": 400}) as bed:
        call, side = await bed.dial()
        reply = side.says(speech(380))
        await until(lambda: call.player.counters.played >= 100 * MS)
        side.hears_the_caller()
        await until(lambda: bool(call.facts.clears))
        (fate,) = side.session.heard
        assert fate.reply == reply
        assert fate.heard_ms == pytest.approx(call.facts.clears[0].played / MS, abs=40)
        assert fate.heard_samples + fate.discarded_samples == 380 * MS


async def test_nothing_is_cleared_and_nothing_reported_when_the_caller_heard_it_all() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        side.says(speech(100))
        await until(lambda: call.player.counters.played >= 100 * MS)
        await asyncio.sleep(0.1)
        side.hears_the_caller()
        await asyncio.sleep(0.05)
        assert side.session.heard == []


async def test_an_answer_leaves_without_waiting_for_a_tick() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        assert bed.ingress._ticking is not None
        bed.ingress._ticking.stop()
        for number in range(5):
            before = call.player.counters.received
            side.session.emit(AgentAudio(ReplyId(1), speech(20, seed=number), time.monotonic_ns()))
            await until(lambda count=before: call.player.counters.received > count)


async def test_the_last_word_before_we_hang_up_is_heard_to_its_end() -> None:
    goodbye = speech(700)
    async with stream_bed() as bed:
        call, side = await bed.dial()
        side.says(goodbye)
        side.session.ends(Ending.AGENT_HUNG_UP)
        ended = await call.wait_ended()
        summary = await side.summary()
    assert call.player.counters.played >= len(goodbye)
    assert spoken_part(goodbye) in heard(call)
    assert (ended.by, ended.code) == ("peer", 1000)
    assert summary.ending is Ending.AGENT_HUNG_UP


async def test_a_carrier_far_away_is_waited_for_before_we_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we say takes 250 ms to get there: our own clock alone would cut the end."""
    goodbye, loop = speech(700), asyncio.get_running_loop()
    async with stream_bed() as bed:
        call, side = await bed.dial()
        obey = call._obey
        monkeypatch.setattr(call, "_obey", lambda message: loop.call_later(0.25, obey, message))
        side.says(goodbye)
        side.session.ends(Ending.AGENT_HUNG_UP)
        await call.wait_ended()
    assert call.player.counters.played >= len(goodbye)
    assert spoken_part(goodbye) in heard(call)


async def test_keys_reach_the_agent() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        await call.dtmf("5*")
        await until(lambda: len(side.session.texts) == 2)
        assert ["5" in side.session.texts[0], "*" in side.session.texts[1]] == [True, True]


async def test_a_caller_who_hangs_up_is_gone_at_once() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        await call.hang_up()
        summary = await side.summary()
        await until(lambda: bed.ingress.live_calls == 0)
    assert summary.ending is Ending.CALLER_HUNG_UP


async def test_a_connection_that_breaks_is_no_hanging_up() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        call.vanish()
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.LEG_FAILED, "the connection was lost")


async def test_a_stream_that_falls_silent_is_ended() -> None:
    async with stream_bed(streams={"media_timeout_s": 0.5}) as bed:
        call, side = await bed.dial()
        bed.phone._pacer.remove(call)
        summary = await side.summary()
        assert summary.ending is Ending.MEDIA_TIMEOUT
        assert (await call.wait_ended()).reason.startswith("nothing came for 0.")


async def test_twilio_tells_the_end_of_a_call_by_its_status_too() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        await bed.phone.tell_status(call, "in-progress")
        assert not side.leg.over
        await bed.phone.tell_status(call, "completed")
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")


async def test_the_parameters_of_a_generic_stream_are_those_of_its_dialplan() -> None:
    start = {
        "type": "start",
        "format": {"encoding": "pcmu", "rate_hz": 8000},
        "from": "+15005550009",
        "parameters": {"queue": "support", "tier": 2},
    }
    async with stream_bed() as bed, aiohttp.ClientSession() as http, http.ws_connect(bed.generic) as socket:
        await socket.send_json(start)
        await until(lambda: bool(bed.sides))
        facts = bed.sides[0].leg.facts
        assert (facts.caller, facts.called) == ("+15005550009", "")
        assert (facts.parameters, facts.headers) == ({"queue": "support", "tier": "2"}, {})


async def test_the_facts_of_the_webhook_are_the_facts_of_the_call() -> None:
    async with stream_bed() as bed:
        call = await bed.phone.call(bed.twilio, caller="+15005550009", called='<&"Ü>')
        await until(lambda: bool(bed.sides))
        facts = bed.sides[0].leg.facts
        assert (facts.ingress, facts.caller, facts.called) == ("twilio", "+15005550009", '<&"Ü>')
        assert facts.headers["Direction"] == "inbound"
        assert facts.signalling_id.startswith("CA")
        assert facts.wire_format == PCMU_8K
        await call.hang_up()


async def test_the_record_of_a_call_tells_the_round_trip_and_what_twilio_threw_away() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        await call.play(PCM_8K.silence(1600))
        call._dialect._sequence += 7
        await until(lambda: side.leg._intake.audio_messages > 15)
        await asyncio.sleep(0.05)
        quality = side.leg.quality()
        assert quality is not None
        assert quality.rx_lost == 7
        assert quality.rtt_ms is not None
        assert quality.rtt_ms < 50


def test_words_of_our_own_are_in_the_format_of_the_leg() -> None:
    words = b"\x01\x10" * 800
    assert in_format(words, PCMU_8K) == pcm16_to_ulaw(words)
    assert in_format(words, PCM_8K) == words


async def test_a_peer_that_wants_silence_gets_an_unbroken_stream() -> None:
    """And no marks: it is served by our own clock."""
    start = {"format": {"encoding": "pcm16", "rate_hz": 16000}, "marks": False, "silence": True}
    words = speech(300)
    async with stream_bed() as bed, aiohttp.ClientSession() as http, http.ws_connect(bed.generic) as socket:
        await socket.send_str(json.dumps({"type": "start", **start}))
        await until(lambda: len(bed.sides) == 1)
        side = bed.sides[0]
        await side.ready()
        arrivals, audio = [], b""
        while len(arrivals) < 60:
            await socket.send_bytes(bytes(640))
            message = await socket.receive(1.0)
            if message.type is aiohttp.WSMsgType.BINARY:
                arrivals.append(time.monotonic())
                audio += message.data
            if len(arrivals) == 15:
                side.says(words)
            if len(arrivals) == 50:
                side.hears_the_caller()
        assert len(audio) == 60 * 640
        assert 0.7 <= arrivals[-1] - arrivals[0] <= 1.6, "it does not flow in real time"
        loud = np.flatnonzero(np.abs(np.frombuffer(audio, "<i2").astype(int)) > 500)
        assert (loud[-1] - loud[0]) / 16 == pytest.approx(300, abs=10)
        assert side.session.heard == [], "silence was taken for speech that was missed"
