"""Calls of the carriers through a real server and its embedded agent, as the carriers' callers hear it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from telbridge.audio.g711 import ulaw_to_pcm16
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import StreamPhone
from telbridge.caller.streams.sides import sides_of
from tests.e2e.bridge import Bridge, serving
from tests.e2e.heard import Samples, tones_hz
from tests.e2e.test_stream_calls import ECHO
from tests.legs.carrier_bed import CALLERS, KINDS

TONES_HZ = dict(zip(KINDS, (400, 600, 800, 1000), strict=True))


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in CALLERS.items():
        monkeypatch.setenv(name, key)


def address(bridge: Bridge, kind: str) -> str:
    return f"{kind}+ws://127.0.0.1:{bridge.http_port}/{kind}/stream"


def tone(hz: int) -> bytes:
    """0.4 s."""
    return (8000 * np.sin(2 * np.pi * hz * np.arange(3200) / 8000)).astype("<i2").tobytes()


def heard(call: StreamCall) -> Samples:
    return np.frombuffer(b"".join(ulaw_to_pcm16(packet.payload) for packet in call.received), "<i2")


async def test_an_echoing_agent_is_heard_by_the_callers_of_every_carrier(
    any_pjsua2: str, tmp_path: Path
) -> None:
    calls = {}
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, StreamPhone(sides=sides_of(CALLERS)) as phone:
        for number, kind in enumerate(KINDS, 1):
            calls[kind] = await phone.call(address(bridge, kind))
            await bridge.until_logged("answered", count=number)
            await calls[kind].play(bytes(1600) + tone(TONES_HZ[kind]) + bytes(4800))
            await calls[kind].hang_up()
        records = {record["ingress"]: record for record in await bridge.records(len(KINDS))}
    assert set(records) == set(KINDS)
    for kind, call in calls.items():
        heard_hz = tones_hz(heard(call))
        assert heard_hz.count(TONES_HZ[kind]) >= 5, (kind, heard_hz)
        assert set(heard_hz) <= {TONES_HZ[kind]}, kind
        assert call.facts.complaints == [], kind
        assert records[kind]["ending"] == "caller_hung_up"
    assert records["vonage"]["codec"] == "pcm16/16000"
