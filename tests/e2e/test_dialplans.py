"""A dialplan over SIP: what keys do to the running session of each agent API, as its wire shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.caller.softphone import Softphone
from telbridge.sessions.providers import PROVIDERS
from tests.e2e.bridge import serving
from tests.e2e.heard import heard, tones_hz, until_heard
from tests.e2e.switchboard import Switchboard, switchboard
from tests.e2e.wire_log import wire_log
from tests.ports import free_port

Said = Callable[[dict[str, Any]], bool]

AGENT = """
[[step]]
on = "request"
reply = { tone_hz = 440, ms = 300, words = "Welcome." }
"""
DIALPLAN = """
greeting = "Welcome."
session.instructions = "Be brief."
keys.1 = { update.instructions = "Take an order." }
keys.2 = { update.turn_detection.silence_ms = 900 }
on.update_refused = { tag = "refused: {{ error }}" }
"""
TOOLS = """
session.tools = []
keys.3 = { update.tools = ["order"] }
[tools.order]
description = "Takes an order."
parameters.dish = { type = "string" }
do = { tag = "ordered" }
"""


def _function(tools: Any) -> bool:
    return [tool["name"] for tool in tools or []] == ["order"]


def _realtime(session: dict[str, Any]) -> dict[str, Any]:
    """The turn detection of OpenAI and of Azure."""
    return session.get("turn_detection") or session.get("audio", {}).get("input", {}).get(
        "turn_detection", {}
    )


UPDATES: Final[Mapping[str, tuple[Said, Said, Said | None]]] = {
    "openai_realtime": (
        lambda m: m["type"] == "session.update" and m["session"].get("instructions") == "Take an order.",
        lambda m: m["type"] == "session.update" and _realtime(m["session"]).get("silence_duration_ms") == 900,
        lambda m: m["type"] == "session.update" and _function(m["session"].get("tools")),
    ),
    "azure_voice_live": (
        lambda m: m["type"] == "session.update" and m["session"].get("instructions") == "Take an order.",
        lambda m: m["type"] == "session.update" and _realtime(m["session"]).get("silence_duration_ms") == 900,
        lambda m: m["type"] == "session.update" and _function(m["session"].get("tools")),
    ),
    "deepgram": (
        lambda m: m["type"] == "UpdateThink" and m["think"]["prompt"] == "Take an order.",
        lambda m: m["type"] == "UpdateListen" and m["listen"]["provider"]["eot_timeout_ms"] == 900,
        lambda m: m["type"] == "UpdateThink" and _function(m["think"].get("functions")),
    ),
    "assemblyai": (
        lambda m: m["type"] == "session.update" and m["session"].get("system_prompt") == "Take an order.",
        lambda m: (
            m["type"] == "session.update"
            and m["session"].get("input", {}).get("turn_detection", {}).get("min_silence") == 900
        ),
        lambda m: m["type"] == "session.update" and _function(m["session"].get("tools")),
    ),
    "companion": (
        lambda m: "Take an order." in str(m),
        lambda m: "'silence_duration_ms': 900" in str(m),
        None,  # Its functions are made at the vendor before the session.
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(any_pjsua2: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Switchboard]:
    """One server for all of them."""
    plans = {provider: DIALPLAN + (TOOLS if tools else "") for provider, (*_, tools) in UPDATES.items()}
    async with switchboard(any_pjsua2, tmp_path_factory.mktemp("line"), plans) as one:
        yield one


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_key_changes_the_running_session(provider: str, line: Switchboard, tmp_path: Path) -> None:
    prompt, turns, tools = UPDATES[provider]
    script = tmp_path / "script.toml"
    script.write_text(AGENT, "utf-8")
    agent = AgentSettings(brain="script", script=script, port=free_port())
    async with (
        serve(agent),
        wire_log(agent.port, line.ports[provider]) as wire,
        Softphone("127.0.0.1") as phone,
    ):
        call = await phone.call(line.uri(provider))
        await call.wait_answered(30)
        await until_heard(call, 440)
        for key, said in (("1", prompt), ("2", turns), ("3", tools)):
            if said is not None:
                before = [message for _, message in wire.said if said(message)]
                assert not before, "not before the key"
                await call.dtmf(key)
                await wire.until_said(said)
        await call.play(bytes(8000))
        await call.hang_up()
        record = await line.record()
    assert record["tags"] == [], "the API took each change"
    assert (record["dialplan"], record["dialplan_failures"]) == (provider, {})
    assert record["ending"] == "caller_hung_up"


async def test_a_new_version_is_for_new_calls_and_live_ones_hear_nothing(
    any_pjsua2: str, tmp_path: Path
) -> None:
    script, plan = tmp_path / "script.toml", tmp_path / "line.toml"
    script.write_text('[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 9000, words = "Hm." }\n')
    plan.write_text('greeting = "One."\non.answered = { tag = "first" }\n')
    settings = {
        "dialplans": {"folder": str(plan)},
        "local_agent": {"brain": "script", "script": str(script)},
    }
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        calls = [await phone.call(bridge.uri) for _ in range(4)]
        for call in calls:
            await call.wait_answered(30)
        playing = [asyncio.ensure_future(call.play(bytes(64000))) for call in calls]
        plan.write_text('greeting = "One."\nkeys.1 = { tell = "what?" }\n')
        (mistake,) = await bridge.until_logged("dialplan_mistake")
        assert "tell" in mistake["what"]
        plan.write_text('greeting = "Two."\non.answered = { tag = "second" }\n')
        await bridge.until_logged("dialplans_loaded")
        await asyncio.gather(*playing)
        await calls[0].hang_up()
        await bridge.records(1)  # The library may be one that takes four calls and no more.
        late = await phone.call(bridge.uri)
        await late.wait_answered(30)
        for call in (*calls[1:], late):
            await call.hang_up()
        records = await bridge.records(5)
    assert sorted(record["tags"][0] for record in records) == [*["first"] * 4, "second"]
    assert len({record["dialplan_version"] for record in records}) == 2
    for record in records:
        assert record["ending"] == "caller_hung_up"
    for call in calls:
        tones = tones_hz(heard(call))
        first = tones.index(440)
        assert set(tones[first:]) == {440}, "not a gap while the files were read"
