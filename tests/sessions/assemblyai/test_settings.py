"""Settings of AssemblyAI: what is refused before a call, and what the neutral vocabulary becomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.assemblyai.protocol import PROVIDER
from telbridge.sessions.assemblyai.settings import AssemblyAISettings
from telbridge.sessions.provider import Ability, Lock, Way, problems


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"colour": "red"}, "Extra inputs"),
        ({"system_prompt": 7}, "valid string"),
        ({"greeting": ""}, "at least 1"),
        ({"url": "https://agents.assemblyai.com/v1/ws"}, "pattern"),
        ({"api_key": "aai-secret"}, "must not stand here"),
        ({"auth": "query"}, "'header' or 'token'"),
        ({"token": {"expires_in_seconds": 601}}, "600"),
        ({"token": {"max_session_duration_seconds": 59}}, "60"),
        ({"input": {"keyterms": ["x"] * 101}}, "at most 100"),
        ({"input": {"transcription_prompt": "x" * 1751}}, "at most 1750"),
        ({"input": {"transcription_mode": "fast"}}, "min_latency"),
        ({"input": {"voice_focus": "near_field"}}, "near-field"),
        ({"input": {"voice_focus_threshold": 1.1}}, "less than or equal to 1"),
        ({"input": {"format": {"encoding": "audio/opus"}}}, "audio/pcma"),
        ({"input": {"format": {"encoding": "audio/pcmu", "sample_rate": 24_000}}}, "write 8000"),
        ({"output": {"format": {"encoding": "audio/pcm", "sample_rate": 8000}}}, "write 24000"),
        ({"output": {"volume": 101}}, "100"),
        ({"input": {"turn_detection": {"vad_threshold": -0.1}}}, "greater than or equal to 0"),
        ({"input": {"turn_detection": {"min_silence": 49}}}, "50"),
        ({"input": {"turn_detection": {"min_silence": 900, "max_silence": 800}}}, "longer than max_silence"),
        ({"input": {"turn_detection": {"interruption_delay": 1001}}}, "1000"),
        ({"input": {"turn_detection": {"type": "semantic"}}}, "server_vad"),
        ({"llm": [{"model": "m"}]}, "stored agents only"),
        ({"pre_connect_requests": []}, "stored agents only"),
        ({"tools": [{"name": "a", "http": {"url": "https://example.org"}}]}, "stored agents only"),
        ({"tools": [{"name": "a", "dtmf_collected_arguments": ["pin"]}]}, "stored agents only"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"tools": [{"name": "a", "timeout_seconds": 301}]}, "300"),
        ({"tools": [{"name": "a", "parameters": {"properties": []}}]}, "write one"),
        ({"tools": [{"name": "a", "execution_mode": "wait"}]}, "'interactive' or 'hold'"),
    ],
)
def test_what_the_api_would_refuse_is_refused_before_the_call(wrong, told):
    with pytest.raises(ValidationError, match=told):
        AssemblyAISettings.model_validate(wrong)


def parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from parts(field.annotation)


def test_every_setting_has_a_description():
    silent = [
        f"{part.__name__}.{name}"
        for part in parts(AssemblyAISettings)
        for name, field in part.model_fields.items()
        if not field.description
    ]
    assert silent == []


def locked(model: type[BaseModel], prefix: str = "") -> dict[str, Lock]:
    found: dict[str, Lock] = {}
    for name, field in model.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Lock):
                found[prefix + name] = mark
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= locked(field.annotation, f"{prefix}{name}.")
    return found


def test_what_the_vendor_locks_is_locked():
    of_the_session = {"agent_id", "greeting", "input.format", "output.type", "output.voice", "output.format"}
    locks = locked(AssemblyAISettings)
    assert of_the_session <= locks.keys()
    for name in ("system_prompt", "tools", "input.keyterms", "input.turn_detection", "output.volume"):
        assert name not in locks
    assert locks["url"] is locks["api_key"] is Lock.CONNECT


def test_a_stored_agent_keeps_what_is_its_own():
    settings = AssemblyAISettings.model_validate(
        {"agent_id": "agent_1", "greeting": "Hi.", "output": {"voice": "anna", "volume": 50}}
    )
    assert [key for key, _ in PROVIDER.refusals(settings)] == ["greeting", "output.voice"]
    assert PROVIDER.refusals(AssemblyAISettings(greeting="Hi.")) == []


def test_what_gains_a_telephone_nothing_is_warned_of():
    settings = AssemblyAISettings.model_validate(
        {
            "input": {"format": {"sample_rate": 24_000}, "turn_detection": {"type": "server_vad"}},
            "output": {"format": {"encoding": "audio/pcm"}},
        }
    )
    warned = ["input.format", "output.format", "input.turn_detection.type"]
    assert [key for key, _ in PROVIDER.warnings(settings)] == warned
    assert PROVIDER.warnings(AssemblyAISettings()) == []


# ---------------------------------------------------------------- the neutral vocabulary


def test_every_ability_is_told_of():
    assert set(PROVIDER.abilities) == set(Ability)
    assert [ability for ability, support in PROVIDER.abilities.items() if not support.how] == []


@pytest.mark.parametrize(
    ("neutral", "vendor"),
    [
        ({"instructions": "Be brief."}, {"system_prompt": "Be brief."}),
        ({"voice": "anna"}, {"output": {"voice": "anna"}}),
        ({"language": "de-DE"}, {"input": {"language_codes": ("de",)}}),
        ({"key_terms": ["Ada"]}, {"input": {"keyterms": ("Ada",)}}),
        ({"barge_in": False}, {"input": {"turn_detection": {"interrupt_response": False}}}),
        ({"noise_reduction": "far_field"}, {"input": {"voice_focus": "far-field"}}),
        ({"noise_reduction": "off"}, {}),
        ({"turn_detection": {"threshold": 0.3}}, {"input": {"turn_detection": {"vad_threshold": 0.3}}}),
        ({"turn_detection": {"silence_ms": 10}}, {"input": {"turn_detection": {"min_silence": 50}}}),
        (
            {"turn_detection": {"mode": "vad", "silence_ms": 600}},
            {"input": {"turn_detection": {"min_silence": 600, "max_silence": 600}}},
        ),
        ({"turn_detection": {"mode": "semantic"}}, {}),
        ({"turn_detection": {"eagerness": "high"}}, {"input": {"transcription_mode": "min_latency"}}),
        ({"user_profile": {"name": "Ada"}}, {"caller_facts": {"name": "Ada"}}),
        (
            {"tools": [{"name": "hang_up", "description": "Ends the call."}]},
            {
                "tools": (
                    {
                        "type": "function",
                        "name": "hang_up",
                        "description": "Ends the call.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                )
            },
        ),
        ({"temperature": 0.5, "modalities": ["audio"], "user_id": "u1"}, {}),
    ],
)
def test_each_neutral_setting_in_the_vendors_words(neutral: dict[str, Any], vendor: dict[str, Any]):
    settings = PROVIDER.with_neutral(AssemblyAISettings(), NeutralSettings.model_validate(neutral))
    assert settings.model_dump(exclude_unset=True) == vendor


def test_a_field_set_by_its_vendors_name_wins():
    named = AssemblyAISettings.model_validate(
        {"system_prompt": "Mine.", "input": {"turn_detection": {"vad_threshold": 0.9}}}
    )
    neutral = NeutralSettings.model_validate(
        {"instructions": "Theirs.", "turn_detection": {"threshold": 0.1, "silence_ms": 300}}
    )
    merged = PROVIDER.with_neutral(named, neutral)
    assert merged.system_prompt == "Mine."
    assert merged.input.turn_detection.vad_threshold == 0.9
    assert merged.input.turn_detection.min_silence == 300


def test_what_cannot_be_done_at_all_is_told_at_check_time():
    neutral = NeutralSettings(temperature=0.5, instructions="Be brief.", memory_id="m1")
    assert [key for key, _ in problems(PROVIDER, neutral)] == ["temperature", "memory_id"]
    impossible = [one for one, support in PROVIDER.abilities.items() if support.way is Way.IMPOSSIBLE]
    assert Ability.REPORT_HEARD in impossible
