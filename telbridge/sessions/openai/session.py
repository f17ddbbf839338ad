"""The `session` objects that are sent to the OpenAI Realtime API, made of the settings; and what came back.

`session.update` is a merge patch: what is absent keeps its value, null clears. The API takes or refuses an
update as a whole (guides realtime and realtime-conversations on developers.openai.com; live observations).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.sessions.credentials import revealed
from telbridge.sessions.openai.parts import McpTool
from telbridge.sessions.openai.settings import CustomVoice, Json, OpenAISettings, Transcription, WireFormat
from telbridge.sessions.openai.vocabulary import MOST_NAME
from telbridge.sessions.provider import deep_merged
from telbridge.sessions.wire import optional_table, optional_text

_WIRE_NAME: Final[dict[AudioFormat, WireFormat]] = {
    PCMU_8K: "audio/pcmu",
    PCMA_8K: "audio/pcma",
    PCM_24K: "audio/pcm",
}
_BY_WIRE_NAME: Final = {name: audio_format for audio_format, name in _WIRE_NAME.items()}

_UNCHANGED: Final = frozenset(
    {
        "include",
        "max_output_tokens",
        "output_modalities",
        "parallel_tool_calls",
        "prompt",
        "tool_choice",
        "tools",
        "tracing",
        "truncation",
    }
)
"""Settings that go to the wire under their own name and as they are."""
_CLEARABLE: Final = ("prompt", "tracing")
"""Those for which null means something."""


@dataclass(frozen=True, slots=True)
class Formats:
    """Of one session, each way."""

    uplink: AudioFormat
    downlink: AudioFormat


def session_formats(settings: OpenAISettings, wire: AudioFormat) -> Formats:
    """A wire that is neither law (L16, Opus) gets μ-law for "g711". No 8 or 16 kHz linear audio exists."""
    usual = PCM_24K
    if settings.audio == "g711":
        usual = wire if wire in (PCMU_8K, PCMA_8K) else PCMU_8K
    return Formats(
        uplink=_BY_WIRE_NAME[settings.input_format] if settings.input_format else usual,
        downlink=_BY_WIRE_NAME[settings.output_format] if settings.output_format else usual,
    )


def format_object(audio_format: AudioFormat) -> Json:
    """The API's name of a session format: exactly these keys, `rate` inside pcmu is no part of it."""
    name = _WIRE_NAME[audio_format]
    # The rate is optional in the SDK's types, but a live server refused the object without it.
    return {"type": name, "rate": 24_000} if name == "audio/pcm" else {"type": name}


def session_object(settings: OpenAISettings, formats: Formats, environ: Mapping[str, str]) -> Json:
    """The whole session, as the first update has it. It may hold secrets of MCP servers; SecretMissing if one
    is not there."""
    for index, tool in enumerate(settings.tools):
        if isinstance(tool, McpTool):
            for key, secret in tool.secrets():
                # Tells by its name which one is missing; from within pydantic the fault comes wrapped.
                secret.resolve(f"openai_realtime.tools[{index}].{key}", environ)
    given = revealed(settings, environ, exclude_unset=True, include=set(_UNCHANGED))
    session: Json = {
        "type": "realtime",
        "output_modalities": list(settings.output_modalities),
        "max_output_tokens": settings.max_output_tokens,
        **{name: value for name, value in given.items() if value is not None or name in _CLEARABLE},
        "audio": {"input": _audio_in(settings, formats), "output": _audio_out(settings, formats)},
    }
    words = full_instructions(settings)
    if words is not None:
        session["instructions"] = words
    if settings.reasoning_effort is not None and settings.reasons:
        session["reasoning"] = {"effort": settings.reasoning_effort}
    return deep_merged(session, settings.raw)


def full_instructions(settings: OpenAISettings) -> str | None:
    """The instructions with a line for each thing that the API has no field for."""
    parts = [settings.instructions] if settings.instructions is not None else []
    if settings.language is not None:
        parts.append(f"Speak the language {settings.language} (BCP 47) unless the caller asks for another.")
    if settings.key_terms:
        parts.append(f"Names and words to expect: {', '.join(settings.key_terms)}.")
    if settings.user_profile:
        profile = json.dumps(settings.user_profile, ensure_ascii=False)
        parts.append(f"What is known of the caller (JSON): {profile}")
    return "\n\n".join(parts) if parts else None


