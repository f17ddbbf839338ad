"""Every message we send, judged by the vendor's own models (deepgram-sdk).

They allow extra keys, take `Any` beside every Literal and coerce, so four judges are needed: validation, a
walk over what they took as extra, a walk over the Literals, and a round trip. What no model knows is a rule
here. Two things the vendor's pages name and its SDK does not: the think provider nvidia and Cartesia's speed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from deepgram.agent.v1 import types as sdk
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.call.events import Said
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.deepgram.protocol import PROVIDER
from telbridge.sessions.deepgram.settings import DeepgramSettings
from tests.sessions.deepgram.bed import DeepgramSession, opened

MODELS: dict[str, type[BaseModel]] = {
    "Settings": sdk.AgentV1Settings,
    "KeepAlive": sdk.AgentV1KeepAlive,
    "UpdatePrompt": sdk.AgentV1UpdatePrompt,
    "UpdateThink": sdk.AgentV1UpdateThink,
    "UpdateSpeak": sdk.AgentV1UpdateSpeak,
    "UpdateListen": sdk.AgentV1UpdateListen,
    "UpdateThink_Live": sdk.AgentV1UpdateThinkLive,
    "InjectUserMessage": sdk.AgentV1InjectUserMessage,
    "InjectAgentMessage": sdk.AgentV1InjectAgentMessage,
    "FunctionCallResponse": sdk.AgentV1SendFunctionCallResponse,
    "ForceEndTurn": sdk.AgentV1ForceEndTurn,
}

STALE_NAMES = frozenset({"model", "model_id", "voice"})
"""Their Literals are older than the vendor's lists of models and voices."""


def faults(value: Any, path: str = "") -> Iterator[str]:
    """Paths of keys that no model knows, and of values outside a Literal."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{key} is unknown" for key in value.__pydantic_extra__ or {})
        for key, field in type(value).model_fields.items():
            inner = getattr(value, key)
            allowed = _literals(field.annotation)
            if allowed and key not in STALE_NAMES and isinstance(inner, str) and inner not in allowed:
                yield f"{path}.{key} is {inner}"
            yield from faults(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from faults(one, f"{path}.{index}")


def _literals(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {one for part in get_args(annotation) for one in _literals(part)}


def judge(message: dict[str, Any]) -> None:
    judged = MODELS[message["type"]].model_validate(message)
    assert list(faults(judged)) == []
    assert _plain(judged.dict()) == message
    if message["type"] == "Settings":
        own_rules(message)


def _plain(tree: Any) -> Any:
    return json.loads(json.dumps(tree, default=str))


def own_rules(settings: dict[str, Any]) -> None:
    """What the API refuses and the SDK's types let through."""
    assert set(settings["audio"]) == {"input", "output"}
    assert set(settings["audio"]["output"]) >= {"encoding", "sample_rate", "container"}
    if isinstance(settings["agent"], str):
        return
    listen = settings["agent"]["listen"]["provider"]
    assert (listen["version"] == "v2") == listen.get("model", "nova-3").startswith("flux-")
    speak = settings["agent"]["speak"]
    for one in speak if isinstance(speak, list) else [speak]:
        if one["provider"]["type"] == "deepgram":
            assert (one["provider"].get("version") == "v2") == one["provider"]["model"].startswith("flux-")
            assert "language" not in one["provider"]
        elif one["provider"]["type"] != "cartesia":
            assert one["endpoint"]["url"].startswith(("https://", "wss://"))


# ---------------------------------------------------------------- configurations that set everything

