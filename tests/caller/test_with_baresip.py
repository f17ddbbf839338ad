"""Our caller against baresip: a telephone that people use."""

import asyncio

import numpy as np
import pytest

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.caller import Direction, Softphone
from telbridge.caller.events import EndedBy, OfferReceived
from telbridge.caller.timeline import by_timestamp


@pytest.mark.parametrize(
    ("transport", "codecs", "format"),
    [("udp", "PCMU/8000/1", PCMU_8K), ("tcp", "PCMA/8000/1", PCMA_8K)],
)
async def test_both_hear_each_other(baresip, sound, transport, codecs, format):
    callee = await baresip(codecs)
    async with Softphone() as phone:
        call = await phone.call(callee.uri(transport))
        await call.wait_answered(30)
        await callee.event("CALL_ESTABLISHED")
        await call.dtmf("7")
        assert (await callee.event("CALL_DTMF_START"))["param"] == "7"
        # The silence after it pushes the tone out of baresip's jitter buffer before we hang up.
        await call.play(sound.tone(1000, 0.5).tobytes() + bytes(3200))
        await call.hang_up()
        await callee.event("CALL_CLOSED")
    assert call.codec == format
    tail = np.frombuffer(by_timestamp(call.received).pcm, "<i2")[-4000:]
    assert sound.loudest_hz(tail) == pytest.approx(440, abs=10)
    assert call.statistics.lost == 0
    heard = callee.heard()
    loud = np.abs(heard) > 1000
    assert np.count_nonzero(loud) == pytest.approx(3000, abs=40)  # 6 of the 8 samples of each period
    assert sound.loudest_hz(heard[loud.argmax() :][:3600]) == pytest.approx(1000, abs=20)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_hold_goes_both_ways(baresip, transport):
    callee = await baresip()
    async with Softphone() as phone:
        call = await phone.call(callee.uri(transport))
        await call.wait_answered(30)
        await callee.event("CALL_ESTABLISHED")
        await callee.command("hold")
        await call.expect(OfferReceived)
        assert call.description.direction in (Direction.RECVONLY, Direction.INACTIVE)
        held = len(call.sent)
        await asyncio.sleep(0.1)  # nothing to wait for: that nothing happens is the point
        assert len(call.sent) == held
        await callee.command("resume")
        await call.expect(OfferReceived)
        await call.play(bytes(1600))
        assert len(call.sent) > held
        assert (await call.hold()).code == 200
        assert (await call.reinvite(Direction.SENDRECV, codecs=(PCMA_8K,), new_port=True)).code == 200
        await call.play(bytes(3200))
        assert {one.payload_type for one in call.received[-3:]} == {8}
        await callee.command("hangup")
        assert (await call.wait_ended(30)).by is EndedBy.PEER
