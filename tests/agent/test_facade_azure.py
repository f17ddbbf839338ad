"""Azure Voice Live's facade: the vendor's pages as a specification, the vendor's SDK as the judge.

Every server event a test looks at is compared with the SDK's models, key by key and type by type, because
the SDK itself accepts anything; and the SDK's own client holds a session with the running agent.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import aiohttp
import pytest
from azure.ai.voicelive import _unions, models
from azure.ai.voicelive.aio import ConnectionClosed, connect
from azure.ai.voicelive.aio import ConnectionError as VoiceLiveConnectionError
from azure.ai.voicelive.models import _models as sdk
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.credentials_async import AsyncTokenCredential
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telbridge.agent.events import (
    AudioCleared,
    AudioIn,
    AudioText,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    ToolResult,
    TurnCommitted,
)
from telbridge.agent.facade import FacadeOptions, Updates, Wants
from telbridge.agent.facades.azure import door as door_azure
from telbridge.agent.facades.azure.events import CLIENT_EVENTS
from telbridge.agent.facades.azure.facade import AzureFacade
from telbridge.agent.facades.azure.session import Endpoint
from telbridge.agent.facades.realtime import EAGERNESS_MS
from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

Json = dict[str, Any]
MS = 1_000_000
FRAME = b"\x7f" * 160
FRAME_TEXT = b64encode(FRAME).decode()
PCMU: Json = {
    "input_audio_format": "g711_ulaw",
    "input_audio_sampling_rate": 8000,
    "output_audio_format": "g711_ulaw",
}
AVA: Json = {"type": "azure-standard", "name": "en-US-AvaNeural"}
EMMA: Json = {"type": "azure-standard", "name": "en-US-EmmaNeural"}
TOOL: Json = {"type": "function", "name": "transfer", "parameters": {"type": "object"}}
SEMANTIC: Json = {
    "type": "azure_semantic_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 420,
    "speech_duration_ms": 80,
    "silence_duration_ms": 500,
    "remove_filler_words": False,
    "create_response": True,
    "interrupt_response": True,
    "auto_truncate": False,
    "end_of_utterance_detection": {
        "model": "semantic_detection_v1",
        "threshold_level": "default",
        "timeout_ms": 1000,
    },
}


# -- the judge ----------------------------------------------------------------------------------------

# In the reference and not in the SDK's models.
REFERENCE_ONLY = {"session.object", "session.turn_detection.speech_duration_ms"}
NAMES = {"_models": models, "_unions": _unions}


def faults(value: object, hint: Any, path: str) -> Iterator[str]:
    """Where JSON departs from what the SDK's types say; the SDK's own parser would not mind."""
    if get_origin(hint) in (Union, UnionType):
        yield from _union_faults(value, get_args(hint), path)
    elif get_origin(hint) is Literal:
        if value not in get_args(hint):
            yield f"{path}: {value!r}"
    elif get_origin(hint) is list:
        yield from (
            [fault for item in value for fault in faults(item, get_args(hint)[0], f"{path}[]")]
            if isinstance(value, list)
            else [f"{path}: no list"]
        )
    elif get_origin(hint) is dict:
        yield from [] if isinstance(value, dict) else [f"{path}: no object"]
    elif isinstance(hint, type) and issubclass(hint, sdk._Model):
        yield from _model_faults(value, hint, path)
    elif not _is_plain(value, hint):
        yield f"{path}: {value!r} is no {hint}"


def _is_plain(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is NoneType:
        return value is None
    if hint is bytes:
        return isinstance(value, str) and bool(b64decode(value, validate=True))
    if hint is datetime:
        return type(value) is int
    if hint is float:
        return type(value) in (int, float)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in [member.value for member in hint]
    return type(value) is hint


def _union_faults(value: object, members: tuple[Any, ...], path: str) -> Iterator[str]:
    """One member must fit. `str` beside an enum does not stand for other names."""
    if any(isinstance(member, type) and issubclass(member, Enum) for member in members):
        members = tuple(member for member in members if member is not str)
    found = [list(faults(value, member, path)) for member in members]
    yield from min(found, key=len)


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls, vars(sdk), NAMES)


def _model_faults(value: object, base: type[Any], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: no object"
        return
    cls = type(base._deserialize(value, []))
    fields = {field._rest_name: (name, field) for name, field in cls._attr_to_rest_field.items()}
    hints = _hints(cls)
    for key in value.keys() - fields.keys():
        yield f"{path}.{key}: unknown to {cls.__name__}"
    for key, (name, field) in fields.items():
        if value.get(key) is not None:
            yield from faults(value[key], hints[name], f"{path}.{key}")
        elif not field._is_optional:
            yield f"{path}.{key}: missing"


def judge(message: Json) -> None:
    """AssertionError unless the vendor's SDK knows every part of this server event."""
    assert type(sdk.ServerEvent._deserialize(message, [])) is not sdk.ServerEvent, message["type"]
    found = [fault.removeprefix(".") for fault in faults(message, sdk.ServerEvent, "")]
    assert [fault for fault in found if fault.partition(":")[0] not in REFERENCE_ONLY] == []


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.horoscope"},
        {"type": "response.output_audio.delta"},
        {"type": "response.audio.delta", "event_id": "e", "delta": "AA=="},
        {"type": "session.updated", "session": {"audio": {}}},
        {"type": "session.updated", "session": {"turn_detection": {"type": "server_vad", "treshold": 1.0}}},
        {"type": "session.updated", "session": {"input_audio_sampling_rate": "8000"}},
        {"type": "session.updated", "session": {"output_audio_format": "mp3"}},
        {"type": "session.updated", "session": {"voice": "nova"}},
    ],
)
def test_the_judge_sees_what_the_sdk_overlooks(message: Json) -> None:
    with pytest.raises(AssertionError):
        judge(message)


# -- a client of the facade -----------------------------------------------------------------------------


@dataclass
class Client:
    """Whatever the facade answers is judged before a test sees it."""

    facade: AzureFacade
    now_ns: int = 0

    def sends(self, text: str) -> list[Any]:
        return self.facade.receive(text, now_ns=self.now_ns)

    def says(self, kind: str, **fields: Any) -> list[Any]:
        """Send one event; the brain events it makes."""
        return self.sends(json.dumps({"type": kind, **fields}))

    def updates(self, **session: Any) -> list[Any]:
        return self.says("session.update", event_id="up", session=session)

    def is_updated(self, **session: Any) -> Json:
        """An update that is taken; the session as the answer shows it."""
        assert len(self.updates(**session)) == 1
        message, *warnings = self.gets()
        assert message["type"] == "session.updated", message
        assert all(warning["type"] == "warning" for warning in warnings)
        updated: Json = message["session"]
        return updated

    def creates(self, item: Json, **more: Any) -> list[Any]:
        return self.says("conversation.item.create", item=item, **more)

    def gets(self) -> list[Json]:
        """All server events since the last time."""
        messages = [json.loads(text) for text in self.facade.take_messages()]
        for message in messages:
            judge(message)
        return messages

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.gets()]

    def error(self) -> Json:
        """The one event that came, an error."""
        (message,) = self.gets()
        assert message["type"] == "error", message
        error: Json = message["error"]
        return error

    def hears(self, text: str = "Hello.", frames: int = 1) -> Any:
        """The agent says something; its reply is left open."""
        reply = self.facade.begin_reply()
        assert reply is not None
        self.facade.words(reply, text)
        for _ in range(frames):
            self.facade.audio(reply, FRAME)
        return reply


