"""Which settings Deepgram's facade takes, and in which words it refuses the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.agent.deepgram_client import (
    AURA,
    CLAUDE,
    FLUX,
    FRAME,
    GPT,
    NOVA,
    OWN,
    TRANSFER,
    changed,
    configured,
    connected,
    phone,
    speaking,
)
from tests.agent.deepgram_judge import Json, sdk

# -- what is refused before and at the start ----------------------------------------------------------


@pytest.mark.parametrize("first", [FRAME, {"type": "KeepAlive"}, {"type": "UpdatePrompt", "prompt": "x"}])
def test_nothing_may_come_before_the_settings(first: Any) -> None:
    client = connected()
    assert client.says(first) == []
    assert client.error()["code"] == "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"


def test_settings_come_once() -> None:
    client = configured()
    assert client.says(phone()) == []
    assert client.error()["code"] == "SETTINGS_ALREADY_APPLIED"


def test_behind_an_error_nothing_is_said_or_heard() -> None:
    client = configured()
    reply = speaking(client)
    client.says("{")
    client.error()
    client.facade.audio(reply, FRAME)
    client.facade.speech_started(0)
    assert client.says(FRAME) == [] and client.gets() == []
    assert not client.facade.is_open(reply) and client.facade.begin_reply() is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '"Settings"', "null", '{"type": 1}', '{"type": "SettingsConfiguration"}', "[" * 100_000],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    client = configured()
    assert client.says(text) == []
    error = client.error()
    assert error["code"] == "UNPARSABLE_CLIENT_MESSAGE"
    assert error["description"].startswith("Text message received from client did not match")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("audio", ..., "audio"),
        ("agent", ..., "agent"),
        ("audio.input.sample_rate", ..., "audio.input.sample_rate"),
        ("audio.input.sample_rate", "8000", "audio.input.sample_rate"),
        ("audio.input.sample_rate", 8000.5, "audio.input.sample_rate"),
        ("audio.input.encoding", "ulaw", "audio.input.encoding"),
        ("audio.input.channels", 1, "audio.input.channels"),
        ("audio.output.container", "raw", "audio.output.container"),
        ("settings", {"flags": {"history": True}}, "settings"),
        ("experimental", "yes", "experimental"),
        ("tags", "a", "tags"),
        ("agent.instructions", "x", "agent.instructions"),
        ("agent.think_live", {"provider": {"type": "deepgram"}}, "agent.think_live"),
        ("agent.listen.endpointing", 300, "agent.listen.endpointing"),
        ("agent.listen.provider.eot_treshold", 0.7, "agent.listen.provider.eot_treshold"),
        ("agent.listen.provider.smart_format", True, "agent.listen.provider.smart_format"),
        ("agent.listen.provider.model", ..., "agent.listen.provider.model"),
        ("agent.think.timeout", 5, "agent.think"),
        ("agent.think.provider.type", "mistral", "agent.think"),
        ("agent.think.provider.model", ..., "agent.think"),
        ("agent.think.functions", [{**TRANSFER, "client_side": True}], "agent.think"),
        ("agent.speak.provider.language", "en", "agent.speak"),
        ("agent.speak", [{"provider": {"type": "deepgram"}}], "agent.speak"),
    ],
)
def test_what_does_not_parse_is_named_as_the_service_names_it(path: str, value: Any, named: str) -> None:
    client = connected()
    assert client.says(changed(path, value)) == []
    error = client.error()
    assert error["code"] == "UNPARSABLE_CLIENT_MESSAGE"
    assert error["description"] == (
        f"Error parsing client message. Check the {named} field against the API spec."
    )


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("audio.input.encoding", "opus", "encoding=opus"),
        ("audio.input.encoding", "linear32", "encoding=linear32"),
        ("audio.input.sample_rate", 7999, "sample_rate=7999"),
        ("audio.output.encoding", "mp3", "encoding=mp3"),
        ("audio.output.sample_rate", 24000, "sample_rate=24000"),
        ("audio.output.bitrate", 48000, "bitrate"),
        ("audio.output.container", "ogg", "container=ogg"),
        ("agent.listen.provider.eot_threshold", 1.1, "eot_threshold"),
        ("agent.listen.provider.eager_eot_threshold", 0.2, "eager_eot_threshold"),
        ("agent.listen.provider.eager_eot_threshold", 0.8, "eager_eot_threshold"),
        ("agent.listen.provider.eot_timeout_ms", 499, "eot_timeout_ms"),
        ("agent.listen.provider.language_hints", ["en"], "language_hints"),
        ("agent.think", [], "agent.think"),
        ("agent.think.provider.temperature", 2.1, "temperature"),
        ("agent.think.provider", CLAUDE, "temperature"),
        ("agent.think.provider", {"type": "groq", "model": "openai/gpt-oss-20b"}, "endpoint"),
        ("agent.think.provider", {"type": "google"}, "model"),
        ("agent.think.endpoint", {"url": "http://models.example"}, "endpoint"),
        ("agent.think.context_length", "max", "context_length"),
        ("agent.think.functions", [{**TRANSFER, "agent_filler_interval_ms": 2000}], "think_live"),
        ("agent.think.functions", [{**TRANSFER, "endpoint": {"url": "http://x.example"}}], "https"),
        ("agent.speak.provider.expressivity", 1, "expressivity"),
        ("agent.speak.provider.model", "flux-kit-en", "flux-kit-en"),
        ("agent.speak.provider", {"type": "eleven_labs", "model_id": "eleven_turbo_v2_5"}, "endpoint"),
        (
            "agent.speak",
            {
                "provider": {"type": "eleven_labs", "model_id": "m"},
                "endpoint": {"url": "wss://tts.example/v1?model_id=m"},
            },
            "model_id",
        ),
    ],
)
def test_what_parses_and_cannot_be_is_an_invalid_setting(path: str, value: Any, word: str) -> None:
    client = connected()
    assert client.says(changed(path, value)) == []
    error = client.error()
    assert error["code"] == "INVALID_SETTINGS" and word in error["description"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (changed("agent", "my-agent"), "INVALID_AGENT_ID"),
        (
            changed("agent.listen.provider", {"type": "deepgram", "model": "flux-general-en"}),
            "FAILED_TO_START_LISTENING",
        ),
        (changed("agent.speak.provider.speed", 9.0), "FAILED_TO_SPEAK"),
        (
            {
                **changed("agent.think.provider", {"type": "deepgram", "model": "think-fast"}),
                "mip_opt_out": True,
            },
            "INVALID_SETTINGS",
        ),
    ],
)
def test_some_faults_have_codes_of_their_own(message: Json, code: str) -> None:
    client = connected()
    client.says(message)
    assert client.error()["code"] == code


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("agent.listen.provider", NOVA | {"language": "multi", "smart_format": True, "keyterms": ["Ada"]}),
        ("agent.listen.provider", FLUX | {"model": "flux-general-multi", "language_hints": ["en", "de"]}),
        ("agent.listen.provider", FLUX | {"eot_threshold": 1, "eager_eot_threshold": 0.5}),
        ("agent.think", [{"provider": GPT}, {"provider": CLAUDE | {"temperature": 1}}]),
        ("agent.think", {"provider": GPT, "endpoint": OWN, "context_length": "max"}),
        ("agent.think.functions", [{**TRANSFER, "defer_until_eot": True}]),
        ("agent.speak.provider", AURA | {"speed": 0.7}),
        ("agent.speak.provider", {"type": "deepgram", "version": "v2", "model": "flux-kit-en", "speed": 0.5}),
        (
            "agent.speak",
            {"provider": {"type": "cartesia", "model_id": "s", "voice": {"mode": "id", "id": "v"}}},
        ),
        ("agent.language", "en"),
        ("tags", ["telephony"]),
        ("mip_opt_out", True),
    ],
)
def test_what_the_vendor_documents_is_taken(path: str, value: Any) -> None:
    message = changed(path, value)
    configured(message)
    sdk.AgentV1Settings.model_validate(message)


@pytest.mark.parametrize(
    "think",
    [
        {"provider": {"type": "nvidia", "model": "nemotron"}},
        {"provider": {"type": "google"}, "endpoint": OWN},
    ],
)
def test_what_only_the_vendors_pages_have_is_taken_too(think: Json) -> None:
    configured(changed("agent.think", think))
