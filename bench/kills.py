"""kill -9 under load: a worker, the dispatcher, the agent. Who hears what, and when is all there again?

The supervisor's log says what was started when (`child_restarted`); which worker has a call is told by who
owns the port that its audio comes from.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.call_setup import left
from bench.crowd import allow_files, gaps_ms, on_two_cores
from bench.endings import write_dialplans
from bench.figures import Figure, at_least, at_most, exactly, percentile, told
from bench.lines import Line, LinePhone
from bench.options import Options
from bench.phone import undisturbed
from bench.sides import SipCrowd, running
from bench.usage import named, owner_of_udp, workers
from telbridge.caller import CallFailed, CallHandle
from telbridge.caller.events import EndedBy
from tests.e2e.bridge import Bridge

CALLS: Final = 40
MAX_CALLS: Final = 200
"""Two workers on two cores, and a dispatcher."""
BEFORE_S: Final = 2.0
AFTER_S: Final = 3.0
"""Audio that is looked at on both sides of the kill."""
BACK_S: Final = 30.0
SETTLED_NS: Final = 15_000_000_000
"""After its agent's death: a call must be over by then, or go on with another one."""
ECHO_S: Final = 3.0
RING_OUT_NS: Final = 300_000_000
"""After the agent's death: what it had said before may still be heard."""
BYE_MS: Final = 2_000.0
GAP_MS: Final = 40.0
WORKER_BACK_S: Final = 3.0
DISPATCHER_BACK_S: Final = 1.0

Call = tuple[CallHandle, Line]


async def measure(options: Options) -> list[Figure]:
    figures: list[Figure] = []
    allow_files()
    for what, scene in SCENES.items():
        if not options.wants(what, list(SCENES)):
            continue
        with on_two_cores() as cores, tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
            plans = write_dialplans(Path(folder), ["usual"])
            settings: dict[str, dict[str, Any]] = {
                "sip": {"max_calls": MAX_CALLS},
                "dialplans": {"folder": str(plans)},
            }
            async with running(cores, "echo", Path(folder), settings) as bridge, LinePhone() as phone:
                crowd = SipCrowd(phone, bridge.uri, pulses=True)
                await crowd.resize(options.count(CALLS))
                with undisturbed():
                    await asyncio.sleep(1.0)
                    for _, line in crowd.calls:
                        line.begin(time.monotonic_ns())
                    await asyncio.sleep(BEFORE_S)
                    figures += await scene(bridge, phone, crowd)
                await crowd.resize(0)
                zombies = await left(bridge, 10.0)
                figures.append(exactly(f"kills, {what}: calls left in workers afterwards", zombies, 0))
    return figures


async def _worker(bridge: Bridge, phone: LinePhone, crowd: SipCrowd) -> list[Figure]:
    owners = _owners(bridge, crowd.calls)
    victim = Counter(owners).most_common(1)[0][0]
    killed_ns, back = _kill(bridge, victim)
    back_s = await back
    await asyncio.sleep(max(0.0, AFTER_S - back_s))
    theirs = [one for one, owner in zip(crowd.calls, owners, strict=True) if owner == victim]
    others = [one for one, owner in zip(crowd.calls, owners, strict=True) if owner != victim]
    byes = [_bye_ms(call, killed_ns) for call, _ in theirs]
    # The worker that is back gets what is new: it has fewest.
    before = len(crowd.calls)
    await crowd.resize(before + len(theirs))
    taken = _owners(bridge, crowd.calls[before:]).count(victim)
    name = f"kills, {victim} with {len(theirs)} of {before} calls"
    return [
        at_most(f"{name}: BYE to its callers, latest", max(byes), BYE_MS, "ms"),
        exactly(f"{name}: its callers without one", sum(map(math.isinf, byes)), 0),
        *_untouched(name, others, killed_ns),
        at_most(f"{name}: back after", back_s, WORKER_BACK_S, "s"),
        at_least(f"{name}: new calls that it took, of {len(theirs)}", taken, min(1, len(theirs))),
    ]


async def _dispatcher(bridge: Bridge, phone: LinePhone, crowd: SipCrowd) -> list[Figure]:
    killed_ns, back = _kill(bridge, "dispatcher")
    back_s = await back
    new, _ = phone.dial(bridge.uri)
    try:
        await new.wait_answered(10)
        answered_s = (time.monotonic_ns() - killed_ns) / 1e9
    except (CallFailed, TimeoutError):
        answered_s = math.inf
    await asyncio.sleep(AFTER_S)
    name = f"kills, dispatcher, {len(crowd.calls)} calls"
    figures = _untouched(name, crowd.calls, killed_ns)
    half = len(crowd.calls) // 2
    by_caller, by_bridge = crowd.calls[:half], crowd.calls[half:]
    await asyncio.gather(*(call.hang_up() for call, _ in by_caller), new.hang_up())
    for call, _ in by_bridge:
        call.dtmf_info("1")  # the dialplan hangs up
    not_us = sum(call.ended is None or call.ended.by is not EndedBy.US for call, _ in by_caller)
    not_them = sum([not await _ended_by_peer(call) for call, _ in by_bridge])
    return [
        *figures,
        at_most(f"{name}: back after", back_s, DISPATCHER_BACK_S, "s"),
        told(f"{name}: a new call answered after", answered_s, "s"),
        exactly(f"{name}: callers whose BYE came to nothing, of {half}", not_us, 0),
        exactly(f"{name}: calls that the bridge could not end, of {len(by_bridge)}", not_them, 0),
    ]