def facade(query: Json | None = None, **options: Any) -> AzureFacade:
    defaults: Json = {
        "session_id": "t",
        "wants": Wants.SAMPLES,
        "updates": Updates.ANSWER,
        "silence_ms": 600,
        "now_ns": 0,
        "expires_at_unix_s": 1_800_000_000,
    }
    asked = {"api-version": "2026-07-15", "model": "gpt-4.1", **(query or {})}
    return AzureFacade(FacadeOptions(**{**defaults, **options}), Endpoint.from_query(asked))


def connected(model: str = "gpt-4.1", *, query: Json | None = None, **options: Any) -> Client:
    client = Client(facade({"model": model, **(query or {})}, **options))
    assert client.kinds() == ["session.created"]
    return client


def user_text(text: str, **more: Any) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **more}


# -- connection and session ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "voice", "transcriber"),
    [
        ("gpt-4.1", "en-US-AvaNeural", "azure-speech"),
        ("gpt-realtime", "alloy", None),
        ("azure-realtime", "ava", None),
    ],
)
def test_the_session_begins_with_the_defaults_of_its_model(
    model: str, voice: str, transcriber: str | None
) -> None:
    (message,) = Client(facade({"model": model})).gets()
    session = message["session"]
    assert (session["model"], session["voice"]["name"]) == (model, voice)
    assert (session["input_audio_format"], session["input_audio_sampling_rate"]) == ("pcm16", 24000)
    assert (session["output_audio_format"], session["expires_at"]) == ("pcm16", 1_800_000_000)
    assert session["turn_detection"]["silence_duration_ms"] == 600
    assert (session["input_audio_transcription"] or {}).get("model") == transcriber


def test_an_older_api_version_tells_no_expiry() -> None:
    (message,) = Client(facade({"api-version": "2025-10-01"})).gets()
    assert "expires_at" not in message["session"]
    assert message["session"]["turn_detection"]["prefix_padding_ms"] == 300


@pytest.mark.parametrize("query", [{"model": ""}, {"model": "", "agent-name": "a"}, {"agent-name": "a"}])
def test_a_connection_to_nothing_is_told_so_and_closed(query: Json) -> None:
    client = Client(facade(query))
    assert client.error()["code"] == "invalid_request_error"
    assert client.facade.close_with == (1008, "invalid_request_error")
    assert client.facade.configured(by_client=False) is None
    assert client.updates(instructions="x") == [] and client.gets() == []


def test_an_agent_has_its_own_instructions_and_no_model() -> None:
    client = Client(facade({"model": "", "agent-name": "clerk", "agent-project-name": "p"}))
    (message,) = client.gets()
    assert message["session"]["agent"]["name"] == "clerk" and "model" not in message["session"]
    client.updates(instructions="x")
    assert client.error()["param"] == "session.instructions"


def test_an_update_is_a_patch_and_the_answer_shows_the_whole_session() -> None:
    client = connected()
    (configured,) = client.updates(instructions="Be kind.", turn_detection=SEMANTIC, tools=[TOOL], **PCMU)
    (message,) = client.gets()
    session = message["session"]
    assert (session["instructions"], session["voice"]) == ("Be kind.", AVA)
    assert session["turn_detection"] == SEMANTIC
    assert (configured.input, configured.output, configured.by_client) == (PCMU_8K, PCMU_8K, True)
    assert (configured.turns.silence_ms, configured.turns.idle_ms) == (500, None)
    assert [tool.name for tool in configured.tools] == ["transfer"]
    assert client.is_updated(instructions="Be brief.")["turn_detection"] == SEMANTIC


def test_an_object_is_one_value_and_what_it_leaves_out_is_default() -> None:
    client = connected()
    client.is_updated(turn_detection={**SEMANTIC, "threshold": 0.9})
    vad = client.is_updated(turn_detection={"type": "azure_semantic_vad", "silence_duration_ms": 300})[
        "turn_detection"
    ]
    assert (vad["silence_duration_ms"], vad["threshold"]) == (300, 0.5)


@pytest.mark.parametrize(
    "key",
    [
        "turn_detection",
        "input_audio_noise_reduction",
        "input_audio_echo_cancellation",
        "input_audio_transcription",
        "interim_response",
    ],
)
def test_null_switches_off(key: str) -> None:
    client = connected()
    assert client.is_updated(**{key: None})[key] is None


def test_without_turn_detection_the_client_ends_the_turns() -> None:
    client = connected()
    (configured,) = client.updates(turn_detection=None)
    assert configured.turns is None


def test_every_field_of_a_session_is_taken_and_shown() -> None:
    session: Json = {
        "modalities": ["text", "audio"],
        "instructions": "x",
        "voice": {**AVA, "temperature": 0.8, "rate": "1.1", "prefer_locales": ["en-GB"], "style": "calm"},
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": 16000,
        "output_audio_format": "pcm16_16000hz",
        "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
        "input_audio_echo_cancellation": {
            "type": "server_echo_cancellation",
            "reference_source": "client",
            "channels": 2,
        },
        "input_audio_transcription": {
            "model": "azure-speech",
            "language": "en-US",
            "phrase_list": ["telbridge"],
            "custom_speech": {"en-US": "m"},
        },
        "turn_detection": SEMANTIC,
        "tools": [TOOL, {"type": "mcp", "server_label": "l", "server_url": "https://x.test/"}],
        "tool_choice": {"type": "function", "name": "transfer"},
        "parallel_tool_calls": False,
        "temperature": 0.6,
        "max_response_output_tokens": 1024,
        "interim_response": {
            "type": "static_interim_response",
            "texts": ["One moment."],
            "triggers": ["tool"],
            "latency_threshold_ms": 900,
        },
        "output_audio_timestamp_types": ["word"],
        "animation": {"model_name": "default", "outputs": ["viseme_id"]},
        "avatar": {"type": "video-avatar", "character": "lisa", "customized": False},
        "include": ["item.input_audio_transcription.phrases"],
        "metadata": {"call_id": "1"},
    }
    client = connected()
    assert client.updates(**session) != []
    message, *warnings = client.gets()
    assert {key: message["session"][key] for key in session} == session
    assert [warning["warning"]["param"] for warning in warnings] == [
        "session.animation",
        "session.avatar",
        "session.interim_response",
        "session.tools",
    ]


def test_reasoning_effort_is_for_models_that_reason() -> None:
    assert connected("gpt-5.4").is_updated(reasoning_effort="low")["reasoning_effort"] == "low"
    client = connected("gpt-4.1")
    client.updates(reasoning_effort="low")
    assert client.error()["param"] == "session.reasoning_effort"


