"""Settings of Azure Voice Live: what is refused, what a telephone makes of them, where they lead."""

from __future__ import annotations

import sys
import types
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import BaseModel, ValidationError

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCM_48K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.call.events import Ending, SessionEnd
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.azure.entra import TOKEN_VARIABLE, fetch_secrets
from telbridge.sessions.azure.protocol import PROVIDER
from telbridge.sessions.azure.session import formats
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.base import ConnectRequest
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.provider import Ability, Lock, Way
from tests.sessions.azure.bed import ENVIRON, AzureSession, opening, settings
from tests.sessions.azure.test_judged_by_sdk import parts_of

AGENT = {"agent_name": "a", "agent_project_name": "p"}


def connection(environ: dict[str, str] = ENVIRON, **fields: Any) -> ConnectRequest:
    step = PROVIDER.open(AzureSettings.model_validate(fields), opening(environ=environ)).next_step()
    assert isinstance(step, ConnectRequest)
    return step


def query(**fields: Any) -> dict[str, str]:
    found = parse_qs(urlsplit(connection(**{"resource": "mine", **fields}).url).query)
    return {key: value for key, (value,) in found.items()}


def neutral(**fields: Any) -> NeutralSettings:
    return NeutralSettings.model_validate(fields)


def with_neutral(neutral_fields: dict[str, Any], **fields: Any) -> AzureSettings:
    return PROVIDER.with_neutral(settings(**fields), neutral(**neutral_fields))


# ---------------------------------------------------------------- the form


def test_every_field_says_what_it_is():
    for part in parts_of(AzureSettings):
        for name, field in part.model_fields.items():
            assert name == "type" or field.description, f"{part.__name__}.{name}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "wss://a.example"}, "url and resource are both set: write one of them"),
        ({"api_key": {"env": "K"}, "entra": True}, "api_key and entra are both set: write one of them"),
        ({"bearer_token": {"env": "T"}, "entra": True}, "bearer_token and entra are both set"),
        ({"modalities": ["audio"]}, 'never without text: write ["text", "audio"]'),
        ({"modalities": ["text", "text"]}, "the same twice"),
        ({"model": "gpt-live-1"}, "a different protocol: use a gpt-realtime model"),
        (
            {"agent": AGENT, "instructions": "x"},
            "instructions is the agent's own with an agent",
        ),
        ({"agent": AGENT, "model": "gpt-4o"}, "model is the agent's own with an agent: leave it out"),
        ({"agent": {"agent_project_name": "p"}}, "needs exactly one agent: write agent_name"),
        ({"agent": {**AGENT, "agent_access_token": {"env": "T"}}}, "is for classic agents: write agent_id"),
        ({"input_audio_format": "g711_ulaw", "input_audio_sampling_rate": 16000}, "8000 with g711"),
        ({"input_audio_sampling_rate": 44100}, "8000, 16000 or 24000"),
        ({"input_audio_echo_cancellation": {"channels": 2}}, "write reference_source = 'client'"),
        (
            {
                "input_audio_format": "g711_alaw",
                "input_audio_echo_cancellation": {"reference_source": "client"},
            },
            "impossible with g711",
        ),
        (
            {"input_audio_transcription": {"model": "whisper-1", "phrase_list": ["x"]}},
            "phrase_list is not for whisper-1: write prompt",
        ),
        ({"input_audio_transcription": {"prompt": "x"}}, "prompt is not for azure-speech: write phrase_list"),
        (
            {"input_audio_transcription": {"model": "mai-transcribe", "custom_speech": {"en": "m"}}},
            "custom_speech is not for mai-transcribe",
        ),
        ({"temperature": 1.3}, "less than or equal to 1.2"),
        ({"max_response_output_tokens": 5000}, "less than or equal to 4096"),
        ({"turn_detection": {"type": "server_vad", "languages": ["en"]}}, "Extra inputs"),
        ({"turn_detection": {"type": "azure_semantic_vad_en", "languages": ["en"]}}, "Extra inputs"),
        ({"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}, "Extra inputs"),
        ({"voice": {"type": "openai", "name": "nova"}}, "'alloy', 'ash'"),
        ({"api_version": "latest"}, "pattern"),
        ({"api_key": "secret"}, "a secret must not stand here"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "at most 16"),
        ({"metadata": {"x": "y" * 513}}, "at most 512"),
        ({"expires_at": 1}, "Extra inputs"),
    ],
)
def test_what_the_vendor_would_refuse_is_refused_before_any_call(fields, words):
    with pytest.raises(ValidationError) as caught:
        settings(**fields)
    assert words in str(caught.value)


