"""A caller phones a running telbridge: what they hear, on both builds of pjsua2."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.wav import load_wav
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.softphone import Softphone
from telbridge.serving.apology import filler_path
from tests.e2e.bridge import Bridge, serving
from tests.e2e.heard import (
    LOUD,
    Samples,
    contains,
    heard,
    longest_quiet_ms,
    loud_ms,
    say_until,
    tones_hz,
    until,
    until_heard,
)
from tests.e2e.metrics_page import scraped

ECHO = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}


def scripted(folder: Path, script: str, **sections: Any) -> dict[str, Any]:
    """Settings for an agent that follows a script."""
    file = folder / "script.toml"
    file.write_text(script, "utf-8")
    return {"local_agent": {"brain": "script", "script": str(file)}, **sections}


def noise(seconds: float) -> bytes:
    rng = np.random.default_rng(1)
    return (rng.standard_normal(int(8000 * seconds)) * 3000).astype("<i2").tobytes()


def hears_the_echo(call: CallHandle) -> bool:
    """Half a second of noise came back; a jitter buffer that adapts may have cut it into pieces."""
    pieces = np.split(np.frombuffer(noise(0.5), "<i2"), 5)
    return sum(contains(heard(call), piece) > 0.9 for piece in pieces) >= 3


async def test_what_the_agent_gets_and_gives_is_the_callers_own_codes(pjsua2: str, tmp_path: Path) -> None:
    """Echo brain: RTP → session → RTP. G.711 comes back code for code, so nothing was resampled."""
    async with serving(pjsua2, tmp_path, ECHO) as bridge, Softphone("127.0.0.1") as phone:
        await asyncio.gather(*(_own_codes_come_back(bridge, phone, law) for law in (PCMU_8K, PCMA_8K)))
        records = await bridge.records(2)
    assert {record["codec"] for record in records} == {str(PCMU_8K), str(PCMA_8K)}
    assert all(record["ending"] == "caller_hung_up" for record in records)


async def _own_codes_come_back(bridge: Bridge, phone: Softphone, law: AudioFormat) -> None:
    call = await phone.call(bridge.uri, codecs=[law])
    await call.wait_answered(30)
    found: set[bytes] = set()

    def all_back() -> bool:
        # μ-law has two zeros, of which one is kept. A jitter buffer that adapts may cost a few stretches.
        zeros = bytes.maketrans(b"\x7f", b"\xff") if law is PCMU_8K else bytes(range(256))
        sent = b"".join(packet.payload for packet in call.sent)
        back = b"".join(packet.payload for packet in call.received)
        stretches = [sent[at : at + 400].translate(zeros) for at in range(8000, 12000, 400)]
        found.update(stretch for stretch in stretches if stretch in back)
        return len(found) >= 8

    await say_until(call, bytes(8000) + noise(1.0), all_back)
    await call.hang_up()


async def test_a_reply_in_one_burst_is_played_whole_and_without_a_gap(
    any_pjsua2: str, tmp_path: Path
) -> None:
    settings = scripted(
        tmp_path, '[[step]]\non = "request"\nreply = { tone_hz = 400, ms = 4000, words = "Hooo." }\n'
    )
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await until(lambda: loud_ms(heard(call)) >= 3980)
        await call.play(bytes(8000))  # time for more, if there were more
        await call.hang_up()
        (record,) = await bridge.records(1)
    samples = heard(call)
    assert loud_ms(samples) == pytest.approx(4000, abs=8)
    assert longest_quiet_ms(samples) < 2
    assert set(tones_hz(samples)) == {400}
    assert record["agent_heard_ms"] == 4000
    assert record["turns"][0]["agent_text"] == "Hooo."


TONES_HZ = [400 + 100 * key for key in range(10)]
INTERRUPTED = "".join(
    f'[[step]]\non = "text"\nmatch = "pressed {key}"\nreply = {{ tone_hz = {hz}, ms = 20000 }}\n'
    for key, hz in enumerate(TONES_HZ)
)
INTERRUPTED += """
[[step]]
on = "caller_starts"
times = 0
event = "speech_started"
[[step]]
on = "caller_stops"
times = 0
event = "speech_stopped"
"""


async def test_ten_interruptions_in_a_row_leave_no_old_audio_and_tell_what_was_heard(
    any_pjsua2: str, tmp_path: Path
) -> None:
    """Key after key asks for a tone of its own, 20 s in one burst, and the caller talks over each."""
    settings = scripted(tmp_path, INTERRUPTED, call={"greeting": '""'})
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        for key, hz in enumerate(TONES_HZ):
            await call.dtmf(str(key))
            await until_heard(call, hz, 200)
            await call.play(noise(0.2) + bytes(9600))
            await bridge.until_logged("barge_in", count=key + 1)
        await call.hang_up()
        (record,) = await bridge.records(1)
    samples = heard(call)
    order = tones_hz(samples)
    assert [hz for hz, _ in groupby(order)] == TONES_HZ, "an old tone was heard again, or one was lost"
    cuts = [turn["interruption"] for turn in record["turns"] if turn["interruption"]]
    assert len(cuts) == 10
    assert all(cut["heard_ms"] + cut["discarded_ms"] == pytest.approx(20_000, abs=2) for cut in cuts)
    stretches = np.split(samples, np.flatnonzero(np.diff(_quiet_for(samples, 100)) == 1))
    audible_ms = [loud_ms(stretch) for stretch in stretches if loud_ms(stretch)]
    assert [cut["heard_ms"] for cut in cuts] == pytest.approx(audible_ms, abs=10)


def _quiet_for(samples: Samples, ms: int) -> Samples:
    """1 where nothing loud came for so long."""
    loud = (np.abs(samples.astype(np.int32)) > LOUD).astype(np.int32)
    return (np.convolve(loud, np.ones(8 * ms, np.int32))[: len(loud)] == 0).astype(np.int16)


async def test_one_more_call_than_there_is_room_for_is_refused_and_the_others_go_on(
    any_pjsua2: str, tmp_path: Path
) -> None:
    settings = {**ECHO, "sip": {"max_calls": 4}}
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        calls = [await phone.call(bridge.uri) for _ in range(4)]
        for call in calls:
            await call.wait_answered(30)
        fifth = await phone.call(bridge.uri)
        with pytest.raises(CallFailed) as refused:
            await fifth.wait_answered(30)
        assert refused.value.ended.code in (486, 503)
        await asyncio.gather(*(say_until(call, noise(0.5), partial(hears_the_echo, call)) for call in calls))
        for call in calls:
            await call.hang_up()
        assert bridge.logged("sip_call_refused") or bridge.logged("sip_call_rejected"), bridge.log
        after = await phone.call(bridge.uri)
        await after.wait_answered(30)


async def test_the_log_of_a_call_holds_no_number_no_word_and_no_key(any_pjsua2: str, tmp_path: Path) -> None:
    words = '[[step]]\non = "request"\nreply = { tone_hz = 400, ms = 300, words = "Secret words." }\n'
    settings = scripted(tmp_path, words, log={"level": "info", "format": "json"}, call={"greeting": "Sesame"})
    async with (
        serving(any_pjsua2, tmp_path, settings) as bridge,
        Softphone("127.0.0.1", user="15551234567") as phone,
    ):
        call = await phone.call(bridge.uri.replace("agent@", "15557654321@"))
        await call.wait_answered(30)
        (arrived,) = await bridge.until_logged("call_arrived")
        await call.dtmf("5")
        async with asyncio.timeout(30):
            while not (await bridge.kept(arrived["call_id"]))["dtmf_count"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await call.hang_up()
        (record,) = await bridge.records(1)
        assert (record["caller"], record["called"], record["dtmf_count"]) == ("15551234567", "15557654321", 1)
        text = json.dumps(bridge.log) + "".join(bridge.stray)
    for private in ("15551234567", "15557654321", "Secret", "Sesame"):
        assert private not in text
    of_the_call = [line for line in bridge.log if line.get("call_id") == record["call_id"]]
    assert {"call_arrived", "answered", "call_ended"} <= {line["event"] for line in of_the_call}


# ---------------------------------------------------------------- a server that is stopped, a part that dies


async def test_a_draining_server_refuses_new_calls_and_ends_old_ones_at_the_deadline(
    any_pjsua2: str, tmp_path: Path
) -> None:
    settings = {**ECHO, "serve": {"drain_s": 4}}
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        bridge.process.terminate()
        await bridge.until_logged("worker_draining")
        late = await phone.call(bridge.uri)
        with pytest.raises(CallFailed) as refused:
            await late.wait_answered(30)
        assert (refused.value.ended.code, refused.value.ended.retry_after_s is not None) == (503, True)
        await call.wait_ended(30)
        assert await asyncio.wait_for(bridge.process.wait(), 30) == 0
        (record,) = await bridge.records(1)
    assert record["ending"] == "drained"


async def test_when_the_agent_process_dies_the_call_goes_on_with_the_next_one(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        words = np.frombuffer(load_wav(filler_path(), PCM_8K), "<i2")
        # After the first death it is back too soon for a filler, after the second in a second.
        for times in (1, 2):
            bridge.kill("agent")
            await bridge.until_logged("session_back", count=times)
            await bridge.until_logged("child_restarted", child="agent", count=times)
        await until(lambda: contains(heard(call), words) > 0.9)
        await until(lambda: not loud_ms(heard(call)[-8000:]))
        before = len(heard(call))
        await say_until(call, bytes(16000) + noise(0.5), lambda: loud_ms(heard(call)[before:]) >= 440)
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["ending"] == "caller_hung_up"
    assert record["session_losses"] == 2


async def test_a_worker_that_dies_is_replaced_even_while_the_dialplans_are_broken(
    any_pjsua2: str, tmp_path: Path
) -> None:
    folder = tmp_path / "dialplans"
    folder.mkdir()
    (folder / "line.toml").write_text('greeting = ""\non.answered = { tag = "good" }', "utf-8")
    settings = {**ECHO, "dialplans": {"folder": str(folder)}}
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        (folder / "line.toml").write_text("greeting = ", "utf-8")
        bridge.kill("worker")
        await bridge.until_logged("child_restarted", child="worker")
        await bridge.until_logged("dialplans_kept")
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["tags"] == ["good"]


async def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, Softphone("127.0.0.1") as phone:
        lost = await phone.call(bridge.uri)
        await lost.wait_answered(30)
        await bridge.until_logged("answered")
        bridge.kill("worker")
        await bridge.until_logged("child_restarted", child="worker")
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await bridge.until_logged("answered", count=2)
        page = await scraped(bridge.admin)
    assert page.value("child_restarts_total", process="worker") == 1
    assert page.value("calls_answered_total") == 2
    assert page.value("calls_live") == 1


async def test_a_call_that_its_worker_took_with_it_leaves_a_record(any_pjsua2: str, tmp_path: Path) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        (arrived,) = await bridge.until_logged("call_arrived")
        await bridge.until_known(arrived["call_id"])
        bridge.kill("worker")
        await bridge.until_logged("call_lost")
        record = await bridge.kept(arrived["call_id"])
    assert (record["ending"], record["verdict"]["whose"]) == ("worker_died", "telbridge")
