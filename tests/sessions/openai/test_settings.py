"""Settings of OpenAI Realtime, the neutral vocabulary on top of them, and what is told at check time."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K
from telbridge.call.events import Ending, SessionEnd
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest, Opening
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.openai.protocol import PROVIDER, OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings, ServerVad, Transcription
from telbridge.sessions.provider import Ability, Way, problems

ENVIRON = {"OPENAI_API_KEY": "sk-secret", "MCP_TOKEN": "mcp-secret"}


def opened(environ: dict[str, str] = ENVIRON, **settings: Any) -> OpenAIRealtime:
    return OpenAIRealtime(OpenAISettings(**settings), Opening("call-1", PCMU_8K, environ))


def session_of(settings: OpenAISettings, environ: dict[str, str] = ENVIRON) -> dict[str, Any]:
    """The session object of the first update."""
    protocol = OpenAIRealtime(settings, Opening("call-1", PCMU_8K, environ))
    protocol.receive('{"type":"session.created"}', now_ns=0)
    (update,) = protocol.data_to_send()
    session: dict[str, Any] = json.loads(update)["session"]
    return session


def neutral(settings: dict[str, Any] | None = None, /, **asked: Any) -> OpenAISettings:
    return PROVIDER.with_neutral(OpenAISettings(**(settings or {})), NeutralSettings(**asked))


# ---------------------------------------------------------------- every field reaches the wire

EVERYTHING = """
instructions = "Be brief."
output_modalities = ["audio"]
voice = { id = "voice_1" }
speed = 1.25
max_output_tokens = 1024
reasoning_effort = "xhigh"
tool_choice = { type = "mcp", server_label = "shop", name = "find" }
parallel_tool_calls = true
include = ["item.input_audio_transcription.logprobs"]
audio = "pcm24k"
input_format = "audio/pcma"

[prompt]
id = "pmpt_1"
version = "2"
variables = { city = "Oslo", photo = { type = "input_text", text = "a" } }

[tracing]
workflow_name = "line"
group_id = "g"
metadata = { shop = "1" }

[truncation]
type = "retention_ratio"
retention_ratio = 0.8
token_limits = { post_instructions = 5000 }

[turn_detection]
threshold = 0.6
prefix_padding_ms = 200
silence_duration_ms = 400
idle_timeout_ms = 6000
create_response = false
interrupt_response = false

[transcription]
model = "gpt-transcribe"
language = "de"
languages = ["de", "en"]
keywords = ["Gandalf"]
prompt = "A shop."

[noise_reduction]
type = "far_field"
strength = 1.5

[[tools]]
type = "function"
name = "balance"
description = "Tells it."
parameters = { type = "object", properties = {} }

[[tools]]
type = "mcp"
server_label = "shop"
server_url = "https://shop.example/mcp"
server_description = "The shop."
authorization = { env = "MCP_TOKEN" }
headers = { X-Shop = "1", X-Key = { env = "MCP_TOKEN" } }
allowed_tools = { read_only = true, tool_names = ["find"] }
require_approval = { always = { tool_names = ["buy"] }, never = { read_only = true } }
allowed_callers = ["direct"]
defer_loading = false

