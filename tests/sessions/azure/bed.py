"""An Azure Voice Live session without a network, and the vendor's own models as its judge."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from azure.ai.voicelive import _unions, models
from azure.ai.voicelive.models import _enums, _models

from telbridge.audio.formats import PCMU_8K, AudioFormat
from telbridge.call.events import AgentEvent, ReplyId, Said
from telbridge.call.playout import Heard
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.azure.protocol import PROVIDER, AzureVoiceLive
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.base import Opening

NOW_NS = 7_000_000
ENVIRON = {"AZURE_VOICELIVE_API_KEY": "key-1", "TOKEN": "token-1", "PASSWORD": "pass-1"}


def settings(**fields: Any) -> AzureSettings:
    return AzureSettings.model_validate({"resource": "mine", **fields})


def opening(wire: AudioFormat = PCMU_8K, environ: Mapping[str, str] = ENVIRON) -> Opening:
    return Opening("call-1", wire, environ)


class AzureSession:
    """The protocol under test with the server's vocabulary as methods."""

    def __init__(
        self,
        *,
        wire: AudioFormat = PCMU_8K,
        ready: bool = True,
        neutral: NeutralSettings | None = None,
        **fields: Any,
    ) -> None:
        chosen = settings(**fields)
        if neutral is not None:
            chosen = PROVIDER.with_neutral(chosen, neutral)
        self.take(PROVIDER.open(chosen, opening(wire)), ready=ready)

    def take(self, protocol: Any, *, ready: bool) -> None:
        assert isinstance(protocol, AzureVoiceLive)
        self.protocol = protocol
        self.all_sent: list[dict[str, Any]] = []
        if ready:
            self.configured()

    def configured(self) -> list[dict[str, Any]]:
        """Up to `session.updated`; what we said until then."""
        self.receives("session.created", session={})
        self.receives("session.updated", session={})
        return self.sent()

    def succeeded(self, *said: Said) -> AzureSession:
        """The session after this one, not yet connected."""
        new = AzureSession.__new__(AzureSession)
        new.take(self.protocol.successor(said), ready=False)
        return new

    def receives(self, type: str, /, **fields: Any) -> list[AgentEvent]:
        """A server event; returns what the call is told."""
        message = json.dumps({"type": type, "event_id": "event_1", **fields})
        return self.protocol.receive(message, now_ns=NOW_NS)

    def sent(self) -> list[dict[str, Any]]:
        """What we said since the last look."""
        messages = [json.loads(message) for message in self.protocol.data_to_send()]
        self.all_sent += messages
        return messages

    def sent_types(self) -> list[str]:
        return [message["type"] for message in self.sent()]

    def updated(self, **vendor: Any) -> dict[str, Any]:
        """Asks for a change of the vendor's own fields; the session that goes out."""
        self.protocol.update(NeutralSettings(), vendor)
        return self.sent_session()

    def updated_neutrally(self, **neutral: Any) -> dict[str, Any]:
        self.protocol.update(NeutralSettings.model_validate(neutral), {})
        return self.sent_session()

    def sent_session(self) -> dict[str, Any]:
        (update,) = self.sent()
        assert update["type"] == "session.update"
        session = update["session"]
        assert isinstance(session, dict)
        return session

    def begins(self, response: str) -> list[AgentEvent]:
        return self.receives("response.created", response={"id": response, "status": "in_progress"})

    def speaks(self, response: str, audio: bytes, *, item: str = "item_1") -> list[AgentEvent]:
        delta = base64.b64encode(audio).decode()
        return self.of("response.audio.delta", response, item, delta=delta)

    def of(self, type: str, response: str, item: str = "item_1", **fields: Any) -> list[AgentEvent]:
        """An event of one part of a response."""
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        return self.receives(type, **{**place, **fields})

    def calls(
        self, response: str, call: str, *, status: str = "completed", arguments: str = "{}"
    ) -> list[AgentEvent]:
        """A function call as it is streamed, to the end of its item."""
        told = self.of(
            "response.function_call_arguments.done",
            response,
            f"item_{call}",
            call_id=call,
            name="look_up",
            arguments=arguments,
        )
        item = {
            "type": "function_call",
            "id": f"item_{call}",
            "status": status,
            "call_id": call,
            "name": "look_up",
            "arguments": arguments,
        }
        return told + self.receives(
            "response.output_item.done", response_id=response, output_index=0, item=item
        )

    def ends(self, response: str, status: str = "completed", **details: Any) -> list[AgentEvent]:
        fields = {"id": response, "status": status, "status_details": details or None}
        return self.receives("response.done", response=fields)

    def hears_the_caller(self) -> list[AgentEvent]:
        return self.receives("input_audio_buffer.speech_started", audio_start_ms=400, item_id="item_u")

    def fails(self, code: str | None, **error: Any) -> list[AgentEvent]:
        fields = {"type": "invalid_request_error", "message": "words of the API", "code": code, **error}
        return self.receives("error", error=fields)

    def heard(self, reply: int, ms: int) -> list[tuple[str, int]]:
        """Reports a flush at so many ms; the truncations that follow, as (item, ms)."""
        self.protocol.report_heard([Heard(ReplyId(reply), ms * 8, 0, 8000)])
        truncations = self.sent()
        assert all(one["type"] == "conversation.item.truncate" for one in truncations)
        return [(one["item_id"], one["audio_end_ms"]) for one in truncations]


# ---------------------------------------------------------------- the judge

_unions._models = models  # type: ignore[attr-defined]  # Imported for type checkers only.

