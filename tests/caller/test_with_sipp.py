"""Our caller against SIPp: an independent stack that checks what we say, and echoes what we send."""

import asyncio
import itertools

import numpy as np
import pytest

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.audio.wav import write_wav
from telbridge.caller import (
    CallFailed,
    CallOptions,
    Direction,
    Patience,
    Press,
    Say,
    Softphone,
    Wav,
    run_call,
)
from telbridge.caller.events import Ended, EndedBy, InfoReceived, Referred, RequestAnswered
from telbridge.caller.timeline import by_timestamp

TICK_NS = 20_000_000


def payloads(packets):
    return b"".join(one.payload for one in packets)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_what_is_said_comes_back_octet_for_octet(sipp, sound, transport):
    callee = await sipp("echo", transport)
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        played = await call.play(sound.tone(1000, 0.4).tobytes())
        await call.dtmf("1#", duration_ms=60, gap_ms=40)
        ended = await call.hang_up()
    assert (ended.by, call.times.ringing_ns is not None) == (EndedBy.US, True)
    assert played.complete
    assert payloads(call.received) in payloads(one for one in call.sent if one.payload_type == 0)
    assert sound.loudest_hz(np.frombuffer(by_timestamp(call.received).pcm, "<i2")) == pytest.approx(
        1000, abs=20
    )
    assert call.received_digits == "1#"
    assert (call.statistics.lost, call.statistics.reordered, call.statistics.duplicates) == (0, 0, 0)
    assert await callee.passed()


async def test_the_stream_never_stops_and_keeps_its_pace(sipp, sound):
    callee = await sipp("echo")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        call.play(sound.tone(duration_s=0.1).tobytes())
        await call.play(bytes(8000))
        await call.hang_up()
    steps = {(b.sequence - a.sequence, b.timestamp - a.timestamp) for a, b in itertools.pairwise(call.sent)}
    assert steps <= {(1, 160), (-65535, 160), (1, 160 - 2**32)}
    whole = call.sent[-1].at_ns - call.sent[0].at_ns
    assert whole == pytest.approx((len(call.sent) - 1) * TICK_NS, abs=3 * TICK_NS)


async def test_a_peer_that_only_has_alaw_gets_alaw(sipp):
    callee = await sipp("echo_alaw")
    async with Softphone() as phone:
        call = await phone.call(callee.uri, codecs=(PCMU_8K, PCMA_8K))
        await call.wait_answered(30)
        await call.play(bytes(3200))
        assert call.codec == PCMA_8K
        with pytest.raises(ValueError, match="telephone-event"):
            call.dtmf("1")
        await call.hang_up()
    assert {one.payload_type for one in call.sent} == {8}
    assert await callee.passed()


async def test_a_refusal_tells_status_and_retry_after(sipp):
    callee = await sipp("busy")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        with pytest.raises(CallFailed, match=r"503 Draining.*Retry-After 7 s") as refused:
            await call.wait_answered(30)
        assert refused.value.ended.retry_after_s == 7
        assert await callee.passed()


async def test_a_ringing_call_is_cancelled(sipp):
    callee = await sipp("ring")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        with pytest.raises(TimeoutError):
            await call.wait_answered(0.1)
        ended = await call.hang_up()
        assert (ended.by, ended.code) == (EndedBy.US, 487)
        assert await callee.passed()


async def test_the_route_set_is_followed(sipp):
    callee = await sipp("record_route")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        await call.hang_up()
    assert await callee.passed()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_we_hold_resume_move_and_change_the_codec(sipp, transport):
    callee = await sipp("reinvited", transport)
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        assert (await call.hold()).code == 200
        held = len(call.sent)
        await asyncio.sleep(0.1)  # nothing to wait for: that nothing happens is the point
        assert len(call.sent) == held
        port = call.media.port
        assert (await call.reinvite(Direction.SENDRECV, new_port=True)).code == 200
        assert call.media.port != port
        await call.play(bytes(1600))
        await call.reinvite(codecs=(PCMA_8K,))
        await call.play(bytes(1600))
        call.dtmf_info("5")
        assert (await call.expect(RequestAnswered)).code == 200
        await call.hang_up()
    assert {one.payload_type for one in call.received} == {0, 8}
    assert call.sent[held].marker
    assert await callee.passed()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_peer_holds_transfers_and_hangs_up(sipp, transport):
    callee = await sipp("reinvites", transport)
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        assert (await call.expect(InfoReceived)).body.strip() == b"Signal=9"
        assert (await call.expect(Referred)).refer_to == "sip:human@127.0.0.1:5099"
        call.notify_referrer(200, "OK")
        ended = await call.expect(Ended)
        assert (ended.by, ended.reason) == (EndedBy.PEER, "Q.850;cause=16")
        assert await callee.passed()


