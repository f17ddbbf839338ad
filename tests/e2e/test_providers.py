"""The same conversation over SIP with each agent API: greeting, answer, interruption, key, tool, end.

The far end is the embedded agent with the script brain, behind its facade for that API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.caller.softphone import Softphone
from telbridge.sessions.providers import PROVIDERS
from tests.e2e.bridge import Bridge, free_port, serving
from tests.e2e.heard import heard, tones_hz

SECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "openai_realtime": {"url": "ws://127.0.0.1:{port}/v1/realtime", "transcription": "{}"},
    "deepgram": {"url": "ws://127.0.0.1:{port}/v1/agent/converse"},
    "assemblyai": {"url": "ws://127.0.0.1:{port}/v1/ws"},
    "azure_voice_live": {"url": "ws://127.0.0.1:{port}/voice-live/realtime", "model": "gpt-4.1"},
    "companion": {
        "url": "http://127.0.0.1:{port}",
        "companionId": "comp_1",
        "providerConfig": '{ voiceId = "alloy" }',
    },
}
GREETING_HZ, ANSWER_HZ, GOODBYE_HZ = 440, 600, 800
CONVERSATION = f"""
[[step]]
on = "request"
reply = {{ tone_hz = {GREETING_HZ}, ms = 20000, words = "Welcome." }}
[[step]]
on = "caller_starts"
times = 0
event = "speech_started"
[[step]]
on = "caller_stops"
event = "speech_stopped"
heard = "What are your hours?"
[[step]]
on = "caller_stops"
after_ms = 100
reply = {{ tone_hz = {ANSWER_HZ}, ms = 600, words = "Nine to five." }}
[[step]]
on = "text"
match = "5"
reply = {{ tool = "hang_up" }}
[[step]]
on = "tool_result"
reply = {{ tone_hz = {GOODBYE_HZ}, ms = 600, words = "Goodbye." }}
"""


def noise(seconds: float) -> bytes:
    samples = np.random.default_rng(1).standard_normal(int(8000 * seconds)) * 6000
    return samples.astype("<i2").tobytes()


@asynccontextmanager
async def talking_to(
    provider: str,
    pjsua2: str,
    folder: Path,
    script: str,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    **call: Any,
) -> AsyncIterator[Bridge]:
    """`more`: other sections of the settings."""
    file, port = folder / "script.toml", free_port()
    file.write_text(script, "utf-8")
    section = {
        key: value.format(port=port) if key == "url" else value for key, value in SECTIONS[provider].items()
    }
    settings = {"call": {"agent": provider, **call}, provider: section, **(more or {})}
    agent = AgentSettings(brain="script", script=file, port=port)
    async with serve(agent), serving(pjsua2, folder, settings) as bridge:
        yield bridge


def test_every_provider_is_tried() -> None:
    assert set(SECTIONS) == set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_same_conversation(provider: str, any_pjsua2: str, tmp_path: Path) -> None:
    async with (
        talking_to(provider, any_pjsua2, tmp_path, CONVERSATION) as bridge,
        Softphone("127.0.0.1") as phone,
    ):
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await call.play(bytes(16000) + noise(0.4) + bytes(40000))
        await bridge.until_logged("barge_in")
        await call.dtmf("5")
        await call.wait_ended(30)
        (record,) = await bridge.records(1)
    order = [hz for hz, _ in groupby(tones_hz(heard(call)))]
    assert order == [GREETING_HZ, ANSWER_HZ, GOODBYE_HZ], record
    assert record["ending"] == "agent_hung_up", record
    assert record["detail"] == "by its tool", record
    # The script leaves a request unanswered; this API's protocol tells of a reply without a word.
    faults = {"agent_warning": 1} if provider == "assemblyai" else {}
    assert record["faults"] == faults, bridge.logged("session_fault")
    assert record["underruns"] == 0, record
    cut = next(turn["interruption"] for turn in record["turns"] if turn["interruption"])
    assert cut["heard_ms"] + cut["discarded_ms"] == pytest.approx(20_000, abs=20)
    said = " ".join(turn["caller_text"] for turn in record["turns"])
    answered = " ".join(turn["agent_text"] for turn in record["turns"])
    assert "What are your hours?" in said
    assert "Nine to five." in answered
    assert "Goodbye." in answered


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_lost_connection_is_got_back(provider: str, any_pjsua2: str, tmp_path: Path) -> None:
    script = (
        '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 400, words = "Welcome." }\n'
        '[[step]]\non = "text"\nmatch = "pressed 1"\nsession = 1\nmisdeed = "abort"\n'
        '[[step]]\non = "text"\nmatch = "pressed 2"\nreply = { tone_hz = 600, ms = 400 }\n'
    )
    async with (
        talking_to(provider, any_pjsua2, tmp_path, script) as bridge,
        Softphone("127.0.0.1") as phone,
    ):
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await call.play(bytes(16000))
        await call.dtmf("1")
        (back,) = await bridge.until_logged("session_back")
        (lost,) = bridge.logged("session_lost")
        await call.dtmf("2")
        await call.play(bytes(24000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["ending"] == "caller_hung_up", record
    assert record["session_losses"] == 1
    assert 600 in tones_hz(heard(call)), (record, lost, back)
