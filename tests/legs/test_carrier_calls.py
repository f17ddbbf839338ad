"""Calls of every carrier through the real ingress, by its simulator: heard both ways, interrupted, ended."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from telbridge.audio.formats import PCMA_8K
from telbridge.audio.g711 import pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.call.events import DtmfFailed, DtmfSent, Ending, LegEvent
from telbridge.caller.run import CallOptions
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.run import run_stream_call
from telbridge.caller.streams.telnyx import TelnyxSide
from telbridge.caller.streams.webhook import Refusal
from tests.legs.carrier_bed import CALLERS, KINDS, SEED, carrier_bed, url_of
from tests.legs.stream_bed import until

MS = 8
"""Octets of μ-law, in which the telephones here speak and hear."""


def tone(ms: int, hz: float, level: int = 8000) -> bytes:
    """Linear, 8 kHz."""
    at = np.arange(ms * MS) / 8000
    return (level * np.sin(2 * np.pi * hz * at)).astype("<i2").tobytes()


def tone_ulaw(ms: int, hz: float) -> bytes:
    return pcm16_to_ulaw(tone(ms, hz))


def speech(ms: int, seed: int = 1) -> bytes:
    """μ-law in which every piece differs and no code is silence."""
    return np.random.default_rng(seed).integers(0, 120, ms * MS, dtype=np.uint8).tobytes()


def heard(call: StreamCall) -> bytes:
    return b"".join(packet.payload for packet in call.received)


def loudest_hz(ulaw: bytes) -> float:
    """The pitch of what is there, silence aside."""
    samples = np.frombuffer(ulaw_to_pcm16(ulaw), "<i2").astype(float)
    return float(np.abs(np.fft.rfft(samples)).argmax()) * 8000 / len(samples)


CODECS = [
    ("telnyx", "pcma/8000"),
    ("telnyx", "pcm16/16000"),
    ("plivo", "pcmu/8000"),
    ("plivo", "pcm16/16000"),
    ("signalwire", "pcm16/24000"),
    ("vonage", "pcm16/8000"),
    ("vonage", "pcm16/16000"),
]


@pytest.mark.parametrize(("kind", "codec"), CODECS)
async def test_either_hears_the_other(kind: str, codec: str) -> None:
    async with carrier_bed(**{kind: {"codec": codec}}) as bed:
        call, side = await bed.dial(url_of(bed, kind))
        side.says(tone_ulaw(200, 700))
        await call.play(tone(200, 1000))
        await until(lambda: call.player.counters.played >= 200 * MS and call.player.buffered == 0)
        await until(lambda: len(b"".join(side.session.uplink)) >= 220 * MS)
        assert side.leg.facts.ingress == kind
        assert str(side.leg.facts.wire_format) == codec
        assert loudest_hz(heard(call)) == pytest.approx(700, abs=15)
        assert loudest_hz(b"".join(side.session.uplink)) == pytest.approx(1000, abs=15)
        assert call.facts.complaints == []


@pytest.mark.parametrize("kind", KINDS)
async def test_an_interruption_clears_at_once_and_tells_what_was_heard(kind: str) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        for round_, wait_s in enumerate((0.16, 0.075), 1):
            before, clears = call.player.counters.played, len(call.facts.clears)
            reply = side.says(speech(5000, seed=round_))
            await asyncio.sleep(wait_s)
            side.hears_the_caller()
            await until(lambda count=clears + 1: len(call.facts.clears) == count)
            cleared = call.facts.clears[-1]
            (fate,) = [fate for fate in side.session.heard if fate.reply == reply]
            assert fate.heard_ms == pytest.approx((cleared.played - before) / MS, abs=45), round_
            assert call.player.buffered == 0
        assert call.facts.complaints == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_word_is_heard_before_we_hang_up(kind: str) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        side.says(speech(300))
        side.session.ends(Ending.AGENT_HUNG_UP)
        ended = await call.wait_ended()
        summary = await side.summary()
    assert call.player.counters.played >= 295 * MS
    assert (ended.by, ended.code) == ("peer", 1000)
    assert summary.ending is Ending.AGENT_HUNG_UP


@pytest.mark.parametrize("kind", KINDS)
async def test_keys_and_the_end_of_the_caller(kind: str) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        await call.dtmf("*")
        await until(lambda: len(side.session.texts) == 1)
        assert "*" in side.session.texts[0]
        await call.hang_up()
        summary = await side.summary()
        await until(lambda: bed.ingress.live_calls == 0)
    assert summary.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("kind", KINDS)
async def test_the_status_callback_ends_the_call_too(kind: str) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        await bed.phone.tell_status(call, "in-progress")
        assert not side.leg.over
        await bed.phone.tell_status(call, "completed")
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_facts_of_the_webhook_are_the_facts_of_the_call(kind: str) -> None:
    """Numbers in E.164, with the plus that Plivo and Vonage leave out."""
    async with carrier_bed() as bed:
        call = await bed.phone.call(url_of(bed, kind), caller="+15005550009", called="+15005550002")
        await until(lambda: bool(bed.sides))
        facts = bed.sides[0].leg.facts
        assert (facts.ingress, facts.caller, facts.called) == (kind, "+15005550009", "+15005550002")
        assert facts.signalling_id
        await call.hang_up()


@pytest.mark.parametrize(
    ("kind", "keys", "pressed"),
    [("plivo", "1,#", "1#"), ("signalwire", "2#", "2#"), ("telnyx", "1", ""), ("vonage", "1", "")],
)
async def test_keys_towards_the_caller_where_the_stream_can_carry_them(
    kind: str, keys: str, pressed: str
) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        told: list[LegEvent] = []
        hand_on = side.leg._on_event
        assert hand_on is not None
        side.leg._on_event = lambda event: (told.append(event), hand_on(event))[1]
        side.leg.send_dtmf(keys, tone_ms=40, gap_ms=20)
        await until(lambda: bool(told))
        assert isinstance(told[0], DtmfSent if pressed else DtmfFailed)
        await until(lambda: call.facts.pressed == pressed)
        assert call.facts.complaints == []


@pytest.mark.parametrize("codec", ["pcmu/8000", "pcm16/16000"])
async def test_telnyx_may_send_in_the_codec_of_the_telephones_side(codec: str) -> None:
    """As for calls in Europe, and wherever it cannot convert."""
    async with carrier_bed(telnyx={"codec": codec}) as bed:
        bed.phone.sides["telnyx"] = TelnyxSide(SEED, leg=PCMA_8K)
        call, side = await bed.dial(url_of(bed, "telnyx"))
        await call.play(tone(200, 1000))
        await until(lambda: len(b"".join(side.session.uplink)) >= 220 * MS)
        uplink = b"".join(side.session.uplink)
        assert loudest_hz(uplink) == pytest.approx(1000, abs=15)
        assert np.abs(np.frombuffer(ulaw_to_pcm16(uplink), "<i2").astype(int)).max() < 9000, "the wrong law"


async def test_telnyxs_linear_samples_go_in_the_order_of_the_settings() -> None:
    async with carrier_bed(telnyx={"codec": "pcm16/8000", "l16_byte_order": "little"}) as bed:
        bed.phone.sides["telnyx"] = TelnyxSide(SEED, big_endian=False)
        call, side = await bed.dial(url_of(bed, "telnyx"))
        side.says(tone_ulaw(200, 700))
        await until(lambda: call.player.counters.played >= 200 * MS)
        assert loudest_hz(heard(call)) == pytest.approx(700, abs=15)


async def test_what_telnyx_complains_about_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": 100004, "title": "invalid_media", "detail": "…"}
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, "telnyx"))
        before = side.leg._intake.messages
        call._send(json.dumps({"event": "error", "stream_id": "s", "payload": error}))
        await until(lambda: side.leg._intake.messages > before + 1)
        assert not side.leg.over
    assert "stream_peer_complains          call_id=" in (logged := capsys.readouterr().out)
    assert "what='100004 invalid_media'" in logged


@pytest.mark.parametrize("kind", KINDS)
async def test_no_room_is_told_so_that_the_carrier_takes_its_fallback(kind: str) -> None:
    async with carrier_bed(streams={"max_calls": 1}) as bed:
        await bed.dial(url_of(bed, kind))
        with pytest.raises(Refusal, match="503"):
            await bed.phone.call(url_of(bed, kind))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_telbridge_call_does_is_a_call_of_the_carrier(kind: str) -> None:
    rungs: list[str] = []
    async with carrier_bed() as bed:
        options = CallOptions(uri=url_of(bed, kind))
        calling = asyncio.create_task(
            run_stream_call(options, lambda *rung: rungs.append(rung[2]), environ=CALLERS)
        )
        await until(lambda: bool(bed.sides))
        await bed.sides[0].ready()
        bed.sides[0].says(speech(300))
        bed.sides[0].session.ends(Ending.AGENT_HUNG_UP)
        report = await calling
    assert (report.ok, report.complaints) == (True, ())
    assert report.heard_ms >= 295
    assert f"POST /{kind}/voice" in rungs


@pytest.mark.parametrize("kind", KINDS)
async def test_telbridge_call_tells_why_a_call_is_refused(kind: str) -> None:
    async with carrier_bed() as bed:
        report = await run_stream_call(CallOptions(uri=url_of(bed, kind)), environ={})
    assert report.refused == "webhook answered 403 Forbidden"