async def test_many_calls_share_one_clock(sipp):
    callee = await sipp("echo", calls=20)
    async with Softphone(keep_packets=False) as phone:
        calls = [await phone.call(callee.uri) for _ in range(20)]
        await asyncio.gather(*(call.wait_answered(30) for call in calls))
        await asyncio.gather(*(call.play(bytes(16_000)) for call in calls))
        await asyncio.gather(*(call.hang_up() for call in calls))
    assert [call.received for call in calls] == [[]] * 20
    assert all(call.statistics.received >= 45 for call in calls)
    assert await callee.passed()


async def test_a_softphone_that_closes_hangs_up(sipp):
    callee = await sipp("echo")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
    assert await callee.passed()
    assert call.ended is not None


async def test_a_caller_may_vanish_and_waiting_ends_with_the_call(sipp):
    callee = await sipp("echo")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        waiting = asyncio.create_task(call.expect(Referred))
        playing = call.play(bytes(16_000))
        await asyncio.sleep(0)
        call.vanish()
        with pytest.raises(CallFailed):
            await waiting
        assert not (await playing).complete
        assert not (await call.play(bytes(320))).complete
        assert callee.process.returncode is None


async def test_nobody_at_the_port_is_told_at_once():
    async with Softphone() as phone:
        call = await phone.call("sip:echo@127.0.0.1:9")
        with pytest.raises(CallFailed, match=r"503.*network"):
            await call.wait_answered(30)
        with pytest.raises(OSError):
            await phone.call("sip:echo@127.0.0.1:9;transport=tcp")
        with pytest.raises(ValueError, match="no SIP URI"):
            await phone.call("echo")


async def test_a_connection_that_breaks_ends_the_call(sipp):
    callee = await sipp("echo", "tcp")
    async with Softphone() as phone:
        call = await phone.call(callee.uri)
        await call.wait_answered(30)
        callee.process.kill()
        assert (await call.wait_ended(30)).by is EndedBy.NETWORK


async def test_a_whole_call_is_reported_and_recorded(sipp, sound, tmp_path):
    callee = await sipp("echo")
    write_wav(tmp_path / "hello.wav", [sound.tone(1000, 0.3).tobytes()], 8000)
    ladder = []
    report = await run_call(
        CallOptions(
            uri=callee.uri,
            script=[Wav(tmp_path / "hello.wav"), Say("Hello?"), Press("1")],
            synthesize=lambda text: sound.tone(600, 0.2).tobytes(),
            record=tmp_path / "call.wav",
            patience=Patience(greeting_s=0.1, reply_s=0.3, hangover_ms=200),
        ),
        lambda t_ms, direction, text: ladder.append(f"{direction} {text}"),
    )
    assert report.ok and report.packets_lost == 0 and report.digits_received == "1"
    assert [turn.text for turn in report.turns] == ["hello.wav", "Hello?", "digits 1"]
    assert -320 < report.turns[0].gap_ms < -100  # the echo answers while we speak
    assert ladder[:4] == ["-> INVITE", "<- 180 Ringing", "<- 200 OK", "-> ACK"]
    assert "<- agent speaks" in ladder and ladder[-2:] == ["-> BYE", "<- 200 OK"]
    left, right = (sound.samples_of(tmp_path / "call.wav", channel) for channel in (0, 1))
    delay = int((abs(right) > 1000).argmax()) - int((abs(left) > 1000).argmax())
    assert 0 <= delay < 160  # aligned by time: the echo takes less than a packet
    assert "answered after" in str(report)


async def test_a_failed_call_is_a_report_too(sipp):
    callee = await sipp("busy")
    report = await run_call(CallOptions(uri=callee.uri))
    assert (report.ok, report.code, report.retry_after_s) == (False, 503, 7)
    assert str(report).endswith("503 Draining, ended by refused, Retry-After 7 s")
