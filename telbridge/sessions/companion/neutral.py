"""The neutral vocabulary in the Companion API's words, and what of it this API can do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.companion.settings import CLIENT_ID_PATTERN, CompanionSettings
from telbridge.sessions.provider import Ability, Lock, Support, Way, deep_merged, impossible, neutral_keys

_NOISE: Final = {"near_field": "nearField", "far_field": "farField"}
_CLIENT_ID: Final = re.compile(CLIENT_ID_PATTERN.removesuffix("$"))
_HASH_DIGITS: Final = 32

OF_THE_AGENT: Final = (
    "companionId",
    "functions",
    "faqCollections",
    "knowledgeBaseId",
    "language",
    "disableIdleTimeout",
    "useWebSearch",
    "mode",
)
"""Fields of an ad-hoc session that the connections of an agent do not have."""


def with_neutral(settings: CompanionSettings, neutral: NeutralSettings) -> CompanionSettings:
    """See `Provider.with_neutral`. ValidationError for tags longer than the API's limits."""
    named = settings.model_dump(exclude_unset=True)
    return CompanionSettings.model_validate(
        deep_merged(neutral_changes(neutral, tool_ids=settings.tool_ids), named)
    )


def neutral_changes(neutral: NeutralSettings, *, tool_ids: Mapping[str, str]) -> Json:
    """What is set in `neutral` as a tree of `CompanionSettings`; what has no counterpart is left out, and
    so is a tool without an id at the vendor."""
    changes: Json = {}
    if neutral.language is not None:
        changes["language"] = neutral.language.partition("-")[0].lower()
    if (memory := neutral.memory_id or neutral.user_id) is not None:
        changes["externalClientId"] = client_id(memory)
    if neutral.user_profile is not None:
        changes["externalClientProfile"] = neutral.user_profile
    if neutral.tags is not None:
        changes["tags"] = neutral.tags
    if neutral.modalities is not None:
        changes["modality"] = "audio" if "audio" in neutral.modalities else "text"
    if neutral.barge_in is not None:
        changes["barge_in"] = neutral.barge_in
    if neutral.tools is not None:
        changes["functions"] = tuple(tool_ids[tool.name] for tool in neutral.tools if tool.name in tool_ids)
    provider = _provider_config(neutral)
    return {**changes, "providerConfig": provider} if provider else changes


def _provider_config(neutral: NeutralSettings) -> Json:
    settings: Json = {}
    if neutral.instructions is not None:
        settings["instructions"] = neutral.instructions
    if neutral.temperature is not None:
        settings["temperature"] = neutral.temperature
    if turns := _turn_detection(neutral.turn_detection or TurnDetection()):
        settings["turnDetection"] = turns
    if neutral.noise_reduction in _NOISE:
        settings["noiseReduction"] = {"type": _NOISE[neutral.noise_reduction]}
    config: Json = {"settings": settings} if settings else {}
    return config if neutral.voice is None else {**config, "voiceId": neutral.voice}


def _turn_detection(asked: TurnDetection) -> Json:
    vendor = {
        "threshold": asked.threshold,
        "prefix_padding_ms": asked.prefix_ms,
        "silence_duration_ms": asked.silence_ms,
    }
    return {key: value for key, value in vendor.items() if value is not None}


def client_id(identity: str) -> str:
    """An id that the API takes: as it is, or a stable hash of one that is too long or has other letters."""
    if _CLIENT_ID.fullmatch(identity):
        return identity
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def misfits(settings: CompanionSettings | None, neutral: NeutralSettings) -> list[tuple[str, str]]:
    """See `Provider.misfits`."""
    found: list[tuple[str, str]] = []
    mode = neutral.turn_detection.mode if neutral.turn_detection is not None else None
    if mode == "off":
        found.append((Ability.TURN_MODE, "can't be switched off: write vad"))
    elif mode == "semantic":
        found.append((Ability.TURN_MODE, "turns are detected by voice only: write vad"))
    if settings is not None and settings.agent_id is not None:
        why = "an agent has its own: leave it out, or write companionId instead of agent_id"
        found += [(key, why) for key in neutral_keys(neutral) if key in _AGENTS_OWN]
    return found


def refusals(settings: CompanionSettings) -> Sequence[tuple[str, str]]:
    """See `Provider.refusals`."""
    if settings.agent_id is None:
        if settings.companionId is None:
            return [("companionId", "is missing: write the id of a companion, or agent_id instead")]
        return []
    found = [
        (key, "an agent has its own: remove it, or write companionId instead of agent_id")
        for key in OF_THE_AGENT
        if key in settings.model_fields_set
    ]
    config = settings.providerConfig
    of_agent = {
        "providerConfig.voiceId": config.voiceId,
        "providerConfig.useGreenVideo": config.useGreenVideo,
        "providerConfig.settings.noiseReduction": config.settings.noiseReduction.type,
    }
    return found + [
        (key, "an agent has its own: set it at the agent, or write companionId instead of agent_id")
        for key, value in of_agent.items()
        if value is not None
    ]


