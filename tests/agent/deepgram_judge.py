"""Deepgram's own models as a judge of what the facade says, stricter than the SDK is with itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

with warnings.catch_warnings():
    # The SDK wants the older client of `websockets`, which says on import that it is deprecated.
    warnings.simplefilter("ignore")
    import deepgram.agent.v1.client  # noqa: F401
    from deepgram import AsyncDeepgramClient, DeepgramClient
    from deepgram.agent.v1 import types as sdk
    from deepgram.environment import DeepgramClientEnvironment

__all__ = ["AsyncDeepgramClient", "DeepgramClient", "environment", "judge", "judge_text", "sdk"]

Json = dict[str, Any]
_NAMES = (
    "Welcome",
    "SettingsApplied",
    "ConversationText",
    "UserStartedSpeaking",
    "AgentThinking",
    "FunctionCallRequest",
    "FunctionCallCancelled",
    "AgentStartedSpeaking",
    "LatencyReport",
    "AgentAudioDone",
    "PromptUpdated",
    "SpeakUpdated",
    "ThinkUpdated",
    "ListenUpdated",
    "InjectionRefused",
    "Warning",
    "Error",
)
_CLASSES: dict[str, Any] = {name: getattr(sdk, f"AgentV1{name}") for name in _NAMES} | {
    "FunctionCallResponse": sdk.AgentV1ReceiveFunctionCallResponse
}


def judge(message: Json) -> None:
    """AssertionError or ValidationError unless the SDK knows every part of this server message."""
    kind = message["type"]
    if kind == "EndOfTurn":  # real, and in no schema
        assert set(message) == {"type", "trigger"} and message["trigger"] in ("model", "timeout", "manual")
        return
    if kind == "History":
        called, said = sdk.FunctionCallHistoryMessage, sdk.ConversationHistoryMessage
        cls: Any = called if "function_calls" in message else said
    else:
        cls = _CLASSES[kind]
    parsed = cls.model_validate(message)
    assert not list(_faults(parsed)), (kind, list(_faults(parsed)))
    assert parsed.model_dump(exclude_unset=True) == message
    if kind == "LatencyReport":
        assert len(message) == 2, "one figure a message"


def judge_text(text: str) -> Json:
    """The message, judged."""
    message: Json = json.loads(text)
    judge(message)
    return message


def _faults(value: object, path: str = "") -> Iterator[str]:
    """Keys that the SDK does not know, and words that are none of those it lists."""
    if isinstance(value, BaseModel):
        yield from (f"{path}{name}" for name in value.__pydantic_extra__ or {})
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            listed = [word for part in get_args(field.annotation) for word in _literals(part)]
            if listed and isinstance(inner, str) and inner not in listed:
                yield f"{path}{name}={inner}"
            yield from _faults(inner, f"{path}{name}.")
    elif isinstance(value, list):
        for item in value:
            yield from _faults(item, path)


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def environment(port: int) -> DeepgramClientEnvironment:
    """The vendor's addresses, all of them on this machine."""
    http, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    return DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