def test_a_table_without_a_type_is_one_of_the_default_detector():
    assert getattr(settings(turn_detection={"threshold": 0.3}).turn_detection, "type", "") == (
        "azure_semantic_vad"
    )


# ---------------------------------------------------------------- the connection


def test_a_resource_and_a_key_lead_to_the_vendor():
    step = connection(resource="mine")
    url = urlsplit(step.url)
    assert (url.scheme, url.netloc, url.path) == (
        "wss",
        "mine.services.ai.azure.com",
        "/voice-live/realtime",
    )
    assert parse_qs(url.query) == {"api-version": ["2026-07-15"], "model": ["gpt-4.1"]}
    assert step.headers == {"api-key": "key-1", "x-ms-client-request-id": "call-1"}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://r.services.ai.azure.com/", "wss://r.services.ai.azure.com/voice-live/realtime"),
        (
            "wss://r.cognitiveservices.azure.com/voice-live/realtime",
            "wss://r.cognitiveservices.azure.com/voice-live/realtime",
        ),
        ("ws://127.0.0.1:8090/azure", "ws://127.0.0.1:8090/azure"),
        ("http://localhost:1", "ws://localhost:1/voice-live/realtime"),
    ],
)
def test_an_address_may_be_written_as_the_portal_shows_it(url, address):
    assert connection(url=url).url.partition("?")[0] == address


def test_what_the_address_asks_for_already_wins():
    url = connection(url="wss://a.example/x?api-version=2099-01-01&foo=1").url
    assert parse_qs(urlsplit(url).query)["api-version"] == ["2099-01-01"]
    assert parse_qs(urlsplit(url).query)["foo"] == ["1"]


@pytest.mark.parametrize(
    "profile",
    [
        "byom-azure-openai-realtime",
        "byom-azure-openai-chat-completion",
        "byom-foundry-anthropic-messages",
    ],
)
def test_bring_your_own_model(profile):
    found = query(profile=profile, model="my-deployment")
    assert (found["profile"], found["model"]) == (profile, "my-deployment")


def test_an_agent_takes_the_models_place():
    full = {
        **AGENT,
        "agent_version": "3",
        "conversation_id": "c1",
        "agent_authentication_identity_client_id": "i1",
        "foundry_resource_override": "other",
    }
    assert query(agent=full) == {
        "api-version": "2026-07-15",
        "agent-name": "a",
        "agent-project-name": "p",
        "agent-version": "3",
        "conversation-id": "c1",
        "agent-authentication-identity-client-id": "i1",
        "foundry-resource-override": "other",
    }


def test_a_classic_agent_brings_its_token():
    agent = {"agent_id": "a1", "agent_project_name": "p", "agent_access_token": {"env": "TOKEN"}}
    found = query(agent=agent)
    assert (found["agent-id"], found["agent-access-token"]) == ("a1", "token-1")


def test_version_and_feature_flags():
    found = query(api_version="2026-06-01-preview", features=["client_ec_reference:true", "x:1"])
    assert found["api-version"] == "2026-06-01-preview"
    assert found["features"] == "client_ec_reference:true,x:1"


def test_without_a_resource_there_is_nowhere_to_go():
    nowhere = AzureSettings()
    assert PROVIDER.refusals(nowhere) == [
        ("url", "no Azure resource is named: write resource = 'NAME', or url")
    ]
    end = PROVIDER.open(nowhere, opening()).next_step()
    assert isinstance(end, SessionEnd)
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)


# ---------------------------------------------------------------- credentials


def test_a_ready_token():
    step = connection(resource="mine", bearer_token={"env": "TOKEN"})
    assert step.headers["Authorization"] == "Bearer token-1"
    assert "api-key" not in step.headers