def patch(before: Json, after: Json) -> Json:
    """The update that makes `after` of `before`: what differs, and `type`, without which it is refused.

    Where `audio` is touched both formats are repeated: an update without them made noise of a live call.
    """
    changed: Json = {"type": "realtime"}
    for key, value in after.items():
        if key not in before or before[key] != value:
            changed[key] = value
    if "audio" in changed:
        changed["audio"] = _audio_patch(optional_table(before, "audio"), optional_table(after, "audio"))
    return changed


def format_fault(formats: Formats, session: Json) -> str:
    """Of a full session that came back: another format than asked for would be noise at full volume."""
    audio = optional_table(session, "audio")
    for way, audio_format in (("input", formats.uplink), ("output", formats.downlink)):
        asked = _WIRE_NAME[audio_format]
        taken = optional_text(optional_table(optional_table(audio, way), "format"), "type")
        if taken is not None and taken != asked:
            return f"session.updated has audio.{way}.format {taken[:MOST_NAME]}, asked was {asked}"
    return ""


def not_taken(asked: Json, session: Json) -> Iterator[str]:
    """Dotted names of single values that came back other than asked for; what is missing is not judged,
    nor are lists (the API adds to them) and the instructions."""
    for key, value in asked.items():
        if key == "instructions" or key not in session:
            continue
        got = session[key]
        if isinstance(value, dict) and isinstance(got, dict):
            yield from (f"{key}.{name}" for name in not_taken(value, got))
        elif not isinstance(value, dict | list) and not _same(value, got):
            yield key


def _audio_in(settings: OpenAISettings, formats: Formats) -> Json:
    audio: Json = {"format": format_object(formats.uplink), "turn_detection": None}
    if settings.turn_detection is not None:
        turns = settings.turn_detection.model_dump()
        if "idle_timeout_ms" not in settings.turn_detection.model_fields_set:
            turns.pop("idle_timeout_ms", None)
        audio["turn_detection"] = turns
    if "transcription" in settings.model_fields_set:
        audio["transcription"] = (
            _transcription(settings, settings.transcription) if settings.transcription is not None else None
        )
    if "noise_reduction" in settings.model_fields_set:
        cleaning = settings.noise_reduction
        audio["noise_reduction"] = cleaning.model_dump(exclude_none=True) if cleaning is not None else None
    return audio


def _transcription(settings: OpenAISettings, asked: Transcription) -> Json:
    """With the call's language and key terms, where it has none of its own and the model takes them."""
    fields: Json = asked.model_dump(mode="json", exclude_none=True)
    if settings.language is not None and asked.languages is None:
        subtag = settings.language.partition("-")[0].lower()
        if len(subtag) == 2:  # ISO 639-1; the API knows no other.
            fields.setdefault("language", subtag)
    if settings.key_terms:
        if asked.takes_keywords:
            fields.setdefault("keywords", list(settings.key_terms))
        elif asked.takes_a_prompt:
            fields.setdefault("prompt", ", ".join(settings.key_terms))
    return fields


def _audio_out(settings: OpenAISettings, formats: Formats) -> Json:
    voice = settings.voice
    if isinstance(voice, str) and voice.startswith("voice_"):
        voice = CustomVoice(id=voice)
    return {
        "format": format_object(formats.downlink),
        "voice": voice if isinstance(voice, str) else voice.model_dump(),
        "speed": settings.speed,
    }


def _audio_patch(before: Json, after: Json) -> Json:
    changed: Json = {}
    for way in after:
        old, new = optional_table(before, way), optional_table(after, way)
        changed[way] = {key: value for key, value in new.items() if key == "format" or old.get(key) != value}
    return changed


def _same(asked: object, got: object) -> bool:
    if isinstance(asked, float) and isinstance(got, int | float):
        return math.isclose(asked, got, rel_tol=1e-3)  # 1.1 came back as 1.100000023841858.
    return asked == got
