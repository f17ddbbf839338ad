"""The Companion's settings: what they refuse, what they warn of, and the neutral words for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.companion.neutral import client_id
from telbridge.sessions.companion.protocol import PROVIDER
from telbridge.sessions.companion.settings import CompanionSettings
from telbridge.sessions.provider import Ability, Lock, Way, problems


def neutral(**fields: Any) -> NeutralSettings:
    return NeutralSettings.model_validate(fields)


def translated(settings: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    made = PROVIDER.with_neutral(CompanionSettings.model_validate(settings or {}), neutral(**fields))
    return made.model_dump(exclude_unset=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags": {"k" * 65: "v"}},
        {"tags": {"k": "v" * 513}},
        {"tags": {"k": 1}},
        {"externalClientId": "u" * 33},
        {"externalClientId": ""},
        {"externalClientId": "+49 30 1234"},
        {"companionId": ""},
        {"functions": [""]},
        {"functions": "fn_1"},
        {"modality": "video"},
        {"mode": "robot"},
        {"audio_key": "pcm"},
        {"wait_ready_s": 5},
        {"wait_ready_s": -1},
        {"disableIdleTimeout": "sometimes"},
        {"url": "http://companion-api.napster.com"},
        {"url": "https://"},
        {"url": "https://e:port"},
        {"url": "https://e/?x=1"},
        {"api_key": "key-in-the-file"},
        {"channelType": "webrtc"},
        {"companionID": "c"},
        {"providerConfig": {"voice": "alloy"}},
        {"providerConfig": {"settings": {"temperature": -0.1}}},
        {"providerConfig": {"settings": {"turnDetection": {"threshold": 1.1}}}},
        {"providerConfig": {"settings": {"turnDetection": {"silence_duration_ms": -1}}}},
        {"providerConfig": {"settings": {"turnDetection": {"prefix_padding_ms": 0.5}}}},
        {"providerConfig": {"settings": {"noiseReduction": {"type": "near_field"}}}},
    ],
    ids=str,
)
def test_wrong_names_types_and_ranges_are_refused(wrong):
    with pytest.raises(ValidationError):
        CompanionSettings.model_validate(wrong)


def test_limits_are_taken_to_the_last_character():
    CompanionSettings(tags={"k" * 64: "v" * 512}, externalClientId="u" * 32)


def fields_of(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, field in model.model_fields.items():
        found.append((prefix + name, field))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += fields_of(field.annotation, f"{prefix}{name}.")
    return found


def test_every_field_is_described_in_one_line():
    for name, field in fields_of(CompanionSettings):
        assert field.description, name
        assert "\n" not in field.description


def test_what_may_change_in_a_running_session():
    changeable = {
        name
        for name, field in fields_of(CompanionSettings)
        if Lock.CONNECT not in field.metadata and not name.startswith("api_key.")
    }
    assert changeable == {
        "raw",
        "barge_in",
        "providerConfig",
        "providerConfig.settings",
        "providerConfig.settings.instructions",
        "providerConfig.settings.temperature",
        "providerConfig.settings.turnDetection",
        "providerConfig.settings.turnDetection.threshold",
        "providerConfig.settings.turnDetection.prefix_padding_ms",
        "providerConfig.settings.turnDetection.silence_duration_ms",
    }


# -- refusals and warnings


def keys(found: Any) -> list[str]:
    return [key for key, _ in found]


def test_a_session_needs_a_companion_or_an_agent():
    assert keys(PROVIDER.refusals(CompanionSettings())) == ["companionId"]
    assert PROVIDER.refusals(CompanionSettings(companionId="c")) == []
    assert PROVIDER.refusals(CompanionSettings(agent_id="a")) == []


def test_what_an_agent_has_of_its_own_is_refused_beside_it():
    settings = CompanionSettings.model_validate(
        {
            "agent_id": "a",
            "companionId": "c",
            "functions": [],
            "faqCollections": [],
            "knowledgeBaseId": "k",
            "language": "es",
            "disableIdleTimeout": False,
            "useWebSearch": False,
            "mode": "conversation",
            "providerConfig": {
                "voiceId": "alloy",
                "useGreenVideo": True,
                "settings": {"noiseReduction": {"type": "nearField"}, "temperature": 0.3},
            },
        }
    )
    found = PROVIDER.refusals(settings)
    assert len(found) == 11
    assert "providerConfig.settings.temperature" not in keys(found)
    assert all(": " in text for _, text in found)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"providerConfig": {"voiceId": "alloy", "useGreenVideo": True}}, "providerConfig.useGreenVideo"),
        ({"agent_id": "a", "modality": "text"}, "modality"),
        ({"agent_id": "a", "mode": "puppeteer"}, "mode"),
        ({"agent_id": "a", "faqCollections": ["a", "b"]}, "faqCollections"),
        ({"companionId": "c"}, "providerConfig.voiceId"),
    ],
)
def test_what_makes_no_sense_on_a_telephone_is_warned_of(fields, key):
    assert keys(PROVIDER.warnings(CompanionSettings.model_validate(fields))) == [key]


def test_a_sensible_configuration_warns_of_nothing():
    settings = CompanionSettings.model_validate(
        {"companionId": "c", "providerConfig": {"voiceId": "alloy"}, "faqCollections": ["one"]}
    )
    assert PROVIDER.warnings(settings) == []


# -- the neutral vocabulary


def test_every_ability_has_an_entry_with_a_reason():
    assert set(PROVIDER.abilities) == set(Ability)
    assert all(support.how for support in PROVIDER.abilities.values())


def test_neutral_settings_become_the_vendors():
    made = translated(
        instructions="Be brief.",
        voice="echo",
        language="es-MX",
        turn_detection={"mode": "vad", "threshold": 0.9, "prefix_ms": 400, "silence_ms": 800},
        noise_reduction="near_field",
        temperature=0.3,
        user_id="u1",
        user_profile={"plan": "premium"},
        tags={"env": "test"},
        modalities=["audio", "text"],
        barge_in=False,
    )
    assert made == {
        "language": "es",
        "externalClientId": "u1",
        "externalClientProfile": {"plan": "premium"},
        "tags": {"env": "test"},
        "modality": "audio",
        "barge_in": False,
        "providerConfig": {
            "voiceId": "echo",
            "settings": {
                "instructions": "Be brief.",
                "temperature": 0.3,
                "turnDetection": {
                    "threshold": 0.9,
                    "prefix_padding_ms": 400,
                    "silence_duration_ms": 800,
                },
                "noiseReduction": {"type": "nearField"},
            },
        },
    }


def test_a_vendor_field_set_by_name_wins():
    own = {"language": "Spanish", "providerConfig": {"settings": {"turnDetection": {"threshold": 0.5}}}}
    made = translated(own, language="en", turn_detection={"threshold": 0.9, "silence_ms": 700})
    assert made["language"] == "Spanish"
    turns = made["providerConfig"]["settings"]["turnDetection"]
    assert turns == {"threshold": 0.5, "silence_duration_ms": 700}


def test_what_was_not_asked_is_not_set():
    assert translated() == {}
    assert translated(noise_reduction="off", turn_detection={"mode": "off"}) == {}


def test_tools_go_by_their_ids_at_the_vendor():
    tools = [{"name": "book"}, {"name": "hang_up"}]
    assert translated({"tool_ids": {"book": "fn_1"}}, tools=tools)["functions"] == ("fn_1",)
    assert translated({"functions": ["fn_9"]}, tools=tools)["functions"] == ("fn_9",)


def test_a_memory_wins_over_a_user():
    assert translated(user_id="u1", memory_id="m1")["externalClientId"] == "m1"


def test_tags_beyond_the_limits_are_refused():
    with pytest.raises(ValidationError):
        translated(tags={"k": "v" * 513})


@given(st.text(min_size=1, max_size=512))
def test_every_identity_becomes_a_client_id_and_always_the_same(identity):
    made = client_id(identity)
    CompanionSettings(externalClientId=made)
    assert client_id(identity) == made
    assert client_id(made) == made


def test_what_the_api_cannot_do_is_told_before_any_call():
    asked = neutral(
        key_terms=["Ann"],
        max_output_tokens=10,
        reasoning_effort="low",
        idle_timeout_s=10,
        echo_cancellation=True,
        turn_detection={"eagerness": "low", "threshold": 0.5},
        voice="echo",
    )
    assert {key for key, _ in problems(PROVIDER, asked)} == {
        "key_terms",
        "max_output_tokens",
        "reasoning_effort",
        "idle_timeout_s",
        "echo_cancellation",
        "turn_detection.eagerness",
    }


def test_locks_of_abilities_and_of_fields_agree():
    """What `update` lets through neutrally must not stumble over a field's own lock, and the reverse."""
    samples: dict[str, Any] = {
        "instructions": "x",
        "voice": "echo",
        "language": "de",
        "barge_in": False,
        "noise_reduction": "near_field",
        "temperature": 0.1,
        "user_id": "u",
        "user_profile": {},
        "memory_id": "m",
        "tags": {},
        "modalities": ["audio"],
        "tools": [],
    }
    locked = {
        name.split(".")[0]: Lock.CONNECT in field.metadata for name, field in fields_of(CompanionSettings)
    }
    for name, value in samples.items():
        support = PROVIDER.abilities[Ability(name)]
        assert support.way is not Way.IMPOSSIBLE
        (key,) = translated(**{name: value})
        vendor_locked = locked[key] if key != "providerConfig" else name in ("voice", "noise_reduction")
        assert vendor_locked == (support.lock is Lock.CONNECT), name