@pytest.mark.parametrize(
    ("model", "voice"),
    [
        ("gpt-realtime", "cedar"),
        ("gpt-realtime", {"type": "openai", "name": "cedar"}),
        ("gpt-realtime", AVA),
        ("gpt-4.1", {"type": "azure-custom", "name": "n", "endpoint_id": "e"}),
        ("gpt-4.1", {"type": "azure-personal", "name": "n", "model": "DragonLatestNeural"}),
        ("gpt-4.1", {"type": "avatar-voice-sync", "model": "MAI-Voice-1"}),
        ("azure-realtime", {"type": "azure-realtime-native", "name": "elsa"}),
    ],
)
def test_voices(model: str, voice: str | Json) -> None:
    assert connected(model).is_updated(voice=voice)["voice"] == voice


@pytest.mark.parametrize(
    ("model", "vad", "silence_ms"),
    [
        ("gpt-4.1", {"type": "server_vad", "speech_duration_ms": 200}, 500),
        ("gpt-4.1", {"type": "azure_semantic_vad", "languages": ["de"]}, 500),
        ("gpt-4.1", {"type": "azure_semantic_vad_en", "silence_duration_ms": 700}, 700),
        ("gpt-4.1", {"type": "azure_semantic_vad_multilingual", "languages": ["de", "en"]}, 500),
    ],
)
def test_turn_detections(model: str, vad: Json, silence_ms: int) -> None:
    client = connected(model)
    (configured,) = client.updates(turn_detection=vad)
    assert client.gets()[0]["session"]["turn_detection"].items() >= vad.items()
    assert configured.turns.silence_ms == silence_ms


def test_openais_semantic_turns_are_not_in_the_sdk_and_work() -> None:
    session = facade({"model": "gpt-realtime"})
    update = {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}
    (configured,) = session.receive(json.dumps({"type": "session.update", "session": update}), now_ns=0)
    assert isinstance(configured, Configured) and configured.turns is not None
    assert configured.turns.silence_ms == EAGERNESS_MS["high"]


@pytest.mark.parametrize(
    ("session", "input_format", "output_format"),
    [
        (PCMU, PCMU_8K, PCMU_8K),
        ({"input_audio_format": "g711_alaw", "output_audio_format": "g711_alaw"}, PCMA_8K, PCMA_8K),
        ({"input_audio_sampling_rate": 8000, "output_audio_format": "pcm16_8000hz"}, PCM_8K, PCM_8K),
        ({"input_audio_sampling_rate": 16000, "output_audio_format": "pcm16_16000hz"}, PCM_16K, PCM_16K),
        ({"input_audio_format": "g711_alaw", "output_audio_format": "pcm16"}, PCMA_8K, PCM_24K),
        ({"input_audio_sampling_rate": 44100}, AudioFormat(Encoding.PCM16, 44100), PCM_24K),
    ],
)
def test_the_two_directions_have_formats_of_their_own(
    session: Json, input_format: AudioFormat, output_format: AudioFormat
) -> None:
    (configured,) = connected().updates(**session)
    assert (configured.input, configured.output) == (input_format, output_format)


# -- refusals -----------------------------------------------------------------------------------------

EC = "input_audio_echo_cancellation"