def test_a_token_of_entra_comes_with_the_opening():
    step = connection({TOKEN_VARIABLE: "fresh"}, resource="mine", entra=True)
    assert step.headers["Authorization"] == "Bearer fresh"
    with pytest.raises(SecretMissing, match=r"azure_voice_live\.entra"):
        connection({}, resource="mine", entra=True)


@pytest.mark.parametrize("fields", [{}, {"bearer_token": {"env": "NONE"}}])
def test_a_missing_secret_is_told_when_the_session_is_opened(fields):
    with pytest.raises(SecretMissing, match="azure_voice_live"):
        connection({}, resource="mine", **fields)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_takes_is_told(key):
    with pytest.raises(SecretMissing, match="character that no key has") as caught:
        connection({"AZURE_VOICELIVE_API_KEY": key}, resource="mine")
    assert key not in str(caught.value)


def test_an_agent_on_this_machine_needs_no_key_and_is_not_shown_the_vendors():
    assert "api-key" not in connection(ENVIRON, url="ws://127.0.0.1:1").headers
    assert "api-key" not in connection({}, url="ws://localhost:1", api_key={"env": "NONE"}).headers
    step = connection(ENVIRON, url="ws://localhost:1", api_key={"env": "TOKEN"})
    assert step.headers["api-key"] == "token-1"
    with pytest.raises(SecretMissing):
        connection({}, url="ws://agent.example:1")


def test_only_entra_needs_a_token_beforehand(monkeypatch):
    fake_identity(monkeypatch, FakeCredential)
    assert fetch_secrets(settings()) == {}
    default = fetch_secrets(settings(entra=True))
    assert default == {TOKEN_VARIABLE: "for https://ai.azure.com/.default"}
    legacy = "https://cognitiveservices.azure.com/.default"
    assert fetch_secrets(settings(entra=True, entra_scope=legacy)) == {TOKEN_VARIABLE: f"for {legacy}"}
    assert FakeCredential.closed


class FakeError(Exception):
    """AzureError's place."""


def fake_identity(monkeypatch: pytest.MonkeyPatch, credential: type) -> None:
    """azure-identity as far as it is used here."""
    identity: Any = types.ModuleType("azure.identity")
    identity.DefaultAzureCredential = credential
    exceptions: Any = types.ModuleType("azure.core.exceptions")
    exceptions.AzureError = FakeError
    monkeypatch.setitem(sys.modules, "azure.identity", identity)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", exceptions)


class FakeCredential:
    closed = False

    def __enter__(self) -> FakeCredential:
        return self

    def __exit__(self, *fault: object) -> None:
        type(self).closed = True

    def get_token(self, scope: str) -> Any:
        return types.SimpleNamespace(token=f"for {scope}")


def test_no_identity_is_told_in_one_line(monkeypatch):
    class Hopeless(FakeCredential):
        def get_token(self, scope: str) -> Any:
            raise FakeError("no credential\nway 1\nway 2")

    fake_identity(monkeypatch, Hopeless)
    with pytest.raises(SecretMissing) as caught:
        fetch_secrets(settings(entra=True))
    assert caught.value.what == "azure-identity got no token: no credential"


def test_a_missing_azure_identity_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(SecretMissing, match=r"pip install telbridge\[azure\]"):
        fetch_secrets(settings(entra=True))


# ---------------------------------------------------------------- audio


@pytest.mark.parametrize(
    ("wire", "fields", "both"),
    [
        (PCMU_8K, {}, (PCMU_8K, PCMU_8K)),
        (PCMA_8K, {}, (PCMA_8K, PCMA_8K)),
        (PCMA_8K, {"model": "gpt-realtime"}, (PCMA_8K, PCMA_8K)),
        (PCM_8K, {}, (PCM_8K, PCM_8K)),
        (PCM_16K, {}, (PCM_16K, PCM_16K)),
        (PCM_16K, {"model": "gpt-realtime"}, (PCM_16K, PCM_24K)),
        (PCM_48K, {}, (PCM_24K, PCM_24K)),
        (PCMU_8K, {"input_audio_format": "pcm16"}, (PCM_24K, PCMU_8K)),
        (
            PCMU_8K,
            {"input_audio_format": "pcm16", "input_audio_sampling_rate": 8000},
            (PCM_8K, PCMU_8K),
        ),
        (PCMU_8K, {"input_audio_sampling_rate": 16000}, (PCM_16K, PCMU_8K)),
        (PCMU_8K, {"input_audio_format": "g711_alaw"}, (PCMA_8K, PCMU_8K)),
        (PCMU_8K, {"output_audio_format": "pcm16_16000hz"}, (PCMU_8K, PCM_16K)),
        (PCM_16K, {"output_audio_format": "g711_ulaw"}, (PCM_16K, PCMU_8K)),
    ],
)
def test_the_telephones_own_format_unless_another_is_asked_for(wire, fields, both):
    assert tuple(formats(settings(**fields), wire)) == both


