"""The session of OpenAI Realtime (GA) as the server holds it: defaults, patches, what it means to a brain."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from telbridge.agent.events import TurnDetection
from telbridge.agent.facades.openai.shapes import Session
from telbridge.agent.facades.realtime import EAGERNESS_MS, INSTRUCTIONS, Json, Refusal, RefusedError
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat

FORMATS: Final[Mapping[str, AudioFormat]] = {
    "audio/pcm": PCM_24K,
    "audio/pcmu": PCMU_8K,
    "audio/pcma": PCMA_8K,
}


def default_session(model: str, *, silence_ms: int, voice: str) -> Json:
    """What `session.created` shows, after the example seen live; the silence is this agent's own."""
    return {
        "type": "realtime",
        "model": model,
        "instructions": INSTRUCTIONS,
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": silence_ms,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": voice, "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
    }


# Objects that are one value each: a patch replaces them instead of being merged into them.
_WHOLE: Final = frozenset({"format", "voice", "prompt", "tracing", "truncation", "tool_choice"})
# What a session cannot be without: null leaves it as it was.
_NEVER_NULL: Final = frozenset(
    {"audio", "input", "output", "format", "voice", "speed", "output_modalities", "tools", "tool_choice"}
    | {"max_output_tokens", "truncation", "model", "type"}
)


def merged(old: Json, patch: Json) -> Json:
    """`old` with `patch` laid over it: absent keys keep their value, null clears."""
    result = deepcopy(old)
    for key, value in patch.items():
        if value is None and key in _NEVER_NULL:
            continue
        before = result.get(key)
        if (
            isinstance(value, dict)
            and isinstance(before, dict)
            and key not in _WHOLE
            and _same_kind(before, value)
        ):
            result[key] = merged(before, value)
        else:
            result[key] = deepcopy(value)
    return result


def _same_kind(before: Json, value: Json) -> bool:
    """A server_vad replaced by a semantic_vad keeps nothing of it."""
    return before.get("type", value.get("type")) == value.get("type", before.get("type"))


_VAD_DEFAULTS: Final[Mapping[str, Json]] = {
    "server_vad": {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {"eagerness": "auto", "create_response": True, "interrupt_response": True},
}


def complete(session: Json) -> Json:
    """Fill in the defaults of a turn detection that the client named by its type alone."""
    vad = session["audio"]["input"].get("turn_detection")
    if vad is not None:
        session["audio"]["input"]["turn_detection"] = {**_VAD_DEFAULTS[vad["type"]], **vad}
    return session


def check_for_model(session: Session, model: str) -> None:
    """Options that only the reasoning models take (live probes of 2026-09): RefusedError otherwise."""
    if model.startswith("gpt-realtime-2"):
        return
    if session.reasoning is not None:
        raise RefusedError(
            Refusal("invalid_value", "Unsupported option for this model.", "session.reasoning")
        )
    if session.parallel_tool_calls:
        path = "session.parallel_tool_calls"
        raise RefusedError(Refusal("invalid_value", "Unsupported option for this model.", path))


def format_of(described: Json) -> AudioFormat:
    return FORMATS[described["type"]]


def turns(vad: Json | None) -> TurnDetection | None:
    if vad is None:
        return None
    semantic = vad["type"] == "semantic_vad"
    return TurnDetection(
        threshold=0.5 if semantic else _given(vad, "threshold", 0.5),
        prefix_ms=300 if semantic else _given(vad, "prefix_padding_ms", 300),
        silence_ms=EAGERNESS_MS[vad["eagerness"] or "auto"]
        if semantic
        else _given(vad, "silence_duration_ms", 500),
        idle_ms=None if semantic else vad.get("idle_timeout_ms"),
        answers=vad["create_response"] is not False,
        interrupts=vad["interrupt_response"] is not False,
    )


def _given(vad: Json, key: str, default: Any) -> Any:
    value = vad.get(key)
    return default if value is None else value