REFERENCE_ONLY = {
    ("ServerVad", "speech_duration_ms"),
    ("AudioInputTranscriptionOptions", "prompt"),
    *((vad, "appended_text_after_truncation") for vad in ("ServerVad", "AzureSemanticVad")),
    ("AzureSemanticVadEn", "appended_text_after_truncation"),
    ("AzureSemanticVadMultilingual", "appended_text_after_truncation"),
    *((vad, "speech_duration_assistant_speaking_ms") for vad in ("ServerVad", "AzureSemanticVad")),
    ("AzureSemanticVadEn", "speech_duration_assistant_speaking_ms"),
    ("AzureSemanticVadMultilingual", "speech_duration_assistant_speaking_ms"),
}
"""Fields of the vendor's reference, or of its live tests, that the SDK's models do not have."""

NO_MODEL = {("TurnDetection", "semantic_vad"), ("Tool", "foundry_agent")}
"""Kinds of the vendor's reference that the SDK does not have: it takes them as the bare base class."""

_VOICES = {
    "openai": _models.OpenAIVoice,
    "azure-realtime-native": _models.AzureRealtimeNativeVoice,
}
_PLAIN = {str: str, int: int, float: (int, float), bool: bool}


def judge(message: dict[str, Any]) -> list[str]:
    """Faults of a message of ours in the eyes of azure-ai-voicelive, which itself accepts everything:
    unknown keys and values, missing fields, wrong types, kinds that fall back to a base class."""
    return _walk(_models.ClientEvent._deserialize(message, []), message, message.get("type", "?"))


def _walk(model: Any, raw: dict[str, Any], path: str) -> list[str]:
    kind = type(model)
    known = {field._rest_name: (attribute, field) for attribute, field in kind._attr_to_rest_field.items()}
    for discriminator in ("type", "model"):
        if (kind.__name__, raw.get(discriminator)) in NO_MODEL:
            return []
    faults = []
    if kind.__subclasses__() and kind.__name__ not in ("MessageItem",):
        faults.append(f"{path}: only a {kind.__name__}")
    for name, (_, field) in known.items():
        if not field._is_optional and name not in raw:
            faults.append(f"{path}.{name} is missing")
    hints = _hints(kind)
    for name, value in raw.items():
        if name not in known:
            if (kind.__name__, name) not in REFERENCE_ONLY:
                faults.append(f"{path}.{name} is unknown")
        else:
            attribute, _ = known[name]
            faults += _check(getattr(model, attribute), value, hints[attribute], f"{path}.{name}")
    named = {known[name][0]: value for name, value in raw.items() if name in known}
    try:
        kind(**named)
    except TypeError as fault:
        faults.append(f"{path}: {fault}")
    return faults


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, {**vars(_models), "_models": models, "_unions": _unions})


def _check(parsed: Any, raw: Any, hint: Any, path: str) -> list[str]:
    """`parsed`: what the SDK made of `raw`, where the annotation `hint` stands."""
    if raw is None:
        return []
    if isinstance(raw, dict) and path.endswith(".voice"):
        parsed = _VOICES.get(raw.get("type", ""), _models.AzureVoice)._deserialize(raw, [])
    elif isinstance(raw, dict) and path.endswith(".tool_choice"):
        parsed = _models.ToolChoiceSelection._deserialize(raw, [])
    elif isinstance(raw, dict) and path.endswith(".interim_response"):
        parsed = _models.InterimResponseConfigBase._deserialize(raw, [])
    if isinstance(parsed, _models._Model):
        return _walk(parsed, raw, path) if isinstance(raw, dict) else [f"{path} is no table"]
    if isinstance(raw, list) and isinstance(parsed, list):
        pairs = enumerate(zip(parsed, raw, strict=True))
        inner = _options(hint, list)
        return [fault for n, (one, was) in pairs for fault in _check(one, was, inner, f"{path}[{n}]")]
    return [] if _fits(raw, hint) else [f"{path}: {raw!r} is not {hint}"]


def _options(hint: Any, origin: Any) -> Any:
    """What stands inside the list of an annotation."""
    if get_origin(hint) is origin:
        return get_args(hint)[0]
    return next((_options(one, origin) for one in get_args(hint) if _options(one, origin) is not Any), Any)


def _fits(raw: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(raw, dict) and get_origin(hint) is None:
        return False  # Of a known kind the SDK would have made a model.
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        arms = [one for one in get_args(hint) if one is not type(None)]
        enums = [one for one in arms if isinstance(one, type) and issubclass(one, Enum)]
        if isinstance(raw, str) and enums and not _open_set(enums):
            return any(raw in {member.value for member in one} for one in enums)
        return any(_fits(raw, one) for one in arms)
    if origin is dict:
        return isinstance(raw, dict) and all(_fits(value, get_args(hint)[1]) for value in raw.values())
    if origin is list:
        return isinstance(raw, list) and all(_fits(value, get_args(hint)[0]) for value in raw)
    if get_args(hint):  # a Literal
        return any(raw == (one.value if isinstance(one, Enum) else one) for one in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return raw in {member.value for member in hint}
    plain = _PLAIN.get(hint)
    if plain is None:
        return True
    return isinstance(raw, plain) and (hint is bool or not isinstance(raw, bool))


def _open_set(enums: list[Any]) -> bool:
    """Names that the service extends without a new SDK, or that a function's name joins."""
    return bool(
        {_enums.AzureRealtimeNativeVoiceName, _enums.PersonalVoiceModels, _enums.ToolChoiceLiteral}
        & set(enums)
    )
