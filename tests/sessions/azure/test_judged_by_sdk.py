"""Every configuration and message that we send to Azure Voice Live, judged by azure-ai-voicelive's models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_48K, PCMA_8K, PCMU_8K
from telbridge.call.events import Said
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.azure.protocol import PROVIDER
from telbridge.sessions.azure.session import CONNECTION_FIELDS
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.credentials import SecretRef
from tests.sessions.azure.bed import AzureSession, judge, opening, settings

SYNTHESIS = {
    "temperature": 0.7,
    "custom_lexicon_url": "https://a.example/lexicon.xml",
    "custom_text_normalization_url": "https://a.example/rules",
    "prefer_locales": ["en-GB"],
    "locale": "en-GB",
    "style": "cheerful",
    "pitch": "+5%",
    "rate": "1.1",
    "volume": "+10%",
}
VAD = {
    "threshold": 0.4,
    "prefix_padding_ms": 300,
    "speech_duration_ms": 80,
    "speech_duration_assistant_speaking_ms": 800,
    "silence_duration_ms": 400,
    "end_of_utterance_detection": {
        "model": "semantic_detection_v1",
        "threshold_level": "low",
        "timeout_ms": 900,
    },
    "auto_truncate": True,
    "appended_text_after_truncation": "…",
    "create_response": True,
    "interrupt_response": False,
}
SEMANTIC = {**VAD, "remove_filler_words": True}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "session": {
        "modalities": ["text", "audio", "animation", "avatar"],
        "instructions": "Be brief.",
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": 16000,
        "output_audio_format": "pcm16_16000hz",
        "temperature": 0.7,
        "max_response_output_tokens": 1024,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "output_audio_timestamp_types": ["word"],
        "include": ["item.input_audio_transcription.logprobs", "file_search_call.results"],
        "metadata": {"user": "u1"},
        "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
        "input_audio_echo_cancellation": {"reference_source": "server", "channels": 1},
        "animation": {"model_name": "default", "outputs": ["blendshapes", "viseme_id"]},
    },
    "all off": {
        "input_audio_noise_reduction": "off",
        "input_audio_echo_cancellation": "off",
        "input_audio_transcription": "off",
        "turn_detection": "off",
        "interim_response": "off",
        "max_response_output_tokens": "inf",
    },
    "azure speech": {
        "input_audio_transcription": {
            "model": "azure-speech",
            "language": "en,zh",
            "phrase_list": ["Zeiss"],
            "custom_speech": {"en-US": "m1"},
        },
        "interim_response": {
            "type": "static_interim_response",
            "triggers": ["latency", "tool"],
            "latency_threshold_ms": 900,
            "texts": ["One moment."],
        },
    },
    "gpt-realtime": {
        "model": "gpt-realtime-2.1",
        "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": "Zeiss"},
        "voice": {"type": "openai", "name": "marin"},
        "turn_detection": {
            "type": "semantic_vad",
            "eagerness": "high",
            "create_response": True,
            "interrupt_response": True,
        },
        "input_audio_noise_reduction": {"type": "far_field"},
    },
    "bare voice": {"model": "gpt-realtime", "voice": "cedar"},
    "standard voice": {"voice": {"type": "azure-standard", "name": "en-US-AvaNeural", **SYNTHESIS}},
    "custom voice": {"voice": {"type": "azure-custom", "name": "mine", "endpoint_id": "e1", **SYNTHESIS}},
    "personal voice": {
        "voice": {"type": "azure-personal", "name": "p1", "model": "DragonLatestNeural", **SYNTHESIS}
    },
    "avatar voice": {"voice": {"type": "avatar-voice-sync", "model": "DragonLatestNeural", **SYNTHESIS}},
    "native voice": {
        "model": "azure-realtime",
        "voice": {"type": "azure-realtime-native", "name": "xiaoxiao"},
    },
    "server_vad": {"turn_detection": {"type": "server_vad", **VAD}},
    "semantic": {"turn_detection": {"type": "azure_semantic_vad", **SEMANTIC, "languages": ["en"]}},
    "semantic en": {"turn_detection": {"type": "azure_semantic_vad_en", **SEMANTIC}},
    "semantic multilingual": {
        "turn_detection": {"type": "azure_semantic_vad_multilingual", **SEMANTIC, "languages": ["de", "fr"]}
    },
    "tools": {
        "tool_choice": {"type": "function", "name": "look_up"},
        "tools": [
            {
                "type": "function",
                "name": "look_up",
                "description": "Looks it up.",
                "parameters": {"type": "object", "properties": {"what": {"default": None}}},
            },
            {
                "type": "mcp",
                "server_label": "docs",
                "server_url": "https://mcp.example",
                "authorization": {"env": "TOKEN"},
                "headers": {"X-Key": {"env": "TOKEN"}, "X-Name": "plain"},
                "allowed_tools": ["search"],
                "require_approval": {"never": ["search"], "always": ["buy"]},
            },
            {
                "type": "mcp",
                "server_label": "more",
                "server_url": "https://b.example",
                "require_approval": "never",
            },
            {
                "type": "foundry_agent",
                "agent_name": "a",
                "project_name": "p",
                "agent_version": "1",
                "client_id": "c",
                "description": "d",
                "foundry_resource_override": "r",
                "agent_context_type": "no_context",
                "return_agent_response_directly": False,
            },
        ],
    },
    "required tool": {"tool_choice": "required", "tools": [{"type": "function", "name": "f"}]},
    "llm filler": {
        "interim_response": {
            "type": "llm_interim_response",
            "triggers": ["tool"],
            "latency_threshold_ms": 0,
            "model": "gpt-4.1-mini",
            "instructions": "Hum.",
            "max_completion_tokens": 20,
        }
    },
    "avatar": {
        "avatar": {
            "type": "photo-avatar",
            "character": "lisa",
            "customized": False,
            "style": "casual",
            "model": "vasa-1",
            "ice_servers": [{"urls": ["turn:a"], "username": "u", "credential": {"env": "PASSWORD"}}],
            "video": {
                "bitrate": 1_000_000,
                "codec": "h264",
                "crop": {"top_left": [0, 0], "bottom_right": [10, 10]},
                "resolution": {"width": 100, "height": 100},
                "background": {"color": "#FFFFFFFF", "image_url": "https://a.example/b.png"},
                "gop_size": 10,
            },
            "scene": {
                "zoom": 1.0,
                "position_x": 0.1,
                "position_y": 0.2,
                "rotation_x": 0.1,
                "rotation_y": 0.1,
                "rotation_z": 0.1,
                "amplitude": 0.5,
            },
            "output_protocol": "websocket",
            "output_audit_audio": True,
        }
    },
}


def first_session(**fields: Any) -> dict[str, Any]:
    agent = AzureSession(ready=False, **fields)
    agent.receives("session.created", session={})
    return agent.sent_session()


def fields_set(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield type(value).__name__, name
            yield from fields_set(getattr(value, name))
    elif isinstance(value, tuple):
        for one in value:
            yield from fields_set(one)


def parts_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every table that may stand in a settings model."""
    yield model
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            yield from parts_of(part)


