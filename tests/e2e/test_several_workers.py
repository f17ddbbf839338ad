"""Several workers behind one SIP port: real callers, real processes, some of which are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telbridge.caller.events import EndedBy
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.softphone import Softphone
from telbridge.legs.sip.library import built_folder
from tests.e2e.bridge import Bridge, serving
from tests.ports import free_port

SCENARIOS = Path(__file__).parent.parent / "dispatch" / "scenarios"
HEEDLESS = Path(__file__).parent.parent / "legs" / "scenarios"
"""Of Record-Route and Contact."""
TWO_WORKERS = {"sip": {"max_calls": 200}}
ECHO = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}


def worker_of(call: CallHandle) -> int:
    """By the Record-Route of its 200."""
    return int(call.dialog.peers.routes[0].uri.parameters["w"] or 0)


def kill(bridge: Bridge, child: str) -> None:
    started = [line for line in bridge.log if line.get("child") == child and "pid" in line]
    os.kill(started[-1]["pid"], signal.SIGKILL)


async def refusal(phone: Softphone, bridge: Bridge) -> tuple[int, bool]:
    """Status of a new call, and whether it is told when to come again."""
    with pytest.raises(CallFailed) as refused:
        await (await phone.call(bridge.uri)).wait_answered(30)
    return refused.value.ended.code, refused.value.ended.retry_after_s is not None


async def talk(*calls: CallHandle) -> bool:
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


def sipp(bridge: Bridge, scenario: Path, transport: str, calls: int) -> subprocess.CompletedProcess[str]:
    command = ["sipp", "-nostdin", "-sf", str(scenario), "-m", str(calls), "-r", "50", "-t", transport]
    command += ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(free_port()), "-mp", str(free_port() & ~1)]
    command += ["-s", "agent", "-timeout", "20", "-timeout_error", f"127.0.0.1:{bridge.port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


async def test_calls_over_two_workers_and_what_is_killed_under_them(tmp_path: Path) -> None:
    if built_folder() is None:
        pytest.skip("no built pjsua2: the wheel's workers are tried below")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("a worker a core")
    settings = {**TWO_WORKERS, **ECHO, "serve": {"drain_s": 20}}
    async with serving("built", tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        for scenario, transport in ((SCENARIOS / "routed_call.xml", "u1"), (HEEDLESS / "brief.xml", "t1")):
            done = await asyncio.to_thread(sipp, bridge, scenario, transport, 4)
            assert done.returncode == 0, (scenario.name, done.stdout[-3000:], done.stderr[-3000:])
        records = await bridge.records(8)
        assert {record["ending"] for record in records} == {"caller_hung_up"}
        await _kills(bridge, phone)
        await _drains(bridge, phone)
        assert not bridge.logged("dispatcher_bug") and not bridge.logged("sip_bug"), bridge.log
    (totals,) = bridge.logged("dispatcher_stopped")
    assert totals["malformed"] == 0


async def _kills(bridge: Bridge, phone: Softphone) -> None:
    uris = [bridge.uri, f"{bridge.uri};transport=tcp"] * 2
    calls = []
    for uri in (*uris, *uris[::-1]):
        call = await phone.call(uri)
        await call.wait_answered(30)
        calls.append(call)
    lost = [call for call in calls if worker_of(call) == 2]
    kept = [call for call in calls if worker_of(call) == 1]
    assert len(lost) == len(kept) == 4

    kill(bridge, "worker 2")
    for call in lost:
        assert (await call.wait_ended(30)).by is EndedBy.PEER
    assert await talk(*kept)
    await bridge.until_logged("child_restarted", child="worker 2")
    fresh = await call_at(2, bridge, phone)
    assert await talk(fresh)

    kill(bridge, "dispatcher")
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


async def _drains(bridge: Bridge, phone: Softphone) -> None:
    call = await phone.call(bridge.uri)
    await call.wait_answered(30)
    bridge.process.terminate()
    await bridge.until_logged("worker_draining")
    assert await refusal(phone, bridge) == (503, True)
    assert await talk(call)
    await call.hang_up()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there is no pjsua2 wheel for this Python")
async def test_six_calls_on_wheels_that_take_four_each(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"sip": {"max_calls": 6}, **ECHO}
    async with serving("wheel", tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        calls = [await phone.call(bridge.uri) for _ in range(6)]
        for call in calls:
            await call.wait_answered(30)
        assert sorted(worker_of(call) for call in calls) == [1, 1, 1, 2, 2, 2]
        assert await refusal(phone, bridge) == (503, True)
        assert await talk(*calls)
        for call in calls:
            await call.hang_up()
        records = await bridge.records(6)
        again = await phone.call(bridge.uri)
        await again.wait_answered(30)
    assert {record["ending"] for record in records} == {"caller_hung_up"}
    assert len({record["peer"] for record in records}) == 1, "the phone's address, not the dispatcher's"