def warnings(settings: CompanionSettings) -> Sequence[tuple[str, str]]:
    """See `Provider.warnings`; and where the vendor's pages disagree with what was seen live."""
    found = []
    if settings.providerConfig.useGreenVideo is not None:
        found.append(("providerConfig.useGreenVideo", "passed on, but a telephone shows no video"))
    if settings.modality == "text":
        found.append(("modality", "passed on, but an agent without audio says nothing on a telephone"))
    if settings.mode == "puppeteer":
        found.append(("mode", "passed on, but a puppet only says what the `talk` command tells it to"))
    if settings.faqCollections is not None and len(settings.faqCollections) > 1:
        found.append(("faqCollections", "passed on, but newer pages of the vendor allow one only (HTTP 400)"))
    if settings.agent_id is None and settings.providerConfig.voiceId is None:
        found.append(("providerConfig.voiceId", "not set; the API was seen to refuse this (HTTP 400)"))
    return found


def _native(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.NATIVE, how, lock)


def _emulated(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.EMULATED, how, lock)


_AGENTS_OWN: Final = frozenset({Ability.VOICE, Ability.LANGUAGE, Ability.NOISE_REDUCTION})
_SETTINGS: Final = "providerConfig.settings"
_AD_HOC: Final = "(with agent_id the agent's own counts)"

ABILITIES: Final[Mapping[Ability, Support]] = {
    Ability.INSTRUCTIONS: _native(f"{_SETTINGS}.instructions; later, and with agent_id, set_settings"),
    Ability.VOICE: _native(f"providerConfig.voiceId {_AD_HOC}", Lock.CONNECT),
    Ability.LANGUAGE: _native(f"language, the first part of the tag {_AD_HOC}", Lock.CONNECT),
    Ability.KEY_TERMS: impossible(Ability.KEY_TERMS),
    Ability.TURN_MODE: _native("vad only, it is always on; semantic and off are refused"),
    Ability.TURN_THRESHOLD: _native(f"{_SETTINGS}.turnDetection.threshold; later set_settings"),
    Ability.TURN_PREFIX: _native(f"{_SETTINGS}.turnDetection.prefix_padding_ms; later set_settings"),
    Ability.TURN_SILENCE: _native(f"{_SETTINGS}.turnDetection.silence_duration_ms; later set_settings"),
    Ability.TURN_EAGERNESS: impossible(Ability.TURN_EAGERNESS),
    Ability.BARGE_IN: _emulated(
        "always on; off: silence goes up instead of the caller while the agent speaks"
    ),
    Ability.NOISE_REDUCTION: _native(
        f"{_SETTINGS}.noiseReduction; off: not sent, which is the API's default {_AD_HOC}", Lock.CONNECT
    ),
    Ability.ECHO_CANCELLATION: impossible(Ability.ECHO_CANCELLATION),
    Ability.TEMPERATURE: _native(f"{_SETTINGS}.temperature; later, and with agent_id, set_settings"),
    Ability.MAX_OUTPUT_TOKENS: impossible(Ability.MAX_OUTPUT_TOKENS),
    Ability.REASONING_EFFORT: impossible(Ability.REASONING_EFFORT),
    Ability.TOOLS: _emulated(
        "created at the vendor beforehand: `functions`, ids from tool_ids by name, a tool without one is "
        f"left out {_AD_HOC}",
        Lock.CONNECT,
    ),
    Ability.USER_ID: _native("externalClientId, hashed where it does not fit", Lock.CONNECT),
    Ability.USER_PROFILE: _native("externalClientProfile", Lock.CONNECT),
    Ability.MEMORY_ID: _native("externalClientId; it wins over user_id", Lock.CONNECT),
    Ability.TAGS: _native("tags", Lock.CONNECT),
    Ability.MODALITIES: _native("modality", Lock.CONNECT),
    Ability.IDLE_TIMEOUT: Support(
        Way.IMPOSSIBLE, "the API has 3 minutes or none: write companion.disableIdleTimeout"
    ),
    Ability.GREETING_VERBATIM: _emulated("initialSpeech, told to say exactly this; not guaranteed"),
    Ability.GREETING_GENERATED: _native("initialSpeech; after the start a system message"),
    Ability.SAY: _emulated("a system message that tells it to say exactly this; not guaranteed"),
    Ability.REPLY_NOW: _native("send_message with trigger_response"),
    Ability.TEXT_AS_CALLER: _native("send_message, role user"),
    Ability.TEXT_AS_CONTEXT: _native("send_message, role system"),
    Ability.INTERRUPT: _emulated("a system message that interrupts; the rest of the reply is not played"),
    Ability.REPORT_HEARD: impossible(Ability.REPORT_HEARD),
    Ability.CALLER_TRANSCRIPT: _native("message_received, user completed"),
    Ability.AGENT_TRANSCRIPT: _native("message_received, assistant delta and completed"),
    Ability.LATENCY: impossible(Ability.LATENCY),
    Ability.RESUME: _emulated("a new session that is told the conversation so far"),
}