@pytest.mark.parametrize("wire", [PCMU_8K, PCMA_8K, PCM_16K], ids=str)
def test_the_formats_are_always_sent(wire: AudioFormat):
    agent = AzureSession(ready=False, wire=wire)
    agent.receives("session.created")
    session = agent.sent_session()
    assert session["input_audio_sampling_rate"] == wire.rate_hz
    assert {"input_audio_format", "output_audio_format", "turn_detection"} <= session.keys()
    assert "model" not in session


def test_raw_comes_last():
    agent = AzureSession(ready=False, raw={"turn_detection": {"newer": 1}, "newest": True})
    agent.receives("session.created")
    session = agent.sent_session()
    assert session["newest"] is True
    assert session["turn_detection"]["newer"] == 1
    assert session["turn_detection"]["type"] == "azure_semantic_vad"


# ---------------------------------------------------------------- the neutral vocabulary


@pytest.mark.parametrize(
    ("asked", "fields", "key", "value"),
    [
        ({"instructions": "Be brief."}, {}, "instructions", "Be brief."),
        ({"voice": "en-US-AvaNeural"}, {}, "voice", {"type": "azure-standard", "name": "en-US-AvaNeural"}),
        ({"voice": "Marin"}, {"model": "gpt-realtime"}, "voice", {"type": "openai", "name": "marin"}),
        (
            {"voice": "ava"},
            {"model": "azure-realtime"},
            "voice",
            {"type": "azure-realtime-native", "name": "ava"},
        ),
        (
            {"language": "de-DE", "key_terms": ["Zeiss"]},
            {},
            "input_audio_transcription",
            {"model": "azure-speech", "language": "de-DE", "phrase_list": ["Zeiss"]},
        ),
        (
            {"language": "de-DE", "key_terms": ["Zeiss", "Leitz"]},
            {"model": "gpt-realtime"},
            "input_audio_transcription",
            {"model": "gpt-4o-mini-transcribe", "language": "de", "prompt": "Zeiss, Leitz"},
        ),
        ({"noise_reduction": "near_field"}, {"model": "gpt-realtime"}, "noise", "near_field"),
        ({"noise_reduction": "near_field"}, {}, "noise", "azure_deep_noise_suppression"),
        (
            {"echo_cancellation": True},
            {},
            "input_audio_echo_cancellation",
            {"type": "server_echo_cancellation"},
        ),
        ({"echo_cancellation": False}, {}, "input_audio_echo_cancellation", None),
        ({"temperature": 0.1}, {}, "temperature", 0.6),
        ({"temperature": 2.0}, {}, "temperature", 1.0),
        ({"temperature": 0.8}, {"model": "gpt-5"}, "temperature", None),
        ({"max_output_tokens": 9999}, {}, "max_response_output_tokens", 4096),
        ({"max_output_tokens": "inf"}, {}, "max_response_output_tokens", "inf"),
        ({"reasoning_effort": "low"}, {"model": "gpt-5-mini"}, "reasoning_effort", "low"),
        ({"reasoning_effort": "low"}, {}, "reasoning_effort", None),
        ({"modalities": ["audio"]}, {}, "modalities", ["text", "audio"]),
        ({"modalities": ["text"]}, {}, "modalities", ["text"]),
        ({"user_id": "u1", "tags": {"a": "b"}}, {}, "metadata", {"user_id": "u1", "a": "b"}),
        ({"user_id": "u1"}, {"metadata": {"user_id": "v"}}, "metadata", {"user_id": "v"}),
        (
            {"user_profile": {"name": "Ann"}},
            {"instructions": "Be brief."},
            "instructions",
            'Be brief.\n\nAbout the caller, as JSON: {"name": "Ann"}',
        ),
        ({"instructions": "neutral"}, {"instructions": "vendor"}, "instructions", "vendor"),
        ({"voice": "x"}, {"model": "gpt-realtime", "voice": "cedar"}, "voice", "cedar"),
    ],
)
def test_neutral_settings_in_the_vendors_words(asked, fields, key, value):
    agent = AzureSession(ready=False, neutral=neutral(**asked), **fields)
    agent.receives("session.created")
    session = agent.sent_session()
    if key in ("noise", "echo"):
        wanted = "noise_reduction" if key == "noise" else "echo_cancellation"
        assert session[f"input_audio_{wanted}"] == {"type": value}
    else:
        assert session.get(key) == value


