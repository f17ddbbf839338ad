"""The records' database is gone for a minute while calls come and go: no call notices, and no record is
missing afterwards. A real PostgreSQL, killed and started anew; a real server; three new calls a second.

`pytest -s` prints the figures. OUTAGE_S=10 makes it shorter.
"""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg

from telbridge.audio.g711 import ulaw_to_pcm16
from telbridge.caller.streams.phone import StreamPhone
from tests.e2e.bridge import PATIENCE_S, Bridge, serving
from tests.e2e.heard import Samples, contains
from tests.e2e.test_calls import ECHO
from tests.e2e.test_providers import noise
from tests.records.conftest import Postgres

CALLS_PER_S: Final = 3.0
BEFORE_S: Final = 15.0
OUTAGE_S: Final = float(os.environ.get("OUTAGE_S", "60"))
AFTER_S: Final = 10.0
SPEECH: Final = noise(2.0)


@dataclass(frozen=True, slots=True)
class Heard:
    """One call, as its caller had it."""

    began_s: float
    answered_ms: float
    """From the first request to the agent's first audio; infinite if none came."""
    sound: Samples
    ended_by: str

    def echoed(self) -> float:
        """How much of what was said came back, 0 to 1, in pieces of half a second."""
        pieces = np.array_split(samples(SPEECH), 4)
        return sum(contains(self.sound, piece) > 0.9 for piece in pieces) / len(pieces)


async def one_call(phone: StreamPhone, bridge: Bridge, began_s: float) -> Heard:
    asked_ns = time.monotonic_ns()
    call = await phone.call(bridge.generic)
    await call.play(bytes(8000) + SPEECH + bytes(16000))
    ended = await call.hang_up()
    first_ns = call.facts.first_audio_ns
    answered_ms = math.inf if first_ns is None else (first_ns - asked_ns) / 1e6
    sound = samples(b"".join(ulaw_to_pcm16(packet.payload) for packet in call.received))
    return Heard(began_s, answered_ms, sound, ended.by)


def samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2")


async def test_a_database_that_is_gone_for_a_minute(
    postgres: Postgres, any_pjsua2: str, tmp_path: Path
) -> None:
    url = postgres.new_database()
    settings: dict[str, Any] = {**ECHO, "records": {"database": url}}
    async with serving(any_pjsua2, tmp_path, settings) as bridge, StreamPhone() as phone:
        outage = asyncio.create_task(gone_for_a_while(postgres, bridge))
        calls, began = [], time.monotonic()
        while (now_s := time.monotonic() - began) < BEFORE_S + OUTAGE_S + AFTER_S:
            calls.append(asyncio.create_task(one_call(phone, bridge, now_s)))
            await asyncio.sleep(max(0.0, len(calls) / CALLS_PER_S - (time.monotonic() - began)))
        heard = await asyncio.gather(*calls)
        from_s, to_s = await outage
        ended = await bridge.until_logged("call_ended", count=len(calls), within_s=PATIENCE_S)
        await asyncio.to_thread(until_all_are_there, url, {line["call_id"] for line in ended})
        assert list((tmp_path / "spool").glob("*.json")) == []
    during = [one for one in heard if from_s <= one.began_s < to_s]
    others = [one for one in heard if one not in during]
    assert {one.ended_by for one in heard} == {"us"}
    assert len(during) > CALLS_PER_S * OUTAGE_S / 2
    print(f"\n{len(calls)} calls, the database gone from {from_s:.0f} to {to_s:.0f} s")
    # A busy machine tears something in any call: not more of it while the database is gone.
    assert told("gone", during) >= told("there", others) - 0.2


def told(name: str, some: list[Heard]) -> float:
    """Prints the figures; how much was heard of what was said."""
    ms, echoed = [one.answered_ms for one in some], [one.echoed() for one in some]
    torn = sum(each < 1 for each in echoed)
    longest = f"longest {max(ms):.0f} ms, {torn} that missed anything"
    print(f"{name}: {len(some)} calls, first audio p50 {statistics.median(ms):.0f} ms, {longest}")
    return statistics.mean(echoed)


async def gone_for_a_while(postgres: Postgres, bridge: Bridge) -> tuple[float, float]:
    """From when to when, on the clock of this call."""
    began = time.monotonic()
    await asyncio.sleep(BEFORE_S)
    await asyncio.to_thread(postgres.stop)
    from_s = time.monotonic() - began
    await asyncio.sleep(OUTAGE_S)
    assert bridge.logged("records_wait"), "nobody noticed that it was gone"
    to_s = time.monotonic() - began
    await asyncio.to_thread(postgres.start)
    return from_s, to_s


def until_all_are_there(url: str, wanted: set[str]) -> None:
    """Each once, and no others."""
    until = time.monotonic() + PATIENCE_S
    while True:
        with psycopg.connect(url) as connection:
            there = [row[0] for row in connection.execute("SELECT call_id FROM calls")]
        if len(there) >= len(wanted) or time.monotonic() > until:
            break
        time.sleep(0.5)
    assert sorted(there) == sorted(wanted)
