"""Deepgram's settings: what is sent, what is refused, and what the neutral vocabulary becomes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from telbridge.audio.formats import (
    PCM_8K,
    PCM_16K,
    PCM_24K,
    PCM_48K,
    PCMA_8K,
    PCMU_8K,
    AudioFormat,
    Encoding,
)
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.deepgram.protocol import PROVIDER
from telbridge.sessions.deepgram.settings import DeepgramSettings, session_formats
from telbridge.sessions.provider import Ability, Way, problems
from tests.sessions.deepgram.bed import ENVIRON, DeepgramSession, opened

ELEVEN = {
    "provider": {"type": "eleven_labs", "model_id": "eleven_turbo_v2_5"},
    "endpoint": {
        "url": "wss://api.elevenlabs.io/v1/text-to-speech/VOICE/multi-stream-input",
        "headers": {"xi-api-key": {"env": "ELEVEN"}},
    },
}
AURA = {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}}
GPT = {"provider": {"type": "open_ai", "model": "gpt-4.1-mini"}}
STORED = "12345678-1234-1234-1234-123456789abc"


def made(**settings: Any) -> DeepgramSettings:
    return DeepgramSettings.model_validate(settings)


def agent(**fields: Any) -> DeepgramSettings:
    return made(agent=fields)


def sent(settings: DeepgramSettings) -> dict[str, Any]:
    session = DeepgramSession(protocol=opened(settings))
    return session.settings_sent


def neutral(settings: DeepgramSettings, /, **fields: Any) -> DeepgramSettings:
    return PROVIDER.with_neutral(settings, NeutralSettings.model_validate(fields))


# ---------------------------------------------------------------- what is sent


def test_with_nothing_set_a_proved_telephone_session_is_sent():
    assert sent(made()) == {
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {
            "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
            "think": {"provider": {"type": "open_ai", "model": "gpt-4.1-mini"}},
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
        },
    }


def test_the_vendors_own_example_is_sent_as_it_stands():
    example = {
        "audio": {
            "input": {"encoding": "linear16", "sample_rate": 24000},
            "output": {"encoding": "linear16", "sample_rate": 24000, "container": "none"},
        },
        "agent": {
            "language": "en",
            "listen": {"provider": {"type": "deepgram", "version": "v1", "model": "nova-3"}},
            "think": {"provider": {"type": "open_ai", "model": "gpt-4o-mini", "temperature": 0.7}},
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
        },
    }
    assert sent(made(**example)) == {"type": "Settings", **example}


def test_a_flux_model_gets_its_version_wherever_it_was_left_out():
    said = sent(
        agent(
            listen={"provider": {"model": "flux-general-multi"}},
            speak={"provider": {"type": "deepgram", "model": "flux-kit-en"}},
        )
    )["agent"]
    assert said["listen"]["provider"]["version"] == "v2"
    assert said["speak"]["provider"]["version"] == "v2"


def test_raw_goes_over_everything_that_is_sent():
    settings = made(raw={"new": 1, "agent": {"think": {"provider": {"top_p": 0.5}}}})
    said = sent(settings)
    assert said["new"] == 1
    assert said["agent"]["think"]["provider"] == {"type": "open_ai", "model": "gpt-4.1-mini", "top_p": 0.5}


def test_a_stored_agent_is_sent_by_its_id_alone():
    assert sent(made(agent=STORED))["agent"] == STORED


def test_secrets_are_revealed_on_the_wire_only():
    settings = agent(speak=[AURA, ELEVEN])
    assert "el-secret" not in repr(settings)
    assert "el-secret" not in repr(settings.model_dump())
    assert sent(settings)["agent"]["speak"][1]["endpoint"]["headers"] == {"xi-api-key": "el-secret"}


def test_a_secret_that_is_not_there_is_told_before_any_connection():
    with pytest.raises(
        SecretMissing, match=r"agent\.speak\.endpoint\.headers\.xi-api-key: ELEVEN is not set"
    ):
        opened(agent(speak=ELEVEN), environ={"DEEPGRAM_API_KEY": "k"})


def test_null_inside_a_json_schema_is_kept():
    parameters = {"type": "object", "properties": {"a": {"default": None}}}
    functions = [{"name": "f", "description": "d", "parameters": parameters}]
    said = sent(agent(think={**GPT, "functions": functions}))
    assert said["agent"]["think"]["functions"][0]["parameters"] == parameters


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("wire", "natural"),
    [
        (PCMU_8K, PCMU_8K),
        (PCMA_8K, PCMA_8K),
        (PCM_8K, PCM_8K),
        (PCM_16K, PCM_16K),
        (PCM_48K, PCM_24K),
    ],
    ids=str,
)
def test_the_wires_own_format_is_asked_for_both_ways(wire, natural):
    assert session_formats(made(), wire) == (natural, natural)


@pytest.mark.parametrize(
    ("output", "downlink"),
    [
        ({}, PCMA_8K),
        ({"container": "none"}, PCMA_8K),
        ({"encoding": "mulaw"}, PCMU_8K),
        ({"encoding": "linear16"}, PCM_24K),
        ({"sample_rate": 16000}, PCM_16K),
        ({"encoding": "alaw", "sample_rate": 16000}, AudioFormat(Encoding.PCMA, 16000)),
    ],
)
def test_each_way_may_have_a_format_of_its_own(output, downlink):
    assert session_formats(made(audio={"output": output}), PCMA_8K) == (PCMA_8K, downlink)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "ws://agent.example/v1"}, "write wss://"),
        ({"url": "https://agent.deepgram.com"}, "no WebSocket address"),
        ({"url": "wss://api.deepgram.com/v1/agent/converse"}, "lives on another host"),
        ({"url": "wss://agent.deepgram.com/agent"}, "early-access protocol"),
        ({"api_key": "dg-plain"}, "a secret must not stand here"),
        ({"access_token": {"env": "A"}, "grant": {}}, "exclude each other"),
        ({"grant": {"ttl_seconds": 3601}}, "less than or equal to 3600"),
        ({"raw": {"audio": {}}}, "raw must not hold audio"),
        ({"raw": {"agent": {"think": "x"}}}, "must be tables"),
        ({"agent": STORED, "raw": {"agent": {}}}, "remove raw.agent"),
        ({"agent": "no uuid"}, "match pattern"),
        ({"audio": {"input": {"encoding": "mulaw"}}}, "Field required"),
        ({"audio": {"input": {"encoding": "ulaw", "sample_rate": 8000}}}, "'mulaw'"),
        ({"audio": {"input": {"encoding": "opus", "sample_rate": 48000}}}, "write linear16, mulaw or alaw"),
        ({"audio": {"input": {"encoding": "mulaw", "sample_rate": 24000}}}, "write one of 8000, 16000"),
        ({"audio": {"output": {"encoding": "mp3"}}}, "telbridge has no codec for mp3"),
        ({"audio": {"output": {"container": "ogg"}}}, 'write "none"'),
        ({"audio": {"output": {"sample_rate": 44100}}, "agent": {"speak": AURA}}, "44100 Hz is for Flux"),
        (
            {
                "audio": {"output": {"container": "wav"}},
                "agent": {"speak": {"provider": {"type": "deepgram", "model": "flux-kit-en"}}},
            },
            "no container",
        ),
        (
            {
                "mip_opt_out": True,
                "agent": {"think": {"provider": {"type": "deepgram", "model": "think-fast"}}},
            },
            "mip_opt_out",
        ),
    ],
)
def test_a_session_that_cannot_work_is_refused_with_what_to_write_instead(settings, complaint):
    with pytest.raises(ValidationError, match=complaint):
        made(**settings)


@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        ({"version": "v1", "model": "flux-general-en"}, 'write version = "v2"'),
        ({"version": "v2", "model": "nova-3"}, "flux"),
        ({"version": "v3", "model": "nova-3"}, "'v1', 'v2'"),
        ({"model": "nova-3", "eot_threshold": 0.7}, "eot_threshold"),
        ({"model": "flux-general-en", "language": "en"}, "language"),
        ({"model": "flux-general-en", "language_hints": ["de"]}, "takes no language_hints"),
        ({"model": "flux-general-en", "eot_threshold": 0.4}, "greater than or equal to 0.5"),
        ({"model": "flux-general-en", "eot_threshold": 1.1}, "less than or equal to 1"),
        ({"model": "flux-general-en", "eager_eot_threshold": 0.8}, "must not exceed eot_threshold"),
        ({"model": "flux-general-en", "eot_timeout_ms": 100}, "greater than or equal to 500"),
    ],
)
def test_what_the_recogniser_does_not_take_is_refused(provider, complaint):
    with pytest.raises(ValidationError, match=complaint):
        agent(listen={"provider": provider})


@pytest.mark.parametrize(
    ("think", "complaint"),
    [
        ({"provider": {"type": "groq"}}, "set endpoint.url"),
        ({"provider": {"type": "aws_bedrock", "model": "m"}}, "set endpoint.url"),
        ({"provider": {"type": "anthropic", "model": "m", "temperature": 1.5}}, "less than or equal to 1"),
        ({"provider": {"type": "cohere", "model": "m"}}, "'open_ai', 'anthropic'"),
        ({**GPT, "context_length": 10}, "with an endpoint only"),
        ({**GPT, "endpoint": {"url": "wss://a.example/b"}}, "write an https:// url"),
        (
            {**GPT, "endpoint": {"url": "https://a.example", "headers": {"Authorization": "x"}}},
            "holds a secret",
        ),
        ({**GPT, "functions": [{"name": "f"}]}, "Field required"),
        (
            {
                **GPT,
                "functions": [
                    {"name": "f", "description": "", "parameters": {}, "initial_agent_filler": True}
                ],
            },
            "need agent.think_live",
        ),
        (
            {
                "provider": {
                    "type": "aws_bedrock",
                    "model": "m",
                    "credentials": {
                        "type": "sts",
                        "region": "r",
                        "access_key_id": {"env": "A"},
                        "secret_access_key": {"env": "B"},
                    },
                },
                "endpoint": {"url": "https://a.example"},
            },
            "need session_token",
        ),
        ([], "at least 1 item"),
    ],
)
def test_what_the_model_does_not_take_is_refused(think, complaint):
    with pytest.raises(ValidationError, match=complaint):
        agent(think=think)


@pytest.mark.parametrize(
    ("speak", "complaint"),
    [
        ({"provider": {"type": "deepgram", "model": "aura-2-thalia-en", "language": "en"}}, "language"),
        ({"provider": {"type": "deepgram", "model": "aura-2-thalia-en", "speed": 0.6}}, "no slower than 0.7"),
        (
            {"provider": {"type": "deepgram", "model": "aura-2-thalia-en", "expressivity": 1}},
            "no expressivity",
        ),
        ({"provider": {"type": "deepgram", "model": "flux-kit-en", "speed": 0.97}}, "steps of 0.05"),
        ({"provider": {"type": "deepgram", "model": "flux-kit-en", "version": "v1"}}, 'write "v2"'),
        ({"provider": {"type": "eleven_labs", "model_id": "m"}}, "set endpoint.url"),
        ({**ELEVEN, "endpoint": {"url": "wss://a.example/b?model_id=1"}}, "remove it there"),
        (
            {
                "provider": {"type": "open_ai", "model": "tts-1", "voice": "nova"},
                "endpoint": {"url": "wss://a.example"},
            },
            "only eleven_labs",
        ),
    ],
)
def test_what_the_voice_does_not_take_is_refused(speak, complaint):
    with pytest.raises(ValidationError, match=complaint):
        agent(speak=speak)


@pytest.mark.parametrize("speed", [0.5, 0.7, 0.95, 1.0, 1.15, 1.5])
def test_a_flux_voice_takes_speed_in_steps(speed):
    agent(speak={"provider": {"type": "deepgram", "model": "flux-kit-en", "speed": speed}})


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"audio": {"output": {"container": "wav"}}}, "audio.output.container"),
        ({"audio": {"output": {"bitrate": 48000}}}, "audio.output.bitrate"),
        ({"agent": {"language": "en"}}, "agent.language"),
        ({"agent": {"think_live": {"provider": {}}}}, "agent.think_live"),
        ({"agent": {"think": {**GPT, "prompt": "x" * 25_001}}}, "agent.think.prompt"),
        ({"agent": {"think": {"provider": {"type": "nvidia", "model": "m"}}}}, "agent.think.provider.type"),
        ({"agent": {"listen": {"provider": {"model": "nova-3", "language": "de"}}}}, "agent.speak"),
        (
            {"agent": {"listen": {"provider": {"model": "flux-general-multi", "language_hints": ["es-MX"]}}}},
            "agent.speak",
        ),
    ],
)
def test_what_is_odd_on_a_telephone_is_passed_on_with_a_warning(settings, key):
    assert [warned for warned, _ in PROVIDER.warnings(made(**settings))] == [key]


def test_a_plain_session_and_a_stored_agent_warn_of_nothing():
    assert PROVIDER.warnings(made()) == []
    assert PROVIDER.warnings(made(agent=STORED)) == []


# ---------------------------------------------------------------- the neutral vocabulary


def test_every_ability_is_told():
    assert set(PROVIDER.abilities) == set(Ability)
    assert all(support.how for support in PROVIDER.abilities.values())


def test_what_deepgram_cannot_do_is_told_at_check_time():
    asked = NeutralSettings.model_validate(
        {"noise_reduction": "near_field", "max_output_tokens": 5, "turn_detection": {"prefix_ms": 1}}
    )
    assert [key for key, _ in problems(PROVIDER, asked)] == [
        "turn_detection.prefix_ms",
        "noise_reduction",
        "max_output_tokens",
    ]


def test_neutral_settings_become_deepgrams():
    tool = {"name": "transfer", "description": "to a person", "parameters": {"type": "object"}}
    settings = neutral(
        made(),
        instructions="Be brief.",
        voice="aura-2-apollo-en",
        language="en-GB",
        key_terms=["telbridge"],
        turn_detection={"silence_ms": 900, "eagerness": "low"},
        temperature=0.3,
        reasoning_effort="xhigh",
        tools=[tool],
        tags={"team": "sales"},
        barge_in=False,
    )
    said = sent(settings)
    assert said["tags"] == ["team=sales"]
    assert settings.barge_in is False
    assert said["agent"] == {
        "listen": {
            "provider": {
                "type": "deepgram",
                "version": "v2",
                "model": "flux-general-en",
                "keyterms": ["telbridge"],
                "eot_threshold": 0.85,
                "eot_timeout_ms": 900,
            }
        },
        "think": {
            "provider": {
                "type": "open_ai",
                "model": "gpt-4.1-mini",
                "temperature": 0.3,
                "reasoning_mode": "high",
            },
            "prompt": "Be brief.",
            "functions": [{**tool, "defer_until_eot": True}],
        },
        "speak": {"provider": {"type": "deepgram", "model": "aura-2-apollo-en"}},
    }


@pytest.mark.parametrize(
    ("asked", "provider"),
    [
        ({"language": "en-US"}, {"version": "v2", "model": "flux-general-en"}),
        (
            {"language": "de-DE"},
            {"version": "v2", "model": "flux-general-multi", "language_hints": ["de-DE"]},
        ),
        ({"language": "pl"}, {"version": "v1", "model": "nova-3", "language": "pl"}),
        (
            {"language": "de", "turn_detection": {"mode": "vad"}},
            {"version": "v1", "model": "nova-3", "language": "de"},
        ),
        (
            {"turn_detection": {"mode": "off"}},
            {"version": "v2", "model": "flux-general-en", "eot_threshold": 1.0, "eot_timeout_ms": 60_000},
        ),
        (
            {"turn_detection": {"silence_ms": 100}},
            {"version": "v2", "model": "flux-general-en", "eot_timeout_ms": 500},
        ),
    ],
)
def test_the_recogniser_follows_language_and_turn_detection(asked, provider):
    said = sent(neutral(made(), **asked))
    assert said["agent"]["listen"]["provider"] == {"type": "deepgram", **provider}


def test_what_was_set_by_the_vendors_name_wins():
    settings = agent(
        listen={"provider": {"model": "flux-general-en", "eot_threshold": 0.9}},
        think={"provider": {"type": "anthropic", "model": "claude-haiku-4-5"}, "prompt": "Mine."},
        speak=AURA,
    )
    result = neutral(
        settings,
        instructions="Theirs.",
        voice="flux-kit-en",
        language="de",
        turn_detection={"eagerness": "high"},
        temperature=1.7,
        reasoning_effort="low",
    )
    said = sent(result)["agent"]
    assert said["listen"]["provider"] == {
        "type": "deepgram",
        "version": "v2",
        "model": "flux-general-en",
        "eot_threshold": 0.9,
    }
    assert said["think"] == {
        "provider": {"type": "anthropic", "model": "claude-haiku-4-5", "temperature": 1.0},
        "prompt": "Mine.",
    }
    assert said["speak"] == AURA


def test_each_fallback_gets_the_instructions():
    result = neutral(agent(think=[{**GPT, "prompt": "Mine."}, GPT]), instructions="Theirs.")
    assert [one["prompt"] for one in sent(result)["agent"]["think"]] == ["Mine.", "Theirs."]


def test_the_callers_profile_stands_after_the_prompt():
    result = neutral(agent(think={**GPT, "prompt": "Be kind."}), user_profile={"name": "Ann"})
    assert sent(result)["agent"]["think"]["prompt"] == 'Be kind.\n\nAbout the caller: {"name": "Ann"}'


def test_a_stored_agent_is_told_the_instructions_behind_its_own():
    settings = neutral(made(agent=STORED), instructions="Be brief.", user_profile={"n": 1}, voice="x")
    session = DeepgramSession(protocol=opened(settings), ready=False)
    session.becomes_ready()
    assert session.settings_sent["agent"] == STORED
    assert session.sent() == [
        {"type": "UpdatePrompt", "prompt": "Be brief."},
        {"type": "UpdatePrompt", "prompt": 'About the caller: {"n": 1}'},
    ]


def test_nothing_neutral_changes_nothing():
    settings = agent(think=GPT, speak=[AURA, ELEVEN])
    assert neutral(settings) == settings


def test_every_setting_says_what_it_is():
    def check(model: Any, seen: set[Any]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            for inner in _models(field.annotation):
                if inner not in seen:
                    seen.add(inner)
                    check(inner, seen)

    seen: set[Any] = set()
    check(DeepgramSettings, seen)
    assert len(seen) > 25


def _models(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def test_support_that_is_no_setting_has_no_lock():
    locked = {key for key, support in PROVIDER.abilities.items() if support.lock is not None}
    assert locked == {Ability.TURN_MODE, Ability.TAGS}
    assert all(PROVIDER.abilities[key].way is Way.NATIVE for key in locked)
    assert ENVIRON["DEEPGRAM_API_KEY"] not in repr(opened(made()))