HTTPS = {"url": "https://models.example/v1", "headers": {"Authorization": {"env": "ELEVEN"}, "X-Plan": "a"}}
IAM = {
    "type": "iam",
    "region": "us-east-1",
    "access_key_id": {"env": "AWS_ID"},
    "secret_access_key": {"env": "AWS_SECRET"},
}
STS = {**IAM, "type": "sts", "session_token": {"env": "AWS_TOKEN"}}
FUNCTION = {
    "name": "transfer",
    "description": "to a person",
    "parameters": {"type": "object", "properties": {"to": {"type": "string", "default": None}}},
    "endpoint": {"url": "https://f.example/t", "method": "post", "headers": {"X-Key": {"env": "ELEVEN"}}},
    "defer_until_eot": True,
    "initial_agent_filler": True,
    "agent_filler_max_count": 2,
    "agent_filler_interval_ms": 4000,
}
GPT = {
    "provider": {
        "type": "open_ai",
        "version": "v1",
        "model": "gpt-4.1-mini",
        "temperature": 0.7,
        "reasoning_mode": "low",
    },
    "prompt": "Be brief.",
    "functions": [FUNCTION],
}
THINK = [
    GPT,
    {"provider": {"type": "anthropic", "version": "v1", "model": "claude-haiku-4-5", "temperature": 0.5}},
    {
        "provider": {
            "type": "google",
            "version": "v1beta",
            "model": "gemini-2.5-flash",
            "temperature": 1.5,
        },
        "endpoint": HTTPS,
        "context_length": "max",
    },
    {
        "provider": {
            "type": "groq",
            "version": "v1",
            "model": "openai/gpt-oss-20b",
            "temperature": 0.1,
            "reasoning_mode": "none",
        },
        "endpoint": HTTPS,
        "context_length": 4000,
    },
    {
        "provider": {"type": "aws_bedrock", "model": "any", "temperature": 0.2, "credentials": STS},
        "endpoint": HTTPS,
    },
    {
        "provider": {
            "type": "deepgram",
            "version": "v1",
            "model": "think-fast",
            "temperature": 0.2,
            "reasoning_mode": "high",
            "voice_prompt_opt_out": True,
        }
    },
]
SPEAK = [
    {
        "provider": {
            "type": "deepgram",
            "version": "v2",
            "model": "flux-kit-en",
            "speed": 0.95,
            "expressivity": 1,
        }
    },
    {"provider": {"type": "deepgram", "version": "v1", "model": "aura-2-thalia-en", "speed": 1.2}},
    {
        "provider": {
            "type": "eleven_labs",
            "version": "v1",
            "model_id": "eleven_turbo_v2_5",
            "language": "en",
            "language_code": "en",
        },
        "endpoint": {"url": "wss://api.elevenlabs.io/v1/x", "headers": {"xi-api-key": {"env": "ELEVEN"}}},
    },
    {
        "provider": {
            "type": "cartesia",
            "version": "2025-03-17",
            "model_id": "sonic-2",
            "voice": {"mode": "id", "id": "abc"},
            "language": "en",
            "volume": 1.5,
        },
        "endpoint": HTTPS,
    },
    {
        "provider": {"type": "open_ai", "version": "v1", "model": "tts-1", "voice": "nova"},
        "endpoint": HTTPS,
    },
    {
        "provider": {
            "type": "aws_polly",
            "voice": "Joanna",
            "language": "en-US",
            "language_code": "en-US",
            "engine": "neural",
            "credentials": IAM,
        },
        "endpoint": HTTPS,
    },
]
FLUX = {
    "type": "deepgram",
    "version": "v2",
    "model": "flux-general-multi",
    "language_hints": ["de", "en"],
    "eot_threshold": 0.8,
    "eager_eot_threshold": 0.5,
    "eot_timeout_ms": 5000,
    "keyterms": ["telbridge"],
}
NOVA = {
    "type": "deepgram",
    "version": "v1",
    "model": "nova-3",
    "language": "multi",
    "smart_format": True,
    "keyterms": ["telbridge"],
}
LIVE = {
    "type": "deepgram",
    "version": "v1",
    "agent_backchannel_sensitivity": 0.4,
    "presence_check_max_count": 2,
    "presence_check_interval_ms": 5000,
    "frustration_max_count": 3,
    "restricted_terms": ["refund"],
}
CALL = {
    "id": "c1",
    "name": "n",
    "client_side": True,
    "arguments": "{}",
    "response": "ok",
    "thought_signature": "s",
}
EVERYTHING: dict[str, Any] = {
    "tags": ["a"],
    "experimental": True,
    "mip_opt_out": False,
    "flags": {"history": False},
    "append_prompt": "Call the caller by name.",
    "user_profile": {"name": "Ann"},
    "audio": {
        "input": {"encoding": "linear16", "sample_rate": 16000},
        "output": {"encoding": "linear16", "sample_rate": 48000, "bitrate": 48000, "container": "none"},
    },
    "agent": {
        "language": "en",
        "greeting": "Hello.",
        "context": {
            "messages": [
                {"type": "History", "role": "user", "content": "Hi."},
                {"type": "History", "function_calls": [CALL]},
            ]
        },
        "listen": {"provider": FLUX},
        "think": THINK,
        "think_live": {"provider": LIVE},
        "speak": SPEAK,
    },
}
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    EVERYTHING,
    {"agent": {"listen": {"provider": NOVA}, "think": {**GPT, "functions": []}, "speak": SPEAK[1]}},
    {"agent": {"listen": {"provider": {"model": "nova-3"}}}},
    {"agent": {"speak": {"provider": {"type": "deepgram", "model": "flux-kit-en"}}}},
    {"agent": "12345678-1234-1234-1234-123456789abc", "append_prompt": "VIP."},
]


def settings_sent(settings: DeepgramSettings, wire: AudioFormat = PCMU_8K) -> dict[str, Any]:
    return DeepgramSession(protocol=opened(settings, wire=wire)).settings_sent


@pytest.mark.parametrize("wire", [PCMU_8K, PCMA_8K, PCM_24K], ids=str)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_configuration_is_one_of_the_vendors(configuration, wire):
    judge(settings_sent(DeepgramSettings.model_validate(configuration), wire))


@pytest.mark.parametrize("think", THINK, ids=lambda one: one["provider"]["type"])
@pytest.mark.parametrize("speak", SPEAK, ids=lambda one: one["provider"]["type"])
def test_each_model_and_voice_may_stand_alone(think, speak):
    agent = {"think": {**think, "functions": []}, "speak": speak}
    judge(settings_sent(DeepgramSettings.model_validate({"agent": agent})))