def cancelling(source: str, channels: int) -> Json:
    return {"type": "server_echo_cancellation", "reference_source": source, "channels": channels}


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"model": "gpt-4.1"}, "invalid_value", "model"),
        ({"type": "realtime"}, "unknown_parameter", "type"),
        ({"audio": {}}, "unknown_parameter", "audio"),
        ({"instructions": None}, "invalid_type", "instructions"),
        ({"instructions": 5}, "invalid_type", "instructions"),
        ({"modalities": ["audio"]}, "invalid_value", "modalities"),
        ({"modalities": []}, "invalid_value", "modalities"),
        ({"modalities": ["text", "smell"]}, "invalid_value", "modalities[1]"),
        ({"voice": "alloy"}, "invalid_value", "voice"),
        ({"voice": "nova"}, "invalid_value", "voice"),
        ({"voice": {"type": "azure-standard"}}, "missing_required_parameter", "voice.name"),
        ({"voice": {"name": "x"}}, "missing_required_parameter", "voice.type"),
        ({"voice": {"type": "azure", "name": "x"}}, "invalid_value", "voice.type"),
        ({"voice": {**AVA, "speed": 1}}, "unknown_parameter", "voice.speed"),
        ({"voice": {**AVA, "rate": 1.2}}, "invalid_type", "voice.rate"),
        ({"voice": {"type": "azure-realtime-native", "name": "ava"}}, "invalid_value", "voice"),
        ({"input_audio_format": "mulaw"}, "invalid_value", "input_audio_format"),
        ({"input_audio_format": "pcm16_8000hz"}, "invalid_value", "input_audio_format"),
        ({"output_audio_format": "mp3"}, "invalid_value", "output_audio_format"),
        ({"output_audio_format": "pcm16-8000hz"}, "invalid_value", "output_audio_format"),
        ({"input_audio_sampling_rate": 11025}, "invalid_value", "input_audio_sampling_rate"),
        ({"input_audio_sampling_rate": "8000"}, "invalid_type", "input_audio_sampling_rate"),
        ({**PCMU, "input_audio_sampling_rate": 16000}, "invalid_value", "input_audio_sampling_rate"),
        (
            {"input_audio_noise_reduction": {"type": "far_field"}},
            "invalid_value",
            "input_audio_noise_reduction.type",
        ),
        ({EC: cancelling("client", 1)}, "invalid_ec_reference_channels", EC),
        ({EC: cancelling("server", 2)}, "invalid_ec_channels_requires_client", EC),
        ({**PCMU, EC: cancelling("client", 2)}, "invalid_ec_channels_format", EC),
        ({"input_audio_transcription": {}}, "missing_required_parameter", "input_audio_transcription.model"),
        (
            {"input_audio_transcription": {"model": "whisper-1"}},
            "invalid_value",
            "input_audio_transcription.model",
        ),
        (
            {"input_audio_transcription": {"model": "azure-speech", "prompt": "x"}},
            "invalid_value",
            "input_audio_transcription.prompt",
        ),
        ({"turn_detection": {"type": "semantic_vad"}}, "invalid_value", "turn_detection.type"),
        (
            {"turn_detection": {"type": "azure_multilingual_semantic_vad"}},
            "invalid_value",
            "turn_detection.type",
        ),
        (
            {"turn_detection": {"type": "server_vad", "threshold": 1.5}},
            "invalid_value",
            "turn_detection.threshold",
        ),
        (
            {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}},
            "unknown_parameter",
            "turn_detection.idle_timeout_ms",
        ),
        (
            {"turn_detection": {"type": "azure_semantic_vad_en", "languages": ["en"]}},
            "unknown_parameter",
            "turn_detection.languages",
        ),
        (
            {"turn_detection": {**SEMANTIC, "end_of_utterance_detection": {"model": "v2"}}},
            "invalid_value",
            "turn_detection.end_of_utterance_detection.model",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x"}}]},
            "missing_required_parameter",
            "tools[0].name",
        ),
        (
            {"tools": [TOOL, {"type": "mcp", "server_label": "l"}]},
            "missing_required_parameter",
            "tools[1].server_url",
        ),
        ({"tool_choice": "transfer"}, "invalid_value", "tool_choice"),
        ({"temperature": 1.1}, "invalid_value", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"max_response_output_tokens": 5000}, "invalid_value", "max_response_output_tokens"),
        ({"max_response_output_tokens": "many"}, "invalid_type", "max_response_output_tokens"),
        ({"metadata": {"k" * 65: "v"}}, "invalid_value", None),
        ({"metadata": {str(n): "" for n in range(17)}}, "invalid_value", "metadata"),
        (
            {"interim_response": {"type": "static-interim-response"}},
            "invalid_value",
            "interim_response.type",
        ),
        ({"avatar": {"customized": False}}, "missing_required_parameter", "avatar.character"),
        ({"output_audio_timestamp_types": ["letter"]}, "invalid_value", "output_audio_timestamp_types[0]"),
    ],
)
def test_a_bad_update_is_refused_as_a_whole(session: Json, code: str, param: str | None) -> None:
    client = connected()
    before = client.facade.configured(by_client=False)
    assert client.updates(**{"instructions": "lost", **session}) == []
    error = client.error()
    assert (error["type"], error["code"], error["event_id"]) == ("invalid_request_error", code, "up")
    assert param is None or error["param"] == f"session.{param}"
    assert client.facade.configured(by_client=False) == before


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("{", "invalid_json", None),
        ('{"type": "session.update", "session": {"temperature": NaN}}', "invalid_json", None),
        ("[" * 100_000, "invalid_json", None),
        ('{"a":' * 80 + "1" + "}" * 80, "invalid_json", None),
        ("[]", "invalid_type", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": ["session.update"]}', "invalid_value", "type"),
        ('{"type": "session.update"}', "missing_required_parameter", "session"),
        ('{"type": "session.update", "session": []}', "invalid_type", "session"),
        ('{"type": "transcription_session.update", "session": {}}', "invalid_value", "type"),
        ('{"type": "input_audio.turn.start", "turn_id": "t"}', "invalid_value", "type"),
        ('{"type": "mcp_approval_response"}', "invalid_value", "type"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value", "type"),
        ('{"type": "session.avatar.connect", "client_sdp": "v=0"}', "invalid_value", "type"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "*"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty", None),
        ('{"type": "conversation.item.create"}', "missing_required_parameter", "item"),
        (
            '{"type": "conversation.item.truncate", "item_id": "i"}',
            "missing_required_parameter",
            "content_index",
        ),
        ('{"type": "conversation.item.delete", "item_id": "i"}', "item_delete_invalid_item_id", "item_id"),
        ('{"type": "response.create", "response": {"voice": "alloy"}}', "invalid_value", "response.voice"),
        (
            '{"type": "response.create", "response": {"modalities": ["audio"]}}',
            "invalid_value",
            "response.modalities",
        ),
        (
            '{"type": "response.create", "response": {"output_modalities": ["audio"]}}',
            "unknown_parameter",
            "response.output_modalities",
        ),
        (
            '{"type": "response.create", "response": {"temperature": 0.5}}',
            "invalid_value",
            "response.temperature",
        ),
        (
            '{"type": "response.create", "response": {"tool_choice": "x"}}',
            "invalid_value",
            "response.tool_choice",
        ),
        ('{"type": "response.cancel"}', "response_cancel_not_active", None),
        ('{"type": "input_text.done", "id": "never"}', "invalid_value", "id"),
    ],
)
def test_what_cannot_be_understood_is_an_error_and_the_session_goes_on(
    text: str, code: str, param: str | None
) -> None:
    client = connected()
    assert client.sends(text) == []
    error = client.error()
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert client.facade.close_with is None
    client.is_updated()


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        ({"type": "message", "role": "user", "content": "hi"}, "invalid_type", "item.content"),
        ({"type": "message", "role": "robot", "content": []}, "invalid_value", "item.role"),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": ""}]},
            "invalid_value",
            "item.content[0].type",
        ),
        ({"type": "function_call_output", "call_id": "c", "output": {}}, "invalid_type", "item.output"),
        (
            {"type": "function_call_output", "call_id": "c", "output": ""},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        (
            {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
            "invalid_value",
            "item.approval_request_id",
        ),
        (user_text("x", id="there"), "item_create_duplicate_item_id", "item.id"),
    ],
)
def test_items_that_fit_no_conversation(item: Json, code: str, param: str) -> None:
    client = connected()
    client.creates(user_text("first", id="there"))
    client.gets()
    assert client.creates(item) == []
    error = client.error()
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    ("version", "session", "param"),
    [
        ("2026-04-10", {"parallel_tool_calls": True}, "session.parallel_tool_calls"),
        ("2026-04-10", {EC: cancelling("client", 2)}, f"session.{EC}.reference_source"),
    ],
)
def test_what_an_older_api_version_does_not_know(version: str, session: Json, param: str) -> None:
    client = connected(query={"api-version": version})
    client.updates(**session)
    error = client.error()
    assert (error["code"], error["param"]) == ("unknown_parameter", param)


# -- what locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input_audio_format": "g711_alaw"}, "invalid_value"),
        ({"input_audio_format": "pcm16", "input_audio_sampling_rate": 8000}, "invalid_value"),
        ({"avatar": {"character": "lisa", "customized": False}}, "invalid_value"),
    ],
)
def test_input_and_avatar_belong_into_the_first_update(change: Json, code: str) -> None:
    client = connected()
    client.is_updated(**PCMU)
    client.updates(instructions="lost", **change)
    assert client.error()["code"] == code
    client.is_updated(instructions="kept", **PCMU)


def test_the_second_channel_too() -> None:
    client = connected()
    client.is_updated(instructions="x")
    client.updates(input_audio_echo_cancellation=cancelling("client", 2))
    assert client.error()["code"] == "change_in_ec_channels_not_allowed"
    client.is_updated(input_audio_echo_cancellation=cancelling("server", 1))


def test_audio_before_the_first_update_has_fixed_the_format() -> None:
    client = connected()
    assert client.says("input_audio_buffer.append", audio=FRAME_TEXT) == [AudioIn(FRAME)]
    client.updates(**PCMU)
    assert client.error()["param"] == "session.input_audio_format"


def test_the_voice_is_locked_by_the_first_agent_audio_and_may_be_repeated() -> None:
    client = connected()
    client.is_updated(voice=EMMA)
    client.facade.end_reply(client.hears())
    client.gets()
    client.updates(instructions="lost", voice=AVA)
    assert client.error()["code"] == "cannot_update_voice"
    assert client.is_updated(instructions="kept", voice=EMMA)["instructions"] == "kept"


@pytest.mark.parametrize(
    "later",
    [
        {"instructions": "y"},
        {"tools": [TOOL]},
        {"turn_detection": {"type": "server_vad"}},
        {"modalities": ["text"]},
        {"temperature": 0.9},
        {"max_response_output_tokens": 10},
        {"input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"}},
        {"input_audio_transcription": {"model": "azure-speech", "language": "de-DE"}},
    ],
)
def test_the_rest_may_change_at_any_time(later: Json) -> None:
    client = connected()
    client.is_updated(**PCMU)
    client.facade.end_reply(client.hears())
    client.gets()
    client.is_updated(**later)


