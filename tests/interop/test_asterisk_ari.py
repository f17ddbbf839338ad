"""A telephone calls a real Asterisk, whose dialplan hands the caller to telbridge by `Stasis()`, with the
configuration of docs/ari.md."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav
from telbridge.caller.events import Referred
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.softphone import Softphone
from tests.conftest import SOUNDS
from tests.e2e.bridge import PATIENCE_S, Bridge, serving
from tests.e2e.heard import contains, heard, tones_hz
from tests.e2e.test_calls import ECHO, scripted
from tests.e2e.test_providers import ANSWER_HZ, CONVERSATION, GOODBYE_HZ, GREETING_HZ, noise
from tests.interop.asterisk import CALLER, ROOT, Asterisk, asterisk, kept_port, snippets

DESK_HZ: Final = 1000
GREETING: Final = '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 400, words = "Welcome." }\n'
STILL_THERE: Final = '[[step]]\non = "text"\nmatch = "pressed 9"\nreply = { tone_hz = 600, ms = 400 }\n'
MORE: Final = """
[from-phones]
exten => 720,1,Answer()
 same => n,Stasis(telbridge)
 same => n,Hangup()
exten => 721,1,Goto(desk,s,1)
exten => 722,1,Busy()
"""
"""A caller that the dialplan has answered; an extension beside the caller's own; one that is busy."""
ROOM: Final = {"websocket": {}, "audiosocket": {}, "rtp": {}, "slin16": {"codec": "slin16"}}


class Pbx:
    """An Asterisk for the whole module, and telbridges that connect to it."""

    def __init__(self, running: Asterisk, http: int) -> None:
        self.asterisk, self._http = running, http

    @asynccontextmanager
    async def serving(
        self, pjsua2: str, folder: Path, settings: dict[str, Any], way: str = "websocket"
    ) -> AsyncIterator[tuple[Bridge, Softphone]]:
        """`way`: of the audio."""
        ari = {
            "url": f"http://127.0.0.1:{self._http}",
            "media": "websocket" if way == "slin16" else way,
            "variables": ["QUEUE", "PJSIP_HEADER(read,X-Ref)"],
            **ROOM[way],
        }
        os.environ["ARI_PASSWORD"] = "the-password"
        async with (
            serving(pjsua2, folder, {"ari": ari, **settings}) as bridge,
            Softphone("127.0.0.2", user=CALLER) as phone,
        ):
            await bridge.until_logged("ari_connected")
            yield bridge, phone

    async def dial(self, phone: Softphone, extension: str = "710", **more: Any) -> CallHandle:
        """A call that is answered."""
        call = await phone.call(self.uri(extension), **more)
        try:
            await call.wait_answered(PATIENCE_S)
        except Exception:
            print(self.asterisk.console[-6000:])
            raise
        return call

    def uri(self, extension: str) -> str:
        return f"sip:{extension}@127.0.0.1:{self.asterisk.port}"

    async def left_clean(self) -> None:
        """No channel and no bridge is left."""
        until = time.monotonic() + PATIENCE_S
        while "0 active channels" not in (
            told := await asyncio.to_thread(self.asterisk.cli, "core show channels")
        ):
            assert time.monotonic() < until, told
            await asyncio.sleep(0.1)
        bridges = await asyncio.to_thread(self.asterisk.cli, "bridge show all")
        assert "telbridge" not in bridges, bridges


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbx]:
    if not os.environ.get("TELBRIDGE_ASTERISK"):
        pytest.skip("no Asterisk: scripts/interop-asterisk.sh make DIR, then TELBRIDGE_ASTERISK=DIR")
    http = kept_port()
    extra = snippets(ROOT / "docs" / "ari.md")
    extra["http.conf"] = extra["http.conf"].replace("8088", str(http))
    extra["extensions.conf"] += MORE
    with asterisk(tmp_path_factory.mktemp("pbx") / "asterisk", {}, extra) as running:
        yield Pbx(running, http)


def with_dialplan(folder: Path, dialplan: str) -> dict[str, Any]:
    file = folder / "plan.toml"
    file.write_text(f'greeting = "Welcome."\n{dialplan}', "utf-8")
    return scripted(folder, GREETING + STILL_THERE, dialplans={"folder": str(file)})