def turns(asked: dict[str, Any], **fields: Any) -> dict[str, Any] | None:
    agent = AzureSession(ready=False, neutral=neutral(**asked), **fields)
    agent.receives("session.created")
    found = agent.sent_session()["turn_detection"]
    if found is not None:
        found = {key: value for key, value in found.items() if value is not True}
    assert found is None or isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("asked", "fields", "detector"),
    [
        ({}, {}, {"type": "azure_semantic_vad"}),
        ({"turn_detection": {"mode": "off"}}, {}, None),
        (
            {"turn_detection": {"mode": "vad", "threshold": 0.3, "prefix_ms": 100, "silence_ms": 200}},
            {},
            {
                "type": "server_vad",
                "threshold": 0.3,
                "prefix_padding_ms": 100,
                "silence_duration_ms": 200,
            },
        ),
        ({"barge_in": False}, {}, {"type": "azure_semantic_vad", "interrupt_response": False}),
        ({"language": "de"}, {}, {"type": "azure_semantic_vad_multilingual", "languages": ["de"]}),
        ({"language": "sv"}, {}, {"type": "azure_semantic_vad"}),
        (
            {"turn_detection": {"mode": "semantic", "eagerness": "high"}},
            {},
            {
                "type": "azure_semantic_vad",
                "end_of_utterance_detection": {
                    "model": "semantic_detection_v1",
                    "threshold_level": "low",
                },
            },
        ),
        (
            {"turn_detection": {"mode": "semantic", "eagerness": "high"}},
            {"model": "gpt-realtime"},
            {"type": "semantic_vad", "eagerness": "high"},
        ),
        (
            {"turn_detection": {"eagerness": "low", "silence_ms": 100}},
            {"model": "gpt-realtime"},
            {"type": "azure_semantic_vad", "silence_duration_ms": 100},
        ),
        (
            {"turn_detection": {"mode": "semantic", "threshold": 0.9, "silence_ms": 100}},
            {"turn_detection": {"type": "server_vad", "threshold": 0.2}},
            {"type": "server_vad", "threshold": 0.2, "silence_duration_ms": 100},
        ),
        ({"barge_in": True, "turn_detection": {"mode": "vad"}}, {"turn_detection": "off"}, None),
    ],
)
def test_turn_detection_in_the_vendors_words(asked, fields, detector):
    assert turns(asked, **fields) == detector


def test_functions_join_the_vendors_tools_unless_the_name_is_taken():
    server = {"type": "mcp", "server_label": "s", "server_url": "https://s", "require_approval": "never"}
    mine = {"type": "function", "name": "f", "description": "mine"}
    asked = {"tools": [{"name": "f", "description": "theirs"}, {"name": "g"}]}
    chosen = with_neutral(asked, tools=[server, mine])
    assert [getattr(tool, "name", "mcp") for tool in chosen.tools or ()] == ["mcp", "f", "g"]
    assert getattr((chosen.tools or ())[1], "description", "") == "mine"


def test_an_agent_keeps_its_own_instructions_and_takes_a_memory():
    chosen = with_neutral({"instructions": "x", "memory_id": "m1"}, agent=AGENT)
    assert chosen.instructions is None
    assert chosen.agent is not None
    assert chosen.agent.conversation_id == "m1"


def test_nothing_asked_changes_nothing():
    chosen = settings(temperature=0.7)
    assert PROVIDER.with_neutral(chosen, NeutralSettings()) == chosen