# -- caller audio -------------------------------------------------------------------------------------


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("extra", [{}, {"event_id": "a1"}])
def test_audio_arrives_however_the_client_writes_it(
    separators: tuple[str, str], extra: dict[str, str]
) -> None:
    client = connected()
    frames = [bytes([n]) * 160 for n in range(4)]
    for frame in frames:
        message = {"type": "input_audio_buffer.append", "audio": b64encode(frame).decode(), **extra}
        assert client.sends(json.dumps(message, separators=separators)) == [AudioIn(frame)]
    assert client.sends(json.dumps({"type": "input_audio_buffer.append", "audio": "*"})) == []
    assert client.error()["code"] == "invalid_value"


@given(text=st.text(max_size=20), first=st.binary(min_size=1, max_size=40))
def test_the_short_way_reads_an_append_as_json_does(text: str, first: bytes) -> None:
    session = facade(wants=Wants.BASE64)
    for audio in (b64encode(first).decode(), text):
        message = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
        assert session.receive(message, now_ns=0) == [AudioText(audio)]


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_linear_audio_may_be_cut_anywhere(pieces: list[bytes]) -> None:
    session = facade()
    heard = b""
    for piece in pieces:
        message = {"type": "input_audio_buffer.append", "audio": b64encode(piece).decode()}
        (event,) = session.receive(json.dumps(message), now_ns=0)
        assert isinstance(event, AudioIn) and len(event.payload) % 2 == 0
        heard += event.payload
    whole = b"".join(pieces)
    assert heard == whole[: len(whole) & ~1]


@pytest.mark.parametrize("wants", Wants)
def test_of_two_channels_the_brain_hears_the_callers(wants: Wants) -> None:
    client = connected(wants=wants)
    client.is_updated(input_audio_echo_cancellation=cancelling("client", 2))
    (event,) = client.says("input_audio_buffer.append", audio=b64encode(b"\1\2\3\4\5\6\7\x08").decode())
    assert event in (AudioIn(b"\1\2\5\6"), AudioText(b64encode(b"\1\2\5\6").decode()))
    client.says("input_audio_buffer.append", audio=b64encode(b"\1\2\3\4\5\6").decode())
    assert client.error()["code"] == "invalid_ec_channels_format"


def test_more_than_15_mib_are_refused() -> None:
    client = connected()
    client.says("input_audio_buffer.append", audio="A" * (20 * 1024 * 1024 + 4))
    assert client.error()["param"] == "audio"


def test_the_client_ends_the_turn_by_hand() -> None:
    client = connected()
    client.is_updated(turn_detection=None, **PCMU)
    client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    (event,) = client.says("input_audio_buffer.commit")
    committed, created = client.gets()
    assert (committed["type"], created["type"]) == (
        "input_audio_buffer.committed",
        "conversation.item.created",
    )
    assert event == TurnCommitted(committed["item_id"])
    client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    assert client.says("input_audio_buffer.clear") == [AudioCleared()]
    assert client.kinds() == ["input_audio_buffer.cleared"]
    client.says("input_audio_buffer.commit")
    assert client.error()["code"] == "input_audio_buffer_commit_empty"


# -- turns --------------------------------------------------------------------------------------------


def test_a_turn_is_told_in_order_and_its_words_in_one_piece() -> None:
    client = connected()
    client.facade.speech_started(100)
    turn = client.facade.speech_stopped(900)
    client.facade.heard(turn, "Hello.", 800)
    events = client.gets()
    assert [event["type"] for event in events] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.created",
        "conversation.item.input_audio_transcription.completed",
    ]
    assert (events[0]["audio_start_ms"], events[1]["audio_end_ms"]) == (100, 900)
    assert turn == events[0]["item_id"] == events[2]["item_id"] == events[3]["item"]["id"]
    assert events[4]["transcript"] == "Hello."


def test_openais_transcribers_send_the_words_as_they_come() -> None:
    client = connected("gpt-realtime")
    client.facade.heard(client.facade.speech_stopped(900), "Hello.", 800)
    assert client.gets()[-1]["type"] == "conversation.item.created"  # nobody asked for the words
    client.is_updated(input_audio_transcription={"model": "gpt-4o-transcribe"})
    client.facade.heard(client.facade.speech_stopped(900), "Hello.", 800)
    assert [kind.rpartition(".")[2] for kind in client.kinds()[-2:]] == ["delta", "completed"]


def test_the_callers_speech_cancels_the_response_and_its_late_audio_is_dropped() -> None:
    client = connected()
    reply = client.hears()
    client.gets()
    client.facade.speech_started(1200)
    events = client.gets()
    assert events[0]["type"] == "input_audio_buffer.speech_started"
    done = events[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    assert done["output"][0]["status"] == "incomplete"
    client.facade.audio(reply, FRAME)
    assert client.gets() == [] and not client.facade.is_open(reply)


def test_interrupt_response_false_lets_the_response_go_on() -> None:
    client = connected()
    client.is_updated(turn_detection={**SEMANTIC, "interrupt_response": False, "auto_truncate": True})
    reply = client.hears()
    client.gets()
    client.facade.speech_started(0)
    assert client.kinds() == ["input_audio_buffer.speech_started"]
    assert client.facade.is_open(reply)


@pytest.mark.parametrize("finished", [False, True])
def test_auto_truncate_cuts_what_is_still_playing(finished: bool) -> None:
    client = connected()
    client.is_updated(turn_detection={**SEMANTIC, "auto_truncate": True}, **PCMU)
    reply = client.hears(frames=50)
    if finished:
        client.facade.end_reply(reply)
    client.gets()
    client.now_ns = 300 * MS
    client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    client.facade.speech_started(0)
    events = client.gets()
    assert (events[-1]["type"], events[-1]["audio_end_ms"]) == ("conversation.item.truncated", 300)
    assert ("response.done" in [event["type"] for event in events]) is not finished
    client.now_ns = 2000 * MS
    client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    client.facade.speech_started(0)
    assert client.kinds() == ["input_audio_buffer.speech_started"]


def test_truncation_counts_from_the_item_and_not_past_it() -> None:
    client = connected()
    client.is_updated(**PCMU)
    reply = client.hears(frames=50)
    client.facade.end_reply(reply)
    item = client.gets()[-1]["response"]["output"][0]["id"]
    cut = {"item_id": item, "content_index": 0}
    assert client.says("conversation.item.truncate", **cut, audio_end_ms=700) == [ReplyTruncated(reply, 700)]
    assert client.kinds() == ["conversation.item.truncated"]
    client.says("conversation.item.truncate", **cut, audio_end_ms=701)
    assert client.error()["message"] == "Audio content of 700ms is already shorter than 701ms"
    client.says("conversation.item.truncate", item_id="item_x", content_index=0, audio_end_ms=0)
    assert client.error()["code"] == "item_truncate_invalid_item_id"


# -- conversation -------------------------------------------------------------------------------------


def test_items_are_kept_in_their_order() -> None:
    client = connected()
    assert client.creates(user_text("[DTMF] caller pressed 5", id="a")) == [
        TextIn("[DTMF] caller pressed 5", "user")
    ]
    assert client.kinds() == ["conversation.item.created"]
    client.creates(user_text("before", id="b"), previous_item_id="root")
    assert client.gets()[0]["previous_item_id"] is None
    client.creates(user_text("between", id="c"), previous_item_id="b")
    client.creates(user_text("last", id="d"))
    assert [event["previous_item_id"] for event in client.gets()] == ["b", "a"]
    client.says("conversation.item.retrieve", item_id="b")
    assert client.gets()[0]["item"]["content"][0]["text"] == "before"
    client.says("conversation.item.delete", item_id="b")
    assert client.kinds() == ["conversation.item.deleted"]
    client.creates(user_text("x"), previous_item_id="b")
    assert client.error()["code"] == "item_create_invalid_previous_item_id"


def test_a_system_message_is_a_fact_and_asks_for_nothing() -> None:
    client = connected()
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "VIP"}]}
    assert client.creates(item) == [TextIn("VIP", "system")]