def test_the_configurations_set_every_field_that_is_sent():
    """Otherwise the judge would be silent about a field that nobody set."""
    known: set[str] = set()
    tried: set[str] = set()
    _fields(DeepgramSettings, known, set())
    for configuration in CONFIGURATIONS:
        _set_fields(DeepgramSettings.model_validate(configuration), tried)
    ours = {
        f"DeepgramSettings.{name}" for name in ("url", "api_key", "access_token", "grant", "barge_in", "raw")
    }
    ours |= {"Grant.url", "Grant.ttl_seconds", "SecretRef.file"}
    beyond_the_sdk = {"CartesiaSpeak.speed"} | {
        f"NvidiaThink.{name}" for name in ("type", "model", "temperature")
    }
    assert known - tried == ours | beyond_the_sdk


def _fields(annotation: Any, found: set[str], seen: set[Any]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        for name, field in annotation.model_fields.items():
            found.add(f"{annotation.__name__}.{name}")
            _fields(field.annotation, found, seen)
    for part in get_args(annotation):
        _fields(part, found, seen)


def _set_fields(value: Any, found: set[str]) -> None:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            found.add(f"{type(value).__name__}.{name}")
            _set_fields(getattr(value, name), found)
    elif isinstance(value, list | tuple):
        for one in value:
            _set_fields(one, found)
    elif isinstance(value, dict):
        for one in value.values():
            _set_fields(one, found)


turns = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["vad", "semantic", "off"]),
        "silence_ms": st.integers(0, 10_000),
        "eagerness": st.sampled_from(["low", "medium", "high", "auto"]),
    },
)
neutral_settings = st.fixed_dictionaries(
    {},
    optional={
        "instructions": st.text(max_size=40),
        "voice": st.sampled_from(["aura-2-apollo-en", "flux-kit-en"]),
        "language": st.sampled_from(["en", "en-GB", "de", "pt-BR", "pl", "zh-CN"]),
        "key_terms": st.lists(st.text(max_size=8), max_size=3),
        "turn_detection": turns,
        "barge_in": st.booleans(),
        "temperature": st.floats(0, 2),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "tools": st.just([{"name": "f", "description": "d"}]),
        "user_profile": st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
        "tags": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    },
)


@given(asked=neutral_settings, base=st.sampled_from(CONFIGURATIONS))
@hypothesis_settings(deadline=None, max_examples=150)
def test_whatever_is_asked_neutrally_becomes_a_configuration_of_the_vendors(asked, base):
    settings = PROVIDER.with_neutral(
        DeepgramSettings.model_validate(base), NeutralSettings.model_validate(asked)
    )
    judge(settings_sent(settings))


def test_every_message_of_a_whole_session_is_one_of_the_vendors():
    agent = DeepgramSession(ready=False)
    agent.protocol.greet(Greeting("Hello."))
    agent.becomes_ready()
    messages = [agent.settings_sent]
    agent.protocol.say("One moment.")
    agent.receives("InjectionRefused", message="m")
    agent.protocol.send_text("5", role=TextRole.CALLER, respond=True)
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.protocol.send_text("Noise.", role=TextRole.CONTEXT, respond=True)
    agent.protocol.request_reply("Ask for the name.")
    agent.caller_starts()
    agent.protocol.request_reply(None)
    agent.calls("c1")
    agent.protocol.tool_result("c1", "ok", failed=True)
    agent.protocol.update(
        NeutralSettings(instructions="Be brief.", voice="flux-kit-en", language="de"),
        {"agent": {"think_live": {"provider": LIVE}}},
    )
    agent.later(4000)
    messages += agent.sent()
    messages.append(agent.next_session(Said(True, "Hi."), Said(False, "Hello.")).settings_sent)
    for message in messages:
        judge(message)
    assert {message["type"] for message in messages} == set(MODELS)


@pytest.mark.parametrize("listen", [FLUX, NOVA])
def test_updates_of_everything_that_can_be_updated_are_the_vendors(listen):
    agent = DeepgramSession(agent={"listen": {"provider": listen}})
    agent.protocol.update(
        NeutralSettings(),
        {
            "agent": {
                "listen": {"provider": {"model": f"{listen['model']}-x"}},
                "think": THINK,
                "think_live": {"provider": LIVE},
                "speak": SPEAK,
            }
        },
    )
    sent = agent.sent()
    for message in sent:
        judge(message)
    assert [message["type"] for message in sent] == [
        "UpdateListen",
        "UpdateSpeak",
        "UpdateThink",
        "UpdateThink_Live",
    ]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("audio", "inptu"), {}),
        (("audio", "input", "encoding"), "ulaw"),
        (("audio", "output", "container"), "raw"),
        (("audio", "input", "sample_rate"), "8000"),
        (("agent", "instructions"), "x"),
        (("agent", "listen", "provider", "eot_treshold"), 0.7),
        (("agent", "speak", "provider", "language"), "en"),
    ],
)
def test_the_judge_is_strict(path, wrong):
    message = settings_sent(DeepgramSettings())
    place = message
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    with pytest.raises(AssertionError):
        judge(message)