def test_labels_are_cut_to_what_the_api_takes():
    chosen = with_neutral({"tags": {f"{n:02}" + "k" * 80: "v" * 600 for n in range(20)}})
    assert chosen.metadata is not None
    assert len(chosen.metadata) == 16
    assert {len(key) for key in chosen.metadata} == {64}
    assert {len(value) for value in chosen.metadata.values()} == {512}


# ---------------------------------------------------------------- what is known beforehand


def test_every_ability_has_its_row():
    assert set(PROVIDER.abilities) == set(Ability)
    assert all(support.how for support in PROVIDER.abilities.values())
    assert PROVIDER.abilities[Ability.VOICE].lock is Lock.SPOKEN
    assert PROVIDER.abilities[Ability.IDLE_TIMEOUT].way is Way.IMPOSSIBLE


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"avatar": {"character": "lisa", "customized": False}}, "avatar"),
        ({"animation": {"outputs": ["viseme_id"]}}, "animation"),
        ({"modalities": ["text", "audio", "avatar"]}, "modalities"),
        ({"modalities": ["text"]}, "modalities"),
        ({"output_audio_timestamp_types": ["word"]}, "output_audio_timestamp_types"),
        ({"turn_detection": "off"}, "turn_detection"),
        ({"turn_detection": {"create_response": False}}, "turn_detection"),
        ({"temperature": 0.2}, "temperature"),
        ({"model": "gpt-5", "temperature": 0.7}, "temperature"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        (
            {"model": "gpt-realtime", "turn_detection": {"end_of_utterance_detection": {}}},
            "turn_detection.end_of_utterance_detection",
        ),
        ({"model": "gpt-realtime", "output_audio_format": "pcm16_8000hz"}, "output_audio_format"),
        (
            {"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://s"}]},
            "tools[0].require_approval",
        ),
        ({"agent": AGENT}, "agent"),
        ({"resource": None, "url": "ws://agent.example"}, "url"),
    ],
)
def test_what_makes_no_sense_on_a_telephone_is_passed_on_with_a_warning(fields, key):
    assert [found for found, _ in PROVIDER.warnings(settings(**fields))] == [key]
    assert [found for found, _ in PROVIDER.refusals(settings(**fields))] in ([], [key])


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"voice": "marin"}, "voice"),
        ({"voice": {"type": "azure-realtime-native", "name": "ava"}}, "voice"),
        ({"model": "azure-realtime", "voice": {"type": "azure-standard", "name": "x"}}, "voice"),
        ({"input_audio_noise_reduction": {"type": "near_field"}}, "input_audio_noise_reduction.type"),
        ({"turn_detection": {"type": "semantic_vad"}}, "turn_detection.type"),
        ({"input_audio_transcription": {"model": "whisper-1"}}, "input_audio_transcription.model"),
        (
            {"model": "gpt-realtime", "interim_response": {"type": "static_interim_response"}},
            "interim_response",
        ),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"tool_choice": "f"}, "tool_choice"),
        (
            {
                "input_audio_format": "pcm16",
                "input_audio_echo_cancellation": {"reference_source": "client", "channels": 2},
            },
            "input_audio_echo_cancellation.reference_source",
        ),
        (
            {"turn_detection": {"type": "azure_semantic_vad_multilingual", "languages": ["sv"]}},
            "turn_detection.languages",
        ),
    ],
)
def test_what_the_model_would_refuse_is_told_at_check_time(fields, key):
    found = PROVIDER.refusals(settings(**fields))
    assert [one for one, _ in found] == [key]
    assert ": write " in found[0][1] or ": leave it out" in found[0][1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "gpt-realtime", "voice": "marin", "turn_detection": {"type": "semantic_vad"}},
        {"profile": "byom-azure-openai-realtime", "model": "mine", "voice": "marin"},
        {"tool_choice": "f", "tools": [{"type": "function", "name": "f"}]},
    ],
)
def test_a_sound_configuration_is_neither_warned_about_nor_refused(fields):
    assert list(PROVIDER.warnings(settings(**fields))) == []
    assert list(PROVIDER.refusals(settings(**fields))) == []


def test_all_tables_refuse_what_they_do_not_know():
    for part in parts_of(AzureSettings):
        assert issubclass(part, BaseModel)
        assert part.model_config.get("extra") == "forbid"