def test_typed_text_is_a_user_item_when_it_is_done() -> None:
    client = connected()
    assert client.says("input_text.delta", id="i", delta="Hel") == []
    assert client.says("input_text.delta", id="i", delta="lo.", content_index=0) == []
    assert client.says("input_text.done", id="i") == [TextIn("Hello.", "user")]
    (created,) = client.gets()
    assert created["item"]["id"] == "i"


def test_typed_text_came_with_a_later_api_version() -> None:
    client = connected(query={"api-version": "2026-04-10"})
    client.says("input_text.delta", id="i", delta="x")
    assert client.error()["param"] == "type"


def test_a_model_that_hears_takes_audio_in_an_item() -> None:
    client = connected("gpt-realtime")
    content = [{"type": "input_audio", "audio": FRAME_TEXT}, {"type": "input_text", "text": "This."}]
    assert client.creates({"type": "message", "role": "user", "content": content}) == [
        TextIn("This.", "user")
    ]
    assert client.kinds() == ["conversation.item.created"]


# -- responses ----------------------------------------------------------------------------------------

RESPONSE = [
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]


def test_a_response_goes_through_its_events_in_the_documented_order() -> None:
    client = connected()
    client.is_updated(**PCMU)
    options = {"instructions": "Say exactly: Hi.", "metadata": {"k": "v"}, "max_output_tokens": 9}
    (request,) = client.says("response.create", response=options)
    assert (request.instructions, request.output) == ("Say exactly: Hi.", PCMU_8K)
    client.facade.words(request.reply, "Hi.")
    client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    events = client.gets()
    assert [event["type"] for event in events] == RESPONSE
    assert events[5]["delta"] == FRAME_TEXT
    done = events[-1]["response"]
    assert (done["status"], done["metadata"], done["max_output_tokens"]) == ("completed", {"k": "v"}, 9)
    assert done["output"][0]["content"] == [{"type": "audio", "transcript": "Hi."}]
    assert (done["voice"], done["output_audio_format"]) == (AVA, "g711_ulaw")
    assert len({event["event_id"] for event in events}) == len(events)


def test_a_pre_generated_message_is_spoken_as_it_stands_and_transcribed_at_once() -> None:
    client = connected()
    content = [{"type": "text", "text": "Hello, this is the bakery."}]
    message = {"type": "message", "role": "assistant", "content": content}
    (request,) = client.says("response.create", response={"pre_generated_assistant_message": message})
    assert request.instructions == "Say exactly: Hello, this is the bakery."
    for word in ("Hello,", "this"):
        client.facade.words(request.reply, word)
        client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    events = client.gets()
    deltas = [event["delta"] for event in events if event["type"] == "response.audio_transcript.delta"]
    assert deltas == ["Hello, this is the bakery."]


@pytest.mark.parametrize("texts", [[], ["a", "b"]])
def test_a_pre_generated_message_is_one_text(texts: list[str]) -> None:
    client = connected()
    content = [{"type": "text", "text": text} for text in texts]
    message = {"type": "message", "role": "assistant", "content": content}
    client.says("response.create", response={"pre_generated_assistant_message": message})
    assert client.error()["param"] == "response.pre_generated_assistant_message.content"


def test_a_pre_generated_message_is_not_in_the_first_api_versions() -> None:
    client = connected(query={"api-version": "2025-10-01"})
    content = [{"type": "text", "text": "Hi."}]
    message = {"type": "message", "role": "assistant", "content": content}
    client.says("response.create", response={"pre_generated_assistant_message": message})
    assert client.error()["code"] == "unknown_parameter"


def test_additional_instructions_join_those_of_the_session() -> None:
    client = connected()
    client.is_updated(instructions="Be kind.")
    (request,) = client.says("response.create", additional_instructions="Greet the caller.")
    assert request.instructions == "Be kind.\nGreet the caller."


def test_a_response_may_have_input_of_its_own() -> None:
    client = connected()
    response = {"append_input_items": [user_text("One.", id="i")], "input_items": [user_text("Two.")]}
    *texts, request = client.says("response.create", response=response)
    assert texts == [TextIn("One.", "user"), TextIn("Two.", "user")]
    assert isinstance(request, ReplyRequested)
    assert client.kinds() == ["conversation.item.created", "response.created"]


def test_a_reply_with_nothing_in_it_has_no_item() -> None:
    client = connected()
    reply = client.facade.begin_reply()
    assert reply is not None
    client.facade.end_reply(reply)
    events = client.gets()
    assert [event["type"] for event in events] == ["response.created", "response.done"]
    assert events[-1]["response"]["output"] == []


def test_a_text_response_has_no_audio() -> None:
    client = connected()
    client.is_updated(modalities=["text"])
    client.facade.end_reply(client.hears())
    kinds = client.kinds()
    assert "response.text.delta" in kinds and "response.audio.delta" not in kinds


def test_one_response_at_a_time_unless_it_enters_no_conversation() -> None:
    client = connected()
    (first,) = client.says("response.create")
    assert client.facade.begin_reply() is None
    client.gets()
    assert client.says("response.create", event_id="mine") == []
    error = client.error()
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "mine")
    for aside in ({"conversation": "none"}, {"commit": False}):
        (request,) = client.says("response.create", response=aside)
        client.facade.words(request.reply, "Hm.")
        client.facade.end_reply(request.reply)
        events = client.gets()
        assert events[0]["response"]["conversation_id"] is None
        assert "conversation.item.created" not in [event["type"] for event in events]
    client.facade.end_reply(first.reply)
    assert client.says("response.create") != []


def test_cancel_previous_makes_way_for_the_new_response() -> None:
    client = connected()
    first = client.hears()
    client.gets()
    cancelled, request = client.says("response.create", response={"cancel_previous": True})
    assert cancelled == ReplyCancelled(first)
    assert client.kinds()[-2:] == ["response.done", "response.created"]
    assert client.facade.is_open(request.reply)