def _models_in(hint: Any) -> Iterator[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for inner in getattr(hint, "__args__", ()):
        yield from _models_in(inner)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_is_what_the_vendor_would_send(name):
    agent = AzureSession(ready=False, **CONFIGURATIONS[name])
    agent.receives("session.created", session={})
    (update,) = agent.sent()
    assert judge(update) == []


def test_the_configurations_set_every_field_there_is():
    told = {one for fields in CONFIGURATIONS.values() for one in fields_set(settings(**fields))}
    agent_and_secrets = {"AgentMode", "SecretRef"}
    missing = {
        (part.__name__, name)
        for part in parts_of(AzureSettings)
        for name in part.model_fields
        if part.__name__ not in agent_and_secrets
        and (part.__name__, name) not in told
        and not (part is AzureSettings and name in CONNECTION_FIELDS)
        and name != "type"  # The default of the tables that have one kind only.
    }
    assert missing == set()


@pytest.mark.parametrize("name", set(CONFIGURATIONS) - {"nothing", "all off"})
def test_what_is_set_is_what_is_sent(name):
    """No field is dropped on its way: all but secrets arrive as they were written."""
    session = first_session(**CONFIGURATIONS[name])
    written = json.loads(json.dumps(CONFIGURATIONS[name]))
    written.pop("model", None)
    assert _within(written, session) == []


def _within(written: Any, sent: Any, path: str = "") -> list[str]:
    if isinstance(written, dict) and set(written) == {"env"}:
        return [] if sent in ("token-1", "pass-1") else [path]
    if isinstance(written, dict) and isinstance(sent, dict):
        return [one for key in written for one in _within(written[key], sent.get(key), f"{path}.{key}")]
    if isinstance(written, list) and isinstance(sent, list) and len(written) == len(sent):
        pairs = zip(written, sent, strict=True)
        return [one for n, (left, right) in enumerate(pairs) for one in _within(left, right, f"{path}[{n}]")]
    return [] if written == sent else [path]


NEUTRAL: dict[str, dict[str, Any]] = {
    "all": {
        "instructions": "Be brief.",
        "voice": "en-US-AvaNeural",
        "language": "en-US",
        "key_terms": ["Zeiss"],
        "turn_detection": {
            "mode": "semantic",
            "threshold": 0.6,
            "prefix_ms": 200,
            "silence_ms": 300,
            "eagerness": "high",
        },
        "barge_in": False,
        "noise_reduction": "near_field",
        "echo_cancellation": True,
        "temperature": 1.8,
        "max_output_tokens": 9000,
        "tools": [{"name": "look_up", "description": "Looks it up."}],
        "user_id": "u1",
        "user_profile": {"name": "Ann"},
        "tags": {"branch": "north"},
        "modalities": ["audio"],
    },
    "german": {"language": "de-DE", "turn_detection": {"mode": "semantic", "eagerness": "low"}},
    "vad": {"turn_detection": {"mode": "vad", "eagerness": "auto"}, "noise_reduction": "off"},
    "off": {"turn_detection": {"mode": "off"}, "echo_cancellation": False, "max_output_tokens": "inf"},
}


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5", "gpt-realtime-2.1", "azure-realtime"])
def test_neutral_settings_are_what_the_vendor_would_send(name, model):
    neutral = NeutralSettings.model_validate({**NEUTRAL[name], "reasoning_effort": "low"})
    agent = AzureSession(ready=False, neutral=neutral, model=model)
    agent.receives("session.created", session={})
    (update,) = agent.sent()
    assert judge(update) == []


@pytest.mark.parametrize("wire", [PCMU_8K, PCMA_8K, PCM_8K, PCM_16K, PCM_48K], ids=str)
@pytest.mark.parametrize(
    "fields",
    [{}, {"model": "gpt-realtime"}, {"agent": {"agent_name": "a", "agent_project_name": "p"}}],
    ids=["azure", "gpt-realtime", "agent"],
)
def test_all_that_a_call_says_is_what_the_vendor_would_say(fields, wire):
    agent = AzureSession(ready=False, wire=wire, **fields)
    agent.protocol.greet(Greeting("Hello, «you»."))
    agent.configured()
    agent.begins("r1")
    agent.speaks("r1", bytes(32_000))
    agent.protocol.say("Goodbye.")
    agent.protocol.request_reply("Shorter.")
    agent.protocol.request_reply(None)
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.calls("r1", "c1")
    agent.protocol.interrupt()
    agent.sent()
    agent.heard(1, ms=100)
    agent.ends("r1")
    agent.protocol.tool_result("c1", '{"ok":true}', failed=False)
    agent.receives("conversation.item.created", item={"type": "mcp_approval_request", "id": "m1"})
    for number in range(2, 7):
        agent.begins(f"r{number}")
        agent.ends(f"r{number}")
    agent.sent()
    agent.updated(temperature=0.8)
    kinds = {message["type"] for message in agent.all_sent}
    assert kinds == {
        "session.update",
        "response.create",
        "response.cancel",
        "conversation.item.create",
        "conversation.item.truncate",
    }
    assert [fault for message in agent.all_sent for fault in judge(message)] == []
    identities = [message["event_id"] for message in agent.all_sent]
    assert len(set(identities)) == len(identities)


def test_a_conversation_carried_over_is_what_the_vendor_would_say():
    agent = AzureSession().succeeded(Said(True, "Hello?"), Said(False, "Yes?"))
    agent.configured()
    items = [message for message in agent.all_sent if message["type"] == "conversation.item.create"]
    assert len(items) == 2
    assert [fault for message in items for fault in judge(message)] == []


@pytest.mark.parametrize("wire", [PCMU_8K, PCM_16K], ids=str)
def test_a_frame_of_audio_is_what_the_vendor_would_send(wire):
    protocol = AzureSession(wire=wire).protocol
    frame = protocol.audio(bytes(protocol.uplink_format.bytes_for_ms(20)))
    assert frame is not None
    assert judge(json.loads(frame)) == []


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("turn_detection", {"type": "azure_semantic_vad", "treshold": 0.5}),
        ("turn_detection", {"type": "server_vad", "remove_filler_words": True}),
        ("turn_detection", {"type": "voice_detection"}),
        ("audio", {}),
        ("type", "realtime"),
        ("temperature", "0.5"),
        ("input_audio_sampling_rate", "8000"),
        ("modalities", ["text", "smell"]),
        ("voice", {"type": "azure-custom", "name": "x"}),
        ("interim_response", {"type": "static-interim-response"}),
        ("tools", [{"type": "function", "function": {"name": "nested"}}]),
    ],
)
def test_the_judge_is_awake(where, wrong):
    update = {"type": "session.update", "session": {**first_session(), where: wrong}}
    assert judge(update) != []


def test_secrets_are_in_the_message_and_nowhere_else():
    chosen = settings(**CONFIGURATIONS["tools"])
    agent = AzureSession(ready=False, **CONFIGURATIONS["tools"])
    agent.receives("session.created")
    assert agent.sent_session()["tools"][1]["authorization"] == "token-1"
    for shown in (repr(chosen), chosen.model_dump_json(), repr(agent.protocol.next_step()), repr(opening())):
        assert "token-1" not in shown
        assert "key-1" not in shown
    assert isinstance(PROVIDER.settings().api_key, SecretRef)
