"""Several workers behind one SIP port and one HTTP port: real callers, real processes, some of which are
killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telbridge.caller.events import EndedBy
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.softphone import Softphone
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import CALLED, CALLER, TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.webhook import Account, new_sid, post, read_twiml, sign, voice_form
from telbridge.legs.sip.library import built_folder
from tests.e2e.bridge import Bridge, serving
from tests.e2e.seeing import CARRIED, watching
from tests.ports import free_port

SCENARIOS = Path(__file__).parent.parent / "dispatch" / "scenarios"
HEEDLESS = Path(__file__).parent.parent / "legs" / "scenarios"
"""Of Record-Route and Contact."""
NUMBER = "49301234567"
TWO_WORKERS = {"sip": {"max_calls": 200}}
ECHO = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}
OURS = Account(TEST_ACCOUNT, "0123456789abcdef0123456789abcdef")


def worker_of(call: CallHandle) -> int:
    """By the Record-Route of its 200."""
    return int(call.dialog.peers.routes[0].uri.parameters["w"] or 0)


async def refusal(phone: Softphone, bridge: Bridge) -> tuple[int, bool]:
    """Status of a new call, and whether it is told when to come again."""
    with pytest.raises(CallFailed) as refused:
        await (await phone.call(bridge.uri)).wait_answered(30)
    return refused.value.ended.code, refused.value.ended.retry_after_s is not None


async def talk(*calls: CallHandle | StreamCall) -> bool:
    """All of them are there, and when we speak, audio comes."""
    silent = {call: len(call.received) for call in calls}
    for _ in range(30):
        await asyncio.gather(*(call.play(bytes(8000)) for call in calls))
        silent = {call: count for call, count in silent.items() if len(call.received) <= count}
        if not silent or any(call.ended for call in calls):
            break
    return not silent and not any(call.ended for call in calls)


async def call_at(worker: int, bridge: Bridge, phone: Softphone) -> CallHandle:
    """A call that this worker has. Others are hung up, so that it stays the one with less to do: who was just
    started again is known to the dispatcher a moment later."""
    async with asyncio.timeout(40):
        while True:
            call = await phone.call(bridge.uri)
            await call.wait_answered(30)
            if worker_of(call) == worker:
                return call
            await call.hang_up()


async def once_there_is_room(bridge: Bridge, phone: Softphone) -> CallHandle:
    """The dispatcher hears from the workers that calls are over; until then it answers 503, come again."""
    async with asyncio.timeout(40):
        while True:
            call = await phone.call(bridge.uri)
            try:
                await call.wait_answered(30)
                return call
            except CallFailed as refused:
                assert refused.ended.code == 503


def sipp(bridge: Bridge, scenario: Path, transport: str, calls: int) -> subprocess.CompletedProcess[str]:
    command = ["sipp", "-nostdin", "-sf", str(scenario), "-m", str(calls), "-r", "50", "-t", transport]
    command += ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(free_port()), "-mp", str(free_port() & ~1)]
    command += ["-s", "agent", "-timeout", "20", "-timeout_error", f"127.0.0.1:{bridge.port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


async def test_calls_over_two_workers_and_what_is_killed_under_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if built_folder() is None:
        pytest.skip("no built pjsua2: the wheel's workers are tried below")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("a worker a core")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", OURS.token)
    settings = {**TWO_WORKERS, **ECHO, "serve": {"drain_s": 20, "pin_workers": True}}
    async with serving("built", tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        _keep_to_their_cores(bridge)
        for scenario, transport in ((SCENARIOS / "routed_call.xml", "u1"), (HEEDLESS / "brief.xml", "t1")):
            done = await asyncio.to_thread(sipp, bridge, scenario, transport, 4)
            assert done.returncode == 0, (scenario.name, done.stdout[-3000:], done.stderr[-3000:])
        records = await bridge.records(8)
        assert {record["ending"] for record in records} == {"caller_hung_up"}
        async with StreamPhone(account=OURS) as carrier:
            assert carrier._http.connector is not None
            carrier._http.connector._force_close = True  # Each request to whichever worker the kernel takes.
            await _streams(bridge, carrier)
            await _kills(bridge, phone, carrier)
        await _drains(bridge, phone)
        assert not bridge.logged("dispatcher_bug") and not bridge.logged("sip_bug"), bridge.log
    (totals,) = bridge.logged("dispatcher_stopped")
    assert totals["malformed"] == 0


def _keep_to_their_cores(bridge: Bridge) -> None:
    started = {line["child"]: line["pid"] for line in bridge.logged("child_started")}
    cores = [os.sched_getaffinity(started[f"worker {number}"]) for number in (1, 2)]
    assert [len(each) for each in cores] == [1, 1]
    assert len(set.union(*cores)) == min(2, len(os.sched_getaffinity(0)))


async def _streams(bridge: Bridge, carrier: StreamPhone) -> None:
    """Webhook, upgrade and status callback of a call come to whichever worker."""
    before = len(bridge.logged("call_arrived"))
    calls = [await carrier.call(bridge.twilio) for _ in range(8)]
    arrived = (await bridge.until_logged("call_arrived", count=before + 8))[before:]
    assert len({line["process"] for line in arrived}) == 2
    for line in arrived:
        await bridge.until_logged("answered", call_id=line["call_id"])
    assert await talk(*calls)
    for call in calls:
        await carrier.tell_status(call, "completed")
        await asyncio.wait_for(call.wait_ended(), 20)
    ends = (await bridge.until_logged("call_ended", count=before + 8))[before:]
    assert {line["ending"] for line in ends} == {"caller_hung_up"}

    form = voice_form(OURS, new_sid("CA"), CALLER, CALLED)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        url = read_twiml(await post(http, OURS, bridge.twilio_voice, form)).url
        signed = {"X-Twilio-Signature": sign(OURS.token, url)}
        async with http.ws_connect(url, headers=signed) as stream:
            await stream.send_json(start_of(form["CallSid"]))  # Or a place would be kept for it.
            await bridge.until_logged("call_arrived", count=before + 9)
            for _ in range(8):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await http.ws_connect(url, headers=signed)
    await bridge.until_logged("call_ended", count=before + 9)


def start_of(call: str) -> dict[str, Any]:
    """Twilio's message."""
    audio = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = {"streamSid": "MZ1", "accountSid": OURS.sid, "callSid": call, "mediaFormat": audio}
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": "MZ1"}