def test_cancel_closes_the_response() -> None:
    client = connected()
    reply = client.hears()
    client.gets()
    assert client.says("response.cancel") == [ReplyCancelled(reply)]
    done = client.gets()[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    client.says("response.cancel", response_id=reply)
    assert client.error()["code"] == "response_cancel_not_active"


def test_a_function_call_is_an_item_of_its_own_and_what_follows_is_another() -> None:
    client = connected()
    client.is_updated(tools=[TOOL])
    reply = client.hears("One moment.")
    call = client.facade.call_tool(reply, "transfer", {"to": "sales"})
    client.facade.words(reply, "Thank you.")
    client.facade.end_reply(reply)
    events = client.gets()
    kinds = [event["type"] for event in events]
    start = kinds.index("response.output_item.done") + 1
    assert kinds[start : start + 5] == [
        "response.output_item.added",
        "conversation.item.created",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    done = events[start + 3]
    assert (done["call_id"], json.loads(done["arguments"])) == (call, {"to": "sales"})
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert len({item["id"] for item in output}) == 3
    answer = {"type": "function_call_output", "call_id": call, "output": "{}", "status": "completed"}
    assert client.creates(answer) == [ToolResult(call, "{}")]
    assert client.kinds() == ["conversation.item.created"]


def test_words_are_timed_if_that_was_asked_for() -> None:
    client = connected()
    client.is_updated(output_audio_timestamp_types=["word"], **PCMU)
    client.facade.end_reply(client.hears("One two.", frames=10))
    timed = [event for event in client.gets() if event["type"] == "response.audio_timestamp.delta"]
    assert [(event["text"], event["audio_offset_ms"], event["audio_duration_ms"]) for event in timed] == [
        ("One", 0, 100),
        ("two.", 100, 100),
    ]


# -- the end, and worse -------------------------------------------------------------------------------


def test_the_end_of_the_hour() -> None:
    client = connected()
    assert client.facade.expire()[0] == 1001
    assert client.error()["code"] == "session_expired"


def test_updates_may_be_ignored_or_refused_for_a_test() -> None:
    client = connected(updates=Updates.IGNORE)
    assert client.updates(instructions="x") == [] and client.gets() == []
    client = connected(updates=Updates.REFUSE)
    client.updates(instructions="x")
    assert client.error()["code"] == "invalid_value"


@pytest.mark.parametrize("misdeed", list(Misdeed)[list(Misdeed).index(Misdeed.GARBAGE) :])
def test_every_misdeed_has_its_shape(misdeed: Misdeed) -> None:
    (message,) = facade().wrong(misdeed)
    if misdeed is Misdeed.SERVER_ERROR:
        judge(json.loads(message))
    else:
        with pytest.raises((ValueError, AssertionError, TypeError, AttributeError)):
            event = json.loads(message)
            judge(event)
            assert not event["response_id"].endswith("never_created")


IDS = st.sampled_from(["item_t1", "item_t2", "item_t3", "resp_t1", "call_t2", "root", "x", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=3,
)
ITEMS = st.sampled_from(
    [
        user_text("Hi."),
        {"type": "function_call", "name": "f", "call_id": "call_t2", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_t2", "output": ""},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]},
    ]
)
SESSIONS = st.sampled_from(
    [
        PCMU,
        {"voice": EMMA},
        {"turn_detection": None},
        {"turn_detection": {**SEMANTIC, "auto_truncate": True}},
        {"tools": [TOOL]},
        {"modalities": ["text"]},
        {"output_audio_timestamp_types": ["word"]},
        {"input_audio_transcription": None},
        {EC: cancelling("client", 2)},
    ]
)
AUDIO = st.binary(max_size=12).map(lambda octets: b64encode(octets).decode())
RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        "conversation": st.sampled_from(["auto", "none"]),
        "cancel_previous": st.booleans(),
        "modalities": st.just(["text"]),
        "append_input_items": st.lists(ITEMS, max_size=2),
    },
)
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "session.update": {"session": SESSIONS | VALUES},
    "session.avatar.connect": {"client_sdp": VALUES},
    "input_audio_buffer.append": {"audio": AUDIO | VALUES},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "output_audio_buffer.clear": {},
    "input_text.delta": {"id": IDS, "delta": VALUES},
    "input_text.done": {"id": IDS},
    "conversation.item.create": {"item": ITEMS | VALUES, "previous_item_id": st.none() | IDS},
    "conversation.item.retrieve": {"item_id": IDS | VALUES},
    "conversation.item.delete": {"item_id": IDS},
    "conversation.item.truncate": {
        "item_id": IDS,
        "content_index": st.integers(-1, 1),
        "audio_end_ms": st.integers(-1, 50),
    },
    "response.create": {"response": RESPONSES | VALUES},
    "response.cancel": {"response_id": st.none() | IDS},
}
MESSAGES = st.one_of(
    *(
        st.fixed_dictionaries({"type": st.just(kind), **fields}).map(json.dumps)
        for kind, fields in FIELDS.items()
    ),
    VALUES.map(json.dumps),
    st.binary(max_size=20),
)
REPLIES = st.sampled_from(["resp_t1", "resp_t2", "resp_t3"])
BRAIN: dict[str, Callable[[AzureFacade, ReplyId], object]] = {
    "begin": lambda it, _: it.begin_reply(),
    "words": lambda it, reply: it.words(reply, "Hi. "),
    "audio": lambda it, reply: it.audio(reply, FRAME),
    "tool": lambda it, reply: it.call_tool(reply, "f", {}),
    "end": lambda it, reply: it.end_reply(reply),
    "started": lambda it, _: it.speech_started(0),
    "stopped": lambda it, _: it.heard(it.speech_stopped(10), "Hi.", 10),
}


def test_the_arbitrary_messages_are_of_every_kind() -> None:
    assert FIELDS.keys() == CLIENT_EVENTS.keys()


STEPS = st.lists(MESSAGES | st.tuples(st.sampled_from(sorted(BRAIN)), REPLIES), max_size=8)


def answers(wants: Wants, steps: list[Any]) -> list[Json]:
    """What the facade says to all of this; it is JSON, and the session stands."""
    session = facade(wants=wants)
    for step in steps:
        if isinstance(step, tuple):
            BRAIN[step[0]](session, ReplyId(step[1]))
        else:
            session.receive(step, now_ns=0)
    assert session.configured(by_client=False) is not None
    messages = session.take_messages()
    return [json.loads(message, parse_constant=lambda name: pytest.fail(name)) for message in messages]


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(wants=st.sampled_from(Wants), steps=STEPS)
def test_no_sequence_of_messages_breaks_the_facade(wants: Wants, steps: list[Any]) -> None:
    assert answers(wants, steps)[0]["type"] == "session.created"


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS)
def test_whatever_is_said_the_answers_are_the_vendors(steps: list[Any]) -> None:
    for message in answers(Wants.SAMPLES, steps):
        judge(message)


# -- the vendor's client and the running agent ------------------------------------------------------------


@pytest.fixture(autouse=True)
def _azures_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telbridge.agent.server.DOORS", (door_azure.routes,))