@pytest.mark.parametrize("way", ROOM)
async def test_a_whole_conversation(pbx: Pbx, way: str, any_pjsua2: str, tmp_path: Path) -> None:
    """Greeting, interruption, answer, key, goodbye; then the agent hangs up, after its last word."""
    settings = scripted(tmp_path, CONVERSATION)
    async with pbx.serving(any_pjsua2, tmp_path, settings, way) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(16000) + noise(0.4) + bytes(40000))
        await bridge.until_logged("barge_in")
        await call.dtmf("5")
        await call.wait_ended(PATIENCE_S)
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    order = [hz for hz, _ in groupby(tones_hz(heard(call)))]
    assert order == [GREETING_HZ, ANSWER_HZ, GOODBYE_HZ], record
    assert (record["ending"], record["detail"]) == ("agent_hung_up", "by its tool")
    assert (record["ingress"], record["faults"]) == ("ari", {})


@pytest.mark.parametrize("way", ROOM)
async def test_recorded_speech_goes_there_and_back(
    pbx: Pbx, way: str, any_pjsua2: str, tmp_path: Path
) -> None:
    """The agent is an echo; then the caller hangs up. It is known who called whom, and for what."""
    speech = load_wav(SOUNDS / "demo-congrats.wav", PCM_8K)[: 16_000 * 6]
    async with pbx.serving(any_pjsua2, tmp_path, ECHO, way) as (bridge, phone):
        call = await pbx.dial(phone)
        await bridge.until_logged("answered")
        await call.play(bytes(8000) + speech + bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    assert echoed(call, speech) >= 0.75
    assert (record["ending"], record["faults"]) == ("caller_hung_up", {})
    assert (record["caller"], record["called"]) == (CALLER, "710")


def echoed(call: CallHandle, speech: bytes) -> float:
    """How much of it came back, of quarters of a second that are loud: a jitter buffer that adapts, or a busy
    machine, may have torn some."""
    pieces = np.array_split(np.frombuffer(speech, "<i2"), len(speech) // 4000)
    loud = [piece for piece in pieces if np.abs(piece.astype(int)).max() > 3000]
    return sum(contains(heard(call), piece) > 0.9 for piece in loud) / len(loud)


async def test_channel_variables_choose_the_dialplan_and_tags_come_back(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    dialplan = """
[match]
parameters.QUEUE = "support"
parameters.tier = "gold"
headers.X-Ref = "7"
[on]
answered = { tag = "result=sold" }
"""
    async with pbx.serving(any_pjsua2, tmp_path, with_dialplan(tmp_path, dialplan)) as (bridge, phone):
        call = await pbx.dial(phone, headers=[("X-Ref", "7")])
        await call.play(bytes(24000))
        await call.hang_up()
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    assert record["tags"] == ["result=sold"], record
    assert f"call {record['call_id']} ended" in pbx.asterisk.console
    assert "with tags result=sold" in pbx.asterisk.console


async def test_hold_and_resume(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    """What the agent says meanwhile is heard afterwards, from its beginning."""
    dialplan = 'on.hold = { tag = "held" }\non.resume = { send_text = "pressed 9" }\n'
    async with pbx.serving(any_pjsua2, tmp_path, with_dialplan(tmp_path, dialplan)) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(24000))
        await call.hold()
        await asyncio.sleep(1)
        await call.resume()
        await call.play(bytes(24000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["tags"] == ["held"], record
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, 600]


@pytest.mark.parametrize("target", ["721", "asterisk:desk,s", "asterisk:desk,s,1", "Local/721@from-phones"])
async def test_a_transfer_takes_the_caller_elsewhere(
    pbx: Pbx, target: str, any_pjsua2: str, tmp_path: Path
) -> None:
    settings = with_dialplan(tmp_path, f'keys.0.transfer = "{target}"\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(24000))
        await call.dtmf("0")
        (record,) = await bridge.records(1)
        await call.play(bytes(16000))
        assert call.ended is None, "the caller is at the desk"
        await call.hang_up()
        await pbx.left_clean()
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, DESK_HZ], pbx.asterisk.console[-4000:]
    assert record["ending"] == "transferred", record


async def test_a_telephone_that_is_referred_elsewhere_has_been_transferred(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    settings = with_dialplan(tmp_path, 'keys.0.transfer = "sip:desk@127.0.0.9"\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(24000))
        await call.dtmf("0")
        referred = await call.expect(Referred)
        call.notify_referrer(200, "OK")
        await call.hang_up()
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    assert referred.refer_to == "sip:desk@127.0.0.9"
    assert record["ending"] == "transferred", record


@pytest.mark.parametrize(("target", "cause"), [("799", "404"), ("Local/722@from-phones", "486")])
async def test_a_transfer_to_nobody_leaves_the_caller_with_the_agent(
    pbx: Pbx, target: str, cause: str, any_pjsua2: str, tmp_path: Path
) -> None:
    dialplan = f"""
keys.0.transfer = "{target}"
keys.9.send_text = "pressed 9"
on.transfer_failed = {{ tag = "came back: {{{{ cause }}}}" }}
"""
    async with pbx.serving(any_pjsua2, tmp_path, with_dialplan(tmp_path, dialplan)) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(24000))
        await call.dtmf("0")
        await call.play(bytes(32000))
        await call.dtmf("9")
        await call.play(bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, 600], pbx.asterisk.console[-4000:]
    assert (record["ending"], record["tags"]) == ("caller_hung_up", [f"came back: {cause}"])


async def test_keys_of_ours_reach_the_caller(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    settings = with_dialplan(tmp_path, 'keys.1.send_dtmf = "12,#"\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(24000))
        await call.dtmf("1")
        async with asyncio.timeout(PATIENCE_S):
            while call.received_digits != "12#":  # noqa: ASYNC110 - the phone has no event for it
                await asyncio.sleep(0.05)
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["dialplan_failures"] == {}


async def test_a_caller_whom_a_dialplan_answered_is_greeted(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    async with pbx.serving(any_pjsua2, tmp_path, with_dialplan(tmp_path, "")) as (bridge, phone):
        call = await pbx.dial(phone, "720")
        await call.play(bytes(24000))
        await call.hang_up()
        await bridge.records(1)
    assert tones_hz(heard(call)).count(440) >= 7, "the greeting was cut"


async def test_a_refused_caller_hears_the_cause(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    settings = with_dialplan(tmp_path, 'on.ringing = { hangup = "busy" }\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await phone.call(pbx.uri("710"))
        with pytest.raises(CallFailed, match="486"):
            await call.wait_answered(PATIENCE_S)
        (record,) = await bridge.records(1)
        await pbx.left_clean()
    assert record["ending"] == "dialplan_hung_up" or "486" in record["detail"], record


async def test_a_caller_who_gives_up_while_it_rings(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    settings = with_dialplan(tmp_path, 'on.ringing = { webhook = "http://127.0.0.1:9/" }\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await phone.call(pbx.uri("710"))
        await bridge.until_logged("call_arrived")
        await call.hang_up()
        await bridge.records(1)
        await pbx.left_clean()


async def test_callers_of_a_worker_that_was_killed_go_on_in_the_dialplan(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    async with pbx.serving(any_pjsua2, tmp_path, scripted(tmp_path, GREETING)) as (bridge, phone):
        call = await pbx.dial(phone)
        await call.play(bytes(16000))
        bridge.kill("worker")
        await bridge.until_logged("ari_orphan", within_s=60)
        await call.play(bytes(16000))
        await call.hang_up()
    assert DESK_HZ in tones_hz(heard(call))


async def test_without_telbridge_the_dialplan_goes_on(pbx: Pbx) -> None:
    async with Softphone("127.0.0.2", user=CALLER) as phone:
        call = await pbx.dial(phone)
        await call.play(bytes(16000))
        await call.hang_up()
    assert DESK_HZ in tones_hz(heard(call))
    assert "telbridge: FAILED" in pbx.asterisk.console


async def test_a_telbridge_that_is_stopped_leaves_its_callers_to_the_dialplan(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    settings = {**scripted(tmp_path, GREETING), "serve": {"drain_s": 0.5}}
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        first = await pbx.dial(phone)
        await first.play(bytes(16000))
        bridge.process.terminate()
        await bridge.until_logged("worker_draining")
        second = await phone.call(pbx.uri("710"))
        await second.wait_answered(PATIENCE_S)
        await second.play(bytes(16000))
        await second.hang_up()
        await asyncio.wait_for(bridge.process.wait(), PATIENCE_S)
    assert DESK_HZ in tones_hz(heard(second))