[raw]
hologram = true
audio = { output = { sparkle = 1 } }
"""


def test_every_field_of_the_session_object_reaches_the_wire_as_it_was_written():
    assert session_of(OpenAISettings.model_validate(tomllib.loads(EVERYTHING))) == {
        "type": "realtime",
        "instructions": "Be brief.",
        "output_modalities": ["audio"],
        "max_output_tokens": 1024,
        "reasoning": {"effort": "xhigh"},
        "tool_choice": {"type": "mcp", "server_label": "shop", "name": "find"},
        "parallel_tool_calls": True,
        "include": ["item.input_audio_transcription.logprobs"],
        "prompt": {
            "id": "pmpt_1",
            "version": "2",
            "variables": {"city": "Oslo", "photo": {"type": "input_text", "text": "a"}},
        },
        "tracing": {"workflow_name": "line", "group_id": "g", "metadata": {"shop": "1"}},
        "truncation": {
            "type": "retention_ratio",
            "retention_ratio": 0.8,
            "token_limits": {"post_instructions": 5000},
        },
        "audio": {
            "input": {
                "format": {"type": "audio/pcma"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.6,
                    "prefix_padding_ms": 200,
                    "silence_duration_ms": 400,
                    "idle_timeout_ms": 6000,
                    "create_response": False,
                    "interrupt_response": False,
                },
                "transcription": {
                    "model": "gpt-transcribe",
                    "language": "de",
                    "languages": ["de", "en"],
                    "keywords": ["Gandalf"],
                    "prompt": "A shop.",
                },
                "noise_reduction": {"type": "far_field", "strength": 1.5},
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "voice": {"id": "voice_1"},
                "speed": 1.25,
                "sparkle": 1,
            },
        },
        "tools": [
            {
                "type": "function",
                "name": "balance",
                "description": "Tells it.",
                "parameters": {"type": "object", "properties": {}},
            },
            {
                "type": "mcp",
                "server_label": "shop",
                "server_url": "https://shop.example/mcp",
                "server_description": "The shop.",
                "authorization": "mcp-secret",
                "headers": {"X-Shop": "1", "X-Key": "mcp-secret"},
                "allowed_tools": {"read_only": True, "tool_names": ["find"]},
                "require_approval": {"always": {"tool_names": ["buy"]}, "never": {"read_only": True}},
                "allowed_callers": ["direct"],
                "defer_loading": False,
            },
        ],
        "hologram": True,
    }


def test_off_is_null_on_the_wire_and_what_is_not_set_is_not_sent():
    off = session_of(
        OpenAISettings.model_validate(
            {
                "turn_detection": "off",
                "transcription": "off",
                "noise_reduction": "off",
                "tracing": "off",
                "prompt": "off",
            }
        )
    )
    heard = off["audio"]["input"]
    assert (heard["turn_detection"], heard["transcription"], heard["noise_reduction"]) == (None, None, None)
    assert (off["tracing"], off["prompt"]) == (None, None)
    unset = session_of(OpenAISettings())
    assert set(unset) == {"type", "output_modalities", "max_output_tokens", "audio"}
    assert set(unset["audio"]["input"]) == {"format", "turn_detection"}


def test_noise_reduction_may_be_its_name_alone():
    settings = OpenAISettings.model_validate({"noise_reduction": "near_field"})
    assert session_of(settings)["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


def test_each_way_may_have_a_format_of_its_own():
    settings = OpenAISettings(input_format="audio/pcm", output_format="audio/pcma")
    protocol = OpenAIRealtime(settings, Opening("call-1", PCMU_8K, ENVIRON))
    assert (protocol.uplink_format, protocol.downlink_format) == (PCM_24K, PCMA_8K)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"url": "wss://api.openai.com/v1/live/sessions"}, "Live API"),
        ({"url": "wss://x.services.ai.azure.com/voice-live/realtime"}, "use azure_voice_live"),
        ({"url": "wss://x.openai.azure.com/openai/realtime?api-version=p"}, "preview protocol"),
        ({"model": "gpt-realtime-whisper"}, "holds no conversation"),
        ({"output_modalities": ["audio", "text"]}, "exactly one"),
        ({"model": "gpt-realtime-1.5", "parallel_tool_calls": True}, "leave parallel_tool_calls out"),
        ({"transcription": {"model": "whisper-1", "keywords": ["a"]}}, "takes no keywords"),
        ({"transcription": {"model": "gpt-4o-transcribe", "delay": "low"}}, "takes no delay"),
        ({"transcription": {"model": "gpt-realtime-whisper", "prompt": "a"}}, "takes no prompt"),
        ({"tools": [{"type": "mcp", "server_label": "s"}]}, "exactly one way to the server"),
        ({"tools": [{"type": "mcp", "server_label": "s", "authorization": "x"}]}, "secret must not stand"),
        ({"tools": [{"type": "function", "function": {"name": "n"}}]}, "name"),
        ({"truncation": {"retention_ratio": 1.5}}, "less than or equal to 1"),
        ({"client_secret_s": 9}, "greater than or equal to 10"),
    ],
)
def test_what_the_api_would_refuse_is_refused_with_what_to_write_instead(bad, line):
    with pytest.raises(ValidationError, match=line):
        OpenAISettings.model_validate(bad)


def test_a_model_of_2025_is_not_taken_for_one_of_the_second_family():
    settings = OpenAISettings(model="gpt-realtime-2025-08-28", reasoning_effort="low")
    assert "reasoning" not in session_of(settings)


def test_settings_made_in_code_can_be_changed_like_those_of_a_file():
    settings = OpenAISettings(
        url="ws://127.0.0.1:1/v1/realtime",
        model="telbridge-local",
        transcription=Transcription(),
        turn_detection=ServerVad(silence_duration_ms=700, interrupt_response=False),
    )
    changed = PROVIDER.with_neutral(settings, NeutralSettings(barge_in=True, language="de"))
    turns = session_of(changed)["audio"]["input"]["turn_detection"]
    assert (turns["silence_duration_ms"], turns["interrupt_response"]) == (700, False)
    assert session_of(changed)["audio"]["input"]["transcription"]["language"] == "de"


# ---------------------------------------------------------------- credentials


def test_a_missing_key_is_told_with_its_remedy_but_an_agent_on_this_machine_needs_none():
    with pytest.raises(SecretMissing, match=r"openai_realtime\.api_key: OPENAI_API_KEY is not set"):
        opened({})
    for host in ("127.0.0.1:8090", "localhost:8090", "[::1]:8090"):
        step = opened({}, url=f"ws://{host}/v1/realtime").next_step()
        assert isinstance(step, ConnectRequest)
        assert step.headers == {}


def test_an_agent_on_this_machine_gets_no_key_that_the_settings_do_not_name_for_it():
    url = "ws://localhost:8090/v1/realtime"
    assert "Authorization" not in opened(url=url).next_step().headers
    named = opened(url=url, api_key={"env": "OPENAI_API_KEY"})
    assert named.next_step().headers["Authorization"] == "Bearer sk-secret"
    missing = opened(url=url, api_key={"env": "NOT_THERE"})
    assert missing.next_step().headers == {}


def test_a_missing_secret_of_an_mcp_server_is_told_before_the_call():
    tool = {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://s",
        "authorization": {"env": "NOT_THERE"},
    }
    with pytest.raises(SecretMissing, match="NOT_THERE"):
        opened(tools=[tool])


def test_openai_hosted_by_azure_takes_the_key_in_a_header_of_its_own():
    step = opened(url="wss://x.openai.azure.com/openai/v1/realtime", model="my-deployment").next_step()
    assert isinstance(step, ConnectRequest)
    assert step.headers == {"api-key": "sk-secret"}
    assert step.url.endswith("/openai/v1/realtime?model=my-deployment")


def test_a_client_secret_is_fetched_first_if_asked_for_and_stands_in_for_the_key():
    protocol = opened(client_secret_s=60, safety_identifier="u")
    request = protocol.next_step()
    assert request == HttpRequest(
        "POST",
        "https://api.openai.com/v1/realtime/client_secrets",
        {"OpenAI-Safety-Identifier": "u", "Authorization": "Bearer sk-secret"},
        {
            "expires_after": {"anchor": "created_at", "seconds": 60},
            "session": {"type": "realtime", "model": "gpt-realtime-2.1"},
        },
    )
    protocol.http_answered(200, {}, b'{"value":"ek_1","expires_at":1,"session":{}}')
    connect = protocol.next_step()
    assert isinstance(connect, ConnectRequest)
    assert connect.headers["Authorization"] == "Bearer ek_1"
    assert "ek_1" not in repr(connect)


@pytest.mark.parametrize(
    ("status", "body", "ending", "again"),
    [
        (401, b"", Ending.AGENT_REFUSED, False),
        (429, b"", Ending.AGENT_UNREACHABLE, True),
        (503, b"", Ending.AGENT_UNREACHABLE, True),
        (None, b"", Ending.AGENT_UNREACHABLE, True),
        (200, b"[]", Ending.AGENT_UNREACHABLE, False),
        (200, b'{"value":1}', Ending.AGENT_UNREACHABLE, False),
    ],
)
def test_no_client_secret_is_the_end(status, body, ending, again):
    protocol = opened(client_secret_s=60)
    protocol.next_step()
    protocol.http_answered(status, {}, body)
    end = protocol.next_step()
    assert isinstance(end, SessionEnd)
    assert (end.ending, end.may_reconnect) == (ending, again)


# ---------------------------------------------------------------- neutral vocabulary


def test_every_ability_has_an_entry():
    assert set(PROVIDER.abilities) == set(Ability)
    assert all(support.how for support in PROVIDER.abilities.values())


def test_the_neutral_settings_reach_the_wire():
    settings = neutral(
        {"transcription": {"model": "gpt-transcribe"}},
        instructions="Be brief.",
        voice="cedar",
        language="de-AT",
        key_terms=("Gandalf", "Bree"),
        turn_detection={"mode": "vad", "threshold": 0.7, "prefix_ms": 100, "silence_ms": 300},
        barge_in=False,
        noise_reduction="far_field",
        max_output_tokens=9000,
        reasoning_effort="high",
        tools=({"name": "balance", "description": "Tells it."},),
        user_id="user-1",
        user_profile={"name": "Frodo"},
        tags={"shop": "1"},
        modalities=("audio", "text"),
        idle_timeout_s=7.5,
    )
    assert settings.safety_identifier == "user-1"
    session = session_of(settings)
    assert session["instructions"].startswith("Be brief.\n\n")
    assert all(word in session["instructions"] for word in ("de-AT", "Gandalf, Bree", '{"name": "Frodo"}'))
    assert session["max_output_tokens"] == 4096
    assert session["reasoning"] == {"effort": "high"}
    assert session["output_modalities"] == ["audio"]
    assert session["tracing"] == {"metadata": {"shop": "1"}}
    assert session["tools"] == [
        {
            "type": "function",
            "name": "balance",
            "description": "Tells it.",
            "parameters": {"type": "object", "properties": {}},
        }
    ]
    assert session["audio"]["output"]["voice"] == "cedar"
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcmu"},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.7,
            "prefix_padding_ms": 100,
            "silence_duration_ms": 300,
            "idle_timeout_ms": 7500,
            "create_response": True,
            "interrupt_response": False,
        },
        "transcription": {"model": "gpt-transcribe", "language": "de", "keywords": ["Gandalf", "Bree"]},
        "noise_reduction": {"type": "far_field"},
    }


def test_a_vendor_field_set_by_name_wins_part_by_part():
    settings = neutral(
        {"voice": "ash", "turn_detection": {"type": "server_vad", "threshold": 0.9}, "instructions": "Mine."},
        voice="cedar",
        instructions="Theirs.",
        turn_detection={"mode": "semantic", "threshold": 0.1, "silence_ms": 250, "eagerness": "low"},
    )
    assert (settings.voice, settings.instructions) == ("ash", "Mine.")
    assert settings.turn_detection == ServerVad(threshold=0.9, silence_duration_ms=250)


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ({"mode": "semantic", "eagerness": "high"}, {"type": "semantic_vad", "eagerness": "high"}),
        ({"eagerness": "low"}, {"type": "semantic_vad", "eagerness": "low"}),
        ({"mode": "semantic", "silence_ms": 300}, {"type": "semantic_vad", "eagerness": "auto"}),
        ({"mode": "off"}, None),
    ],
)
def test_the_mode_of_turn_detection_follows_what_is_asked(asked, mode):
    turns = session_of(neutral(turn_detection=asked))["audio"]["input"]["turn_detection"]
    if mode is not None:
        mode = {**mode, "create_response": True, "interrupt_response": True}
    assert turns == mode


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("gpt-live-transcribe", "keywords", ["Gandalf"]),
        ("whisper-1", "prompt", "Gandalf"),
        ("gpt-4o-transcribe-diarize", "prompt", None),
        ("gpt-realtime-whisper", "prompt", None),
    ],
)
def test_key_terms_go_to_the_transcription_in_the_way_its_model_takes_them(model, field, value):
    settings = neutral({"transcription": {"model": model}}, key_terms=("Gandalf",))
    assert session_of(settings)["audio"]["input"]["transcription"].get(field) == value


def test_an_identity_that_no_header_could_carry_is_hashed_and_stays_the_same():
    one, two = neutral(user_id="Фродо"), neutral(user_id="Фродо")
    assert one.safety_identifier == two.safety_identifier
    assert one.safety_identifier is not None
    assert one.safety_identifier.isalnum()


def test_nothing_neutral_changes_nothing():
    settings = OpenAISettings()
    assert PROVIDER.with_neutral(settings, NeutralSettings()) is settings


def test_what_the_api_cannot_do_is_told_at_check_time():
    asked = NeutralSettings(echo_cancellation=True, temperature=0.5, memory_id="m", voice="ash")
    assert [key for key, _ in problems(PROVIDER, asked)] == ["echo_cancellation", "temperature", "memory_id"]
    assert PROVIDER.abilities[Ability.LATENCY].way is Way.IMPOSSIBLE


# ---------------------------------------------------------------- check time


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"output_modalities": ["text"]}, "output_modalities"),
        ({"turn_detection": "off"}, "turn_detection"),
        ({"turn_detection": {"create_response": False}}, "turn_detection"),
        ({"turn_detection": {"idle_timeout_ms": 100}}, "turn_detection.idle_timeout_ms"),
        ({"model": "gpt-realtime", "reasoning_effort": "low"}, "reasoning_effort"),
        ({"model": "gpt-realtime-mini"}, "model"),
        ({"voice": "vesper"}, "voice"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "include"),
        (
            {"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://s"}]},
            "tools[0].require_approval",
        ),
    ],
)
def test_what_makes_no_sense_on_a_telephone_is_passed_on_with_a_warning(settings, key):
    assert key in [found for found, _ in PROVIDER.warnings(OpenAISettings.model_validate(settings))]


def test_the_defaults_give_no_warning_and_no_refusal():
    assert PROVIDER.warnings(OpenAISettings()) == []
    assert list(PROVIDER.refusals(OpenAISettings())) == []


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        ({"type": "function", "name": "balance"}, "tool_choice.name"),
        ({"type": "mcp", "server_label": "shop"}, "tool_choice.server_label"),
    ],
)
def test_a_choice_of_a_tool_that_is_not_there_would_be_refused(choice, key):
    settings = OpenAISettings.model_validate({"tool_choice": choice})
    assert [found for found, _ in PROVIDER.refusals(settings)] == [key]