async def _kills(bridge: Bridge, phone: Softphone, carrier: StreamPhone) -> None:
    before = len(bridge.logged("call_arrived"))
    streams = [await carrier.call(bridge.twilio) for _ in range(4)]
    arrived = (await bridge.until_logged("call_arrived", count=before + 4))[before:]
    theirs = Counter(line["process"] for line in arrived)
    uris = [bridge.uri, f"{bridge.uri};transport=tcp"] * 2
    calls = []
    for uri in (*uris, *uris[::-1]):
        call = await phone.call(uri)
        await call.wait_answered(30)
        calls.append(call)
    lost = [call for call in calls if worker_of(call) == 2]
    kept = [call for call in calls if worker_of(call) == 1]
    assert min(len(lost), len(kept)) >= 2, "who has more streams gets fewer of these"

    bridge.kill("worker 2")
    for call in lost:
        assert (await call.wait_ended(30)).by is EndedBy.PEER
    assert await talk(*kept)
    cut = [asyncio.create_task(stream.wait_ended()) for stream in streams]
    async with asyncio.timeout(60):
        while sum(each.done() for each in cut) < theirs["worker 2"]:
            await asyncio.wait([each for each in cut if not each.done()], return_when="FIRST_COMPLETED")
    whole = [stream for stream in streams if not stream.ended]
    whole.append(await carrier.call(bridge.twilio))
    assert len(whole) == theirs["worker 1"] + 1 and await talk(*whole)
    await bridge.until_logged("child_restarted", child="worker 2")
    fresh = await call_at(2, bridge, phone)
    assert await talk(fresh)
    bridge.kill("worker 2", signal.SIGSTOP)  # it lives, and does nothing any more
    assert (await fresh.wait_ended(60)).by is EndedBy.PEER
    await bridge.until_logged("child_restarted", child="worker 2", count=2)
    fresh = await call_at(2, bridge, phone)

    bridge.kill("dispatcher")
    await bridge.until_logged("child_restarted", child="dispatcher")
    by_udp = [call for call in kept if not call.uri.endswith("tcp")]
    assert await talk(*by_udp, fresh)
    for call in (*by_udp, fresh):
        await call.hang_up()
        assert call.ended is not None and call.ended.by is EndedBy.US
    # What the new dispatcher is told by the workers, not what it has forgotten, says who is less loaded.
    after = await call_at(2, bridge, phone)
    await after.hang_up()
    for call in kept:
        await call.hang_up()  # their connections died with the dispatcher
    # The newest may have come to the worker that hung.
    kept_streams = [stream for stream in whole if stream in streams or not stream.ended]
    assert len(kept_streams) >= theirs["worker 1"] and await talk(*kept_streams)
    for stream in kept_streams:
        await stream.hang_up()
    await asyncio.gather(*cut)


async def _drains(bridge: Bridge, phone: Softphone) -> None:
    call = await phone.call(bridge.uri)
    await call.wait_answered(30)
    bridge.process.terminate()
    await bridge.until_logged("worker_draining")
    assert await refusal(phone, bridge) == (503, True)
    assert await talk(call)
    await call.hang_up()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there is no pjsua2 wheel for this Python")
async def test_six_calls_on_wheels_that_take_four_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # For the spans of OpenTelemetry's SDK, in ms.
    async with AsyncExitStack() as stack:
        watch = await stack.enter_async_context(watching(tmp_path))
        settings: dict[str, Any] = {"sip": {"max_calls": 6}, **ECHO, **watch.settings}
        bridge = await stack.enter_async_context(serving("wheel", tmp_path, settings))
        phone = await stack.enter_async_context(Softphone("127.0.0.1"))
        await watch.health(bridge)
        await watch.levels(bridge, {"supervisor", "dispatcher", "worker 1", "worker 2", "agent"})
        calls = [await phone.call(bridge.uri, from_user=NUMBER, headers=[CARRIED])]
        calls += [await phone.call(bridge.uri) for _ in range(5)]
        for call in calls:
            await call.wait_answered(30)
        assert sorted(worker_of(call) for call in calls) == [1, 1, 1, 2, 2, 2]
        assert await refusal(phone, bridge) == (503, True)
        assert await talk(*calls)
        for call in calls:
            await call.hang_up()
        records = await bridge.records(6)
        await watch.trace(bridge, private=NUMBER)
        assert await talk(await once_there_is_room(bridge, phone))
    assert {record["ending"] for record in records} == {"caller_hung_up"}
    assert len({record["peer"] for record in records}) == 1, "the phone's address, not the dispatcher's"
