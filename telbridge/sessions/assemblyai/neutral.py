"""The neutral vocabulary in the words of the AssemblyAI Voice Agent API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.assemblyai.settings import AssemblyAISettings
from telbridge.sessions.provider import (
    ALWAYS_SPEAKS,
    Ability,
    Lock,
    Support,
    Way,
    deep_merged,
    impossible,
    silent_misfit,
)

_SHORTEST_SILENCE_MS: Final = 50
_MODES: Final = {"low": "max_accuracy", "medium": "balanced", "auto": "balanced", "high": "min_latency"}
_FOCUS: Final = {"near_field": "near-field", "far_field": "far-field"}


def _native(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.NATIVE, how, lock)


def _emulated(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.EMULATED, how, lock)


ABILITIES: Final[Mapping[Ability, Support]] = {
    Ability.INSTRUCTIONS: _native("session.system_prompt"),
    Ability.VOICE: _native("session.output.voice; a stored agent (agent_id) has its own", Lock.START),
    Ability.LANGUAGE: _native(
        "session.input.language_codes, without the region; the agent's own language follows prompt and voice"
    ),
    Ability.KEY_TERMS: _native("session.input.keyterms, at most 100"),
    Ability.TURN_MODE: _emulated(
        "always semantic; vad: silence_ms becomes min_silence and max_silence; there is no off"
    ),
    Ability.TURN_THRESHOLD: _native("session.input.turn_detection.vad_threshold"),
    Ability.TURN_PREFIX: impossible(Ability.TURN_PREFIX),
    Ability.TURN_SILENCE: _native("session.input.turn_detection.min_silence, at least 50 ms"),
    Ability.TURN_EAGERNESS: _emulated(
        "session.input.transcription_mode: high min_latency, low max_accuracy, otherwise balanced"
    ),
    Ability.BARGE_IN: _native("session.input.turn_detection.interrupt_response"),
    Ability.NOISE_REDUCTION: _native("session.input.voice_focus; cannot be switched off"),
    Ability.ECHO_CANCELLATION: impossible(Ability.ECHO_CANCELLATION),
    Ability.TEMPERATURE: impossible(Ability.TEMPERATURE),
    Ability.MAX_OUTPUT_TOKENS: impossible(Ability.MAX_OUTPUT_TOKENS),
    Ability.REASONING_EFFORT: impossible(Ability.REASONING_EFFORT),
    Ability.TOOLS: _native("session.tools"),
    Ability.USER_ID: impossible(Ability.USER_ID),
    Ability.USER_PROFILE: _emulated("put at the end of session.system_prompt"),
    Ability.MEMORY_ID: impossible(Ability.MEMORY_ID),
    Ability.TAGS: impossible(Ability.TAGS),
    Ability.MODALITIES: ALWAYS_SPEAKS,
    Ability.IDLE_TIMEOUT: impossible(Ability.IDLE_TIMEOUT),
    Ability.GREETING_VERBATIM: _native("session.greeting; a stored agent: reply.create", Lock.START),
    Ability.GREETING_GENERATED: _native("reply.create after session.ready", Lock.START),
    Ability.SAY: _emulated("reply.create with the words in its instructions"),
    Ability.REPLY_NOW: _native("reply.create, once no reply runs"),
    Ability.TEXT_AS_CALLER: _emulated(
        "conversation.message, and the text in reply.create or system_prompt: the vendor's own model was "
        "seen not to read the message"
    ),
    Ability.TEXT_AS_CONTEXT: _emulated("put at the end of session.system_prompt"),
    Ability.INTERRUPT: _emulated(
        "the rest of the reply is not played; the agent believes that it was heard, the API has no cancel"
    ),
    Ability.REPORT_HEARD: impossible(Ability.REPORT_HEARD),
    Ability.CALLER_TRANSCRIPT: _native("transcript.user"),
    Ability.AGENT_TRANSCRIPT: _native("transcript.agent.delta and transcript.agent"),
    Ability.LATENCY: impossible(Ability.LATENCY),
    Ability.RESUME: _native(
        "session.resume once within 30 s (refused by live servers of September 2026), then a new session "
        "with the conversation in its system_prompt"
    ),
}


def with_neutral(settings: AssemblyAISettings, neutral: NeutralSettings) -> AssemblyAISettings:
    """See `Provider.with_neutral`. ValidationError where a value fits no field of the API (101 key terms)."""
    named = settings.model_dump(exclude_unset=True)
    return AssemblyAISettings.model_validate(deep_merged(neutral_changes(neutral), named))


def neutral_changes(neutral: NeutralSettings) -> Json:
    """What is set in `neutral` as a tree of `AssemblyAISettings`; what has no counterpart is left out."""
    listening: Json = _turns(neutral.turn_detection or TurnDetection())
    if neutral.barge_in is not None:
        detection = {"interrupt_response": neutral.barge_in}
        listening = deep_merged(listening, {"turn_detection": detection})
    if neutral.language is not None:
        listening["language_codes"] = (neutral.language.partition("-")[0].lower(),)
    if neutral.key_terms is not None:
        listening["keyterms"] = neutral.key_terms
    if neutral.noise_reduction in _FOCUS:
        listening["voice_focus"] = _FOCUS[neutral.noise_reduction]
    changes: Json = {"input": listening} if listening else {}
    if neutral.instructions is not None:
        changes["system_prompt"] = neutral.instructions
    if neutral.voice is not None:
        changes["output"] = {"voice": neutral.voice}
    if neutral.tools is not None:
        changes["tools"] = tuple({"type": "function", **tool.model_dump()} for tool in neutral.tools)
    if neutral.user_profile is not None:
        changes["caller_facts"] = neutral.user_profile
    return changes


def misfits(settings: AssemblyAISettings | None, neutral: NeutralSettings) -> list[tuple[str, str]]:
    """See `Provider.misfits`."""
    found = silent_misfit(neutral)
    if neutral.noise_reduction == "off":
        found.append(("noise_reduction", "can't be switched off: write near_field or far_field"))
    if neutral.turn_detection is not None and neutral.turn_detection.mode == "off":
        found.append(("turn_detection.mode", "can't be switched off: write semantic or vad"))
    return found


def _turns(asked: TurnDetection) -> Json:
    detection: Json = {}
    if asked.threshold is not None:
        detection["vad_threshold"] = asked.threshold
    if asked.silence_ms is not None:
        detection["min_silence"] = max(_SHORTEST_SILENCE_MS, asked.silence_ms)
        if asked.mode == "vad":
            detection["max_silence"] = detection["min_silence"]
    listening: Json = {"turn_detection": detection} if detection else {}
    if asked.eagerness is not None:
        listening["transcription_mode"] = _MODES[asked.eagerness]
    return listening
