"""A telephone calls a real Asterisk, which brings the call to a real telbridge: by SIP, chan_websocket and
AudioSocket, with the configuration of docs/asterisk.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav
from telbridge.caller.handle import CallHandle
from tests.conftest import SOUNDS
from tests.e2e.bridge import PATIENCE_S
from tests.e2e.heard import contains, heard, tones_hz
from tests.e2e.test_calls import ECHO, scripted
from tests.e2e.test_providers import ANSWER_HZ, CONVERSATION, GOODBYE_HZ, GREETING_HZ, noise
from tests.interop.asterisk import CALLER, Pbx, the_pbx
from tests.interop.test_asterisk_sip import with_dialplan

WAYS: Final = {"700": "sip", "701": "audiosocket", "702": "audiosocket", "703": "chan_websocket"}
"""By the extension of the page: which kind of leg it gives."""
MORE_WAYS: Final = """
[from-phones]
exten => 801,1,Set(__TELBRIDGE_FROM=${CALLERID(num)})
 same => n,Dial(WebSocket/telbridge/c(slin16),30)
 same => n,Hangup()
exten => 802,1,Answer()
 same => n,Gosub(announce,s,1(${EXTEN}))
 same => n,AudioSocket(${ID},127.0.0.1:9092)
 same => n,Playtones(1000)
 same => n,Wait(2)
 same => n,Hangup()
exten => 804,1,Answer()
 same => n,Gosub(announce,s,1(${EXTEN}))
 same => n,Dial(AudioSocket/127.0.0.1:9092/${ID})
 same => n,Hangup()
exten => 803,1,Dial(WebSocket/telbridge/c(alaw)f(json),30,g)
 same => n,Playtones(1000)
 same => n,Wait(2)
 same => n,Hangup()
exten => 805,1,Answer()
 same => n,Gosub(announce,s,1(${EXTEN}))
 same => n,Dial(AudioSocket/127.0.0.1:9092/${ID}/c(slin),30,g)
 same => n,Playtones(1000)
 same => n,Wait(2)
 same => n,Hangup()
"""
"""Words in place of JSON; dialplans that go on after the agent; a dial string that names no codec."""


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbx]:
    yield from the_pbx(tmp_path_factory.mktemp("pbx"), {"extensions.conf": MORE_WAYS})


@pytest.mark.parametrize("extension", [*WAYS, "801"])
async def test_a_whole_conversation(pbx: Pbx, extension: str, any_pjsua2: str, tmp_path: Path) -> None:
    """Greeting, interruption, answer, key, goodbye; then the agent hangs up, after its last word."""
    settings = scripted(tmp_path, CONVERSATION)
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, extension)
        await call.play(bytes(16000) + noise(0.4) + bytes(40000))
        await bridge.until_logged("barge_in")
        await call.dtmf("5")
        await call.wait_ended(PATIENCE_S)
        (record,) = await bridge.records(1)
    order = [hz for hz, _ in groupby(tones_hz(heard(call)))]
    assert order == [GREETING_HZ, ANSWER_HZ, GOODBYE_HZ], record
    assert (record["ending"], record["detail"]) == ("agent_hung_up", "by its tool")
    assert record["ingress"] == WAYS.get(extension, "chan_websocket")
    assert record["faults"] == {}, record


@pytest.mark.parametrize("extension", WAYS)
async def test_recorded_speech_goes_there_and_back(
    pbx: Pbx, extension: str, any_pjsua2: str, tmp_path: Path
) -> None:
    """The agent is an echo; then the caller hangs up. It is known who called whom."""
    speech = load_wav(SOUNDS / "demo-congrats.wav", PCM_8K)[: 16_000 * 6]
    async with pbx.serving(any_pjsua2, tmp_path, ECHO) as (bridge, phone):
        call = await pbx.dial(phone, extension)
        await bridge.until_logged("answered")
        await call.play(bytes(8000) + speech + bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert echoed(call, speech) >= 0.75
    assert record["ending"] == "caller_hung_up", record
    assert record["faults"] == {}, record
    assert (record["caller"], record["called"]) == (CALLER, extension)


def echoed(call: CallHandle, speech: bytes) -> float:
    """How much of it came back, of quarters of a second that are loud: a jitter buffer that adapts, or a busy
    machine, may have torn some."""
    pieces = np.array_split(np.frombuffer(speech, "<i2"), len(speech) // 4000)
    loud = [piece for piece in pieces if np.abs(piece.astype(int)).max() > 3000]
    return sum(contains(heard(call), piece) > 0.9 for piece in loud) / len(loud)


@pytest.mark.parametrize("extension", ["701", "702", "703"])
async def test_what_this_way_cannot_do_fails_and_the_caller_stays_with_the_agent(
    pbx: Pbx, extension: str, any_pjsua2: str, tmp_path: Path
) -> None:
    """A transfer and keys to the caller: there is no message for either."""
    dialplan = """
keys.0.transfer = "200"
keys.1.send_dtmf = "1"
on.transfer_failed = { tag = "no transfer" }
"""
    settings = with_dialplan(tmp_path, dialplan)
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, extension)
        await call.play(bytes(24000))
        await call.dtmf("01")
        await call.play(bytes(16000))
        await call.dtmf("9")
        await call.play(bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, 600], pbx.asterisk.console[-4000:]
    assert record["ending"] == "caller_hung_up", record
    assert record["tags"] == ["no transfer"], record
    assert record["dialplan_failures"] == {"transfer failed": 1, "send_dtmf failed": 1}


@pytest.mark.parametrize("extension", ["802", "803", "805"])
async def test_the_dialplan_goes_on_after_the_agent(
    pbx: Pbx, extension: str, any_pjsua2: str, tmp_path: Path
) -> None:
    script = '[[step]]\non = "request"\nreply = { tool = "hang_up" }\n'
    script += '[[step]]\non = "tool_result"\nreply = { tone_hz = 800, ms = 600 }\n'
    async with pbx.serving(any_pjsua2, tmp_path, scripted(tmp_path, script)) as (bridge, phone):
        call = await pbx.dial(phone, extension)
        await bridge.records(1)
        await asyncio.wait_for(call.wait_ended(), PATIENCE_S)
    order = [hz for hz, _ in groupby(tones_hz(heard(call)))]
    assert order[-2:] == [800, 1000]


async def test_a_dial_string_without_a_linear_codec_is_told(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    async with pbx.serving(any_pjsua2, tmp_path, ECHO) as (bridge, phone):
        call = await pbx.dial(phone, "804")
        await call.play(noise(3.0))
        await asyncio.wait_for(call.wait_ended(), PATIENCE_S)
        (record,) = await bridge.records(1)
    assert record["ending"] == "leg_failed", record
    assert "c(slin)" in record["detail"]