async def _agent(bridge: Bridge, phone: LinePhone, crowd: SipCrowd) -> list[Figure]:
    """Callers fall silent, so that what they hear is of the bridge's own. Who is not hung up on speaks again,
    and must be heard by an agent. It is killed twice: the first time it may be back before it is missed, the
    second time it is not started again at once."""
    phone.mute([line for _, line in crowd.calls])
    _, back = _kill(bridge, "agent")
    first_back_s = await back
    killed_ns, back = _kill(bridge, "agent")
    back_s = await back
    while any(call.ended is None for call, _ in crowd.calls):
        if time.monotonic_ns() - killed_ns > SETTLED_NS:
            break
        await asyncio.sleep(0.1)
    spoken = [_first_sound_ms(line, killed_ns) for _, line in crowd.calls]
    going = [(call, line) for call, line in crowd.calls if call.ended is None]
    again_ns = time.monotonic_ns()
    phone.mute([line for _, line in going], again=True)
    await asyncio.sleep(ECHO_S)
    mute = sum(not any(at > again_ns for at in line.sounds()) for call, line in going if call.ended is None)
    ended = [_bye_ms(call, killed_ns) for call, _ in crowd.calls if call.ended is not None]
    name = f"kills, agent, {len(crowd.calls)} calls"
    return [
        told(f"{name}: back after", first_back_s, "s"),
        told(f"{name}: killed once more, back after", back_s, "s"),
        exactly(f"{name}: callers who heard nothing of ours", sum(map(math.isinf, spoken)), 0),
        told(f"{name}: first sound of ours, latest", max(spoken), "ms"),
        told(f"{name}: calls that went on with the new agent", len(crowd.calls) - len(ended) - mute, ""),
        told(f"{name}: calls that were ended with an apology", len(ended), ""),
        told(f"{name}: BYE to these, latest", max(ended, default=0.0), "ms"),
        exactly(f"{name}: calls that hang in silence", mute, 0),
    ]


SCENES: Final[dict[str, Callable[[Bridge, LinePhone, SipCrowd], Awaitable[list[Figure]]]]] = {
    "worker": _worker,
    "dispatcher": _dispatcher,
    "agent": _agent,
}


# ------------------------------------------------------------------------------------------------- looking


def _kill(bridge: Bridge, child: str) -> tuple[int, Awaitable[float]]:
    """When it was, and, to be awaited, how many s it took until another one was ready."""
    pid, before = named(bridge)[child], len(bridge.logged("child_restarted", child=child))
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)

    async def back() -> float:
        await bridge.until_logged("child_restarted", child=child, count=before + 1, within_s=BACK_S)
        return (time.monotonic_ns() - killed_ns) / 1e9

    return killed_ns, back()


def _owners(bridge: Bridge, calls: Sequence[Call]) -> list[str]:
    ours = workers(bridge)
    ports = [call.remote.port for call, _ in calls if call.remote is not None]
    return [owner_of_udp(port, ours) or "nobody" for port in ports]


def _bye_ms(call: CallHandle, killed_ns: int) -> float:
    """Infinite for a call that got none."""
    if call.ended is None or call.ended.by is not EndedBy.PEER:
        return math.inf
    return (call.ended.at_ns - killed_ns) / 1e6


async def _ended_by_peer(call: CallHandle) -> bool:
    try:
        ended = await call.wait_ended(10)
    except TimeoutError:
        return False
    return ended.by is EndedBy.PEER


def _first_sound_ms(line: Line, killed_ns: int) -> float:
    """Infinite where there was none."""
    after = [at for at in line.sounds() if at > killed_ns + RING_OUT_NS]
    return (after[0] - killed_ns) / 1e6 if after else math.inf


def _untouched(name: str, calls: Sequence[Call], killed_ns: int) -> list[Figure]:
    """Calls that must not have noticed; what they heard before tells how still the machine was."""
    now_ns = time.monotonic_ns()
    before = [gap for _, line in calls for gap in _gaps(line, 0, killed_ns)]
    after = [gap for _, line in calls for gap in _gaps(line, killed_ns - 100_000_000, now_ns)]
    return [
        exactly(f"{name}: others that ended, of {len(calls)}", sum(c.ended is not None for c, _ in calls), 0),
        at_most(f"{name}: longest gap of the others", max(after, default=math.inf), GAP_MS, "ms"),
        told(f"{name}: longest gap before the kill", max(before, default=math.inf), "ms"),
        told(f"{name}: gap p99 of the others", percentile(after, 99), "ms"),
    ]


def _gaps(line: Line, since_ns: int, until_ns: int) -> list[float]:
    found: list[float] = gaps_ms(line.arrivals(), max(since_ns, line.since_ns), until_ns).tolist()
    return found