@asynccontextmanager
async def calling(agent: AgentSettings, model: str = "gpt-4.1", key: str = "k") -> AsyncIterator[Any]:
    """The vendor's client on a session of an agent of its own."""
    async with (
        serve(agent) as port,
        connect(
            endpoint=f"http://127.0.0.1:{port}", credential=AzureKeyCredential(key), model=model
        ) as voice,
    ):
        yield voice


async def until(connection: Any, kind: str) -> Any:
    """Receive up to the first event of a kind, as the SDK's client reads it; each one judged."""
    while True:
        raw = await connection.recv_bytes()
        message = json.loads(raw)
        judge(message)
        if message["type"] == kind:
            return sdk.ServerEvent._deserialize(message, [])


def script(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return AgentSettings(brain="script", script=path)


CONVERSATION = """
[[step]]
on = "request"
reply = { tone_hz = 440, ms = 400, words = "Good evening." }
[[step]]
on = "caller_stops"
event = "speech_stopped"
heard = "Where is my order?"
[[step]]
on = "caller_stops"
reply = { tone_hz = 440, ms = 4000, pace = 2.0, chunk_ms = 40, words = "A long story." }
[[step]]
on = "reply_started"
after_ms = 60
event = "speech_started"
times = 2
[[step]]
on = "text"
reply = { words = "One moment.", silence = true, ms = 20, tool = "transfer", arguments = { to = "sales" } }
[[step]]
on = "tool_result"
reply = { tone_hz = 440, ms = 100, words = "You are connected." }
"""


async def test_the_vendors_client_holds_a_whole_session(tmp_path: Path) -> None:
    async with calling(script(tmp_path, CONVERSATION)) as voice:
        created = await until(voice, "session.created")
        assert created.session.model == "gpt-4.1"
        assert created.session.expires_at > datetime.now(UTC)
        request = models.RequestSession(
            instructions="Be kind.",
            voice=models.AzureStandardVoice(name="en-US-AvaNeural"),
            turn_detection=models.AzureSemanticVad(silence_duration_ms=400),
            tools=[models.FunctionTool(name="transfer", parameters={"type": "object"})],
            **PCMU,
        )
        await voice.session.update(session=request)
        updated = await until(voice, "session.updated")
        assert updated.session.turn_detection.silence_duration_ms == 400

        greeting = models.AssistantMessageItem(content=[models.OutputTextContentPart(text="Hello.")])
        await voice.response.create(
            response=models.ResponseCreateParams(pre_generated_assistant_message=greeting)
        )
        assert (await until(voice, "response.audio_transcript.done")).transcript == "Hello."
        done = await until(voice, "response.done")
        assert done.response.status == "completed" and done.response.usage.output_tokens > 0

        tone, quiet = b64encode(b"\x00\x80" * 80).decode(), b64encode(b"\xff" * 160).decode()
        for frame in [tone] * 20 + [quiet] * 30:
            await voice.input_audio_buffer.append(audio=frame)
        heard = await until(voice, "conversation.item.input_audio_transcription.completed")
        assert heard.transcript == "Where is my order?"
        assert len((await until(voice, "response.audio.delta")).delta) == 320

        await until(voice, "input_audio_buffer.speech_started")
        cancelled = (await until(voice, "response.done")).response
        assert (cancelled.status, cancelled.status_details.reason) == ("cancelled", "turn_detected")
        item = cancelled.output[0].id
        await voice.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=20)
        assert (await until(voice, "conversation.item.truncated")).audio_end_ms == 20

        pressed = models.UserMessageItem(
            content=[models.InputTextContentPart(text="[DTMF] caller pressed 5")]
        )
        await voice.conversation.item.create(item=pressed)
        call = await until(voice, "response.function_call_arguments.done")
        assert (call.name, json.loads(call.arguments)) == ("transfer", {"to": "sales"})
        await until(voice, "response.done")
        result = models.FunctionCallOutputItem(call_id=call.call_id, output="{}")
        await voice.conversation.item.create(item=result)
        assert (await until(voice, "response.audio_transcript.done")).transcript == "You are connected."
        await until(voice, "response.done")

        await voice.response.cancel()
        assert (await until(voice, "error")).error.code == "response_cancel_not_active"
        await voice.close()


async def test_the_vendors_client_hears_its_own_audio() -> None:
    async with calling(AgentSettings(brain="echo")) as voice:
        await voice.session.update(session=models.RequestSession(**PCMU))
        await until(voice, "session.updated")
        frames = [bytes([n + 1]) * 160 for n in range(20)]
        for frame in frames:
            await voice.input_audio_buffer.append(audio=b64encode(frame).decode())
        assert [(await until(voice, "response.audio.delta")).delta for _ in frames] == frames


async def test_a_wrong_key_is_refused_at_the_door_and_a_right_one_taken_in_every_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    agent = AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")
    async with calling(agent, key="right") as voice:
        await until(voice, "session.created")
    with pytest.raises(VoiceLiveConnectionError, match="401"):
        async with calling(agent, key="wrong"):
            pass
    async with serve(agent) as port, aiohttp.ClientSession() as http:
        url = f"ws://127.0.0.1:{port}/voice-live/realtime"
        query = {"api-version": "2026-07-15", "model": "gpt-4.1"}
        for headers, more in (
            ({"Authorization": "Bearer right"}, {}),
            ({}, {"api-key": "right"}),
            ({}, {"Authorization": "Bearer right"}),
        ):
            async with http.ws_connect(url, headers=headers, params={**query, **more}) as socket:
                judge(await socket.receive_json())
        refused = await http.get(url.replace("ws", "http", 1), params=query)
        assert (refused.status, (await refused.json())["error"]["code"]) == (401, "401")
        unknown = {**query, "api-version": "2024-10-01", "api-key": "right"}
        assert (await http.get(url.replace("ws", "http", 1), params=unknown)).status == 404


class Token(AsyncTokenCredential):
    """An Entra credential."""

    async def close(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://ai.azure.com/.default",)
        return AccessToken("right", 2_000_000_000)


async def test_an_agent_is_called_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    async with (
        serve(AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")) as port,
        connect(
            endpoint=f"ws://127.0.0.1:{port}", credential=Token(), agent_name="clerk", project_name="p"
        ) as voice,
    ):
        created = await until(voice, "session.created")
        assert created.session.agent.name == "clerk"


async def test_a_connection_to_no_model_is_closed_behind_the_error() -> None:
    async with calling(AgentSettings(brain="echo"), model="") as voice:
        assert (await until(voice, "error")).error.code == "invalid_request_error"
        with pytest.raises(ConnectionClosed) as caught:
            await until(voice, "never")
        assert caught.value.code == 1008


async def test_the_longest_session_ends_with_1001(tmp_path: Path) -> None:
    async with calling(script(tmp_path, '[[step]]\non = "configured"\nmisdeed = "expire"')) as voice:
        await voice.session.update(session={"instructions": "x"})
        assert (await until(voice, "error")).error.code == "session_expired"
        with pytest.raises(ConnectionClosed) as caught:
            await until(voice, "never")
        assert caught.value.code == 1001
