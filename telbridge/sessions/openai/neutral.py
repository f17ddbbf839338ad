"""The neutral vocabulary in the words of the OpenAI Realtime API, and what the API can do at all.

Sources: guides realtime, realtime-vad and realtime-conversations on developers.openai.com; types of the
`openai` SDK 3.52.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.openai.parts import ChosenFunction, ChosenMcp, FunctionTool, McpTool
from telbridge.sessions.openai.settings import OpenAISettings, ServerVad
from telbridge.sessions.provider import Ability, Lock, Support, Way, deep_merged, impossible, merged

MAX_OUTPUT_TOKENS: Final = 4096

VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")

_IDLE_MS: Final = range(5_000, 30_001)
"""Quoted widely, by the vendor nowhere."""

_ENDING_MODELS: Final = (
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-12-15",
)

_MODE: Final = {"vad": "server_vad", "semantic": "semantic_vad", "off": None}
_TURN_FIELDS: Final = {
    "threshold": ("server_vad", "threshold"),
    "prefix_ms": ("server_vad", "prefix_padding_ms"),
    "silence_ms": ("server_vad", "silence_duration_ms"),
    "eagerness": ("semantic_vad", "eagerness"),
}

ABILITIES: Final = {
    Ability.INSTRUCTIONS: Support(Way.NATIVE, "instructions"),
    Ability.VOICE: Support(Way.NATIVE, "audio.output.voice", Lock.SPOKEN),
    Ability.LANGUAGE: Support(
        Way.EMULATED, "a line of the instructions, and audio.input.transcription.language"
    ),
    Ability.KEY_TERMS: Support(
        Way.EMULATED, "a line of the instructions, and audio.input.transcription.keywords or prompt"
    ),
    Ability.TURN_MODE: Support(Way.NATIVE, "audio.input.turn_detection: server_vad, semantic_vad, null"),
    Ability.TURN_THRESHOLD: Support(Way.NATIVE, "turn_detection.threshold, server_vad only"),
    Ability.TURN_PREFIX: Support(Way.NATIVE, "turn_detection.prefix_padding_ms, server_vad only"),
    Ability.TURN_SILENCE: Support(Way.NATIVE, "turn_detection.silence_duration_ms, server_vad only"),
    Ability.TURN_EAGERNESS: Support(Way.NATIVE, "turn_detection.eagerness, semantic_vad only"),
    Ability.BARGE_IN: Support(Way.NATIVE, "turn_detection.interrupt_response"),
    Ability.NOISE_REDUCTION: Support(Way.NATIVE, "audio.input.noise_reduction"),
    Ability.ECHO_CANCELLATION: impossible(Ability.ECHO_CANCELLATION),
    Ability.TEMPERATURE: impossible(Ability.TEMPERATURE),
    Ability.MAX_OUTPUT_TOKENS: Support(Way.NATIVE, f"max_output_tokens, at most {MAX_OUTPUT_TOKENS}"),
    Ability.REASONING_EFFORT: Support(Way.NATIVE, "reasoning.effort, gpt-realtime-2 models only"),
    Ability.TOOLS: Support(Way.NATIVE, "tools"),
    Ability.USER_ID: Support(
        Way.NATIVE,
        "header OpenAI-Safety-Identifier; hashed if it is no printable ASCII",
        Lock.CONNECT,
    ),
    Ability.USER_PROFILE: Support(Way.EMULATED, "a line of the instructions"),
    Ability.MEMORY_ID: impossible(Ability.MEMORY_ID),
    Ability.TAGS: Support(Way.NATIVE, "tracing.metadata, which switches tracing on", Lock.START),
    Ability.MODALITIES: Support(Way.NATIVE, "output_modalities; audio brings the words as well"),
    Ability.IDLE_TIMEOUT: Support(
        Way.NATIVE, "turn_detection.idle_timeout_ms, server_vad only: the agent speaks up"
    ),
    Ability.GREETING_VERBATIM: Support(Way.EMULATED, "response.create with instructions; near-verbatim"),
    Ability.GREETING_GENERATED: Support(Way.EMULATED, "a system message and response.create"),
    Ability.SAY: Support(Way.EMULATED, "response.create with instructions; near-verbatim"),
    Ability.REPLY_NOW: Support(Way.NATIVE, "response.create"),
    Ability.TEXT_AS_CALLER: Support(Way.NATIVE, "conversation.item.create, role user"),
    Ability.TEXT_AS_CONTEXT: Support(Way.NATIVE, "conversation.item.create, role system"),
    Ability.INTERRUPT: Support(Way.NATIVE, "response.cancel"),
    Ability.REPORT_HEARD: Support(Way.NATIVE, "conversation.item.truncate, for each audio item"),
    Ability.CALLER_TRANSCRIPT: Support(Way.NATIVE, "audio.input.transcription, billed separately"),
    Ability.AGENT_TRANSCRIPT: Support(Way.NATIVE, "response.output_audio_transcript.done"),
    Ability.LATENCY: impossible(Ability.LATENCY),
    Ability.RESUME: Support(Way.EMULATED, "a new session that is told what was said"),
}

FORMATS: Final = "μ-law and A-law 8 kHz untouched, or linear 24 kHz; each way by itself"


def with_neutral(settings: OpenAISettings, neutral: NeutralSettings) -> OpenAISettings:
    """See `Provider.with_neutral`. Parts of turn detection that its mode does not have are left out."""
    changes, _ = _changes(settings, neutral, may_choose="turn_detection" not in settings.model_fields_set)
    if not changes:
        return settings
    named = settings.model_dump(exclude_unset=True)
    tree = deep_merged(changes, named)
    if "tools" in named and "tools" in changes:  # Those of the same name win; the others stand beside them.
        names = {tool.get("name") for tool in named["tools"]}
        others = [tool for tool in changes["tools"] if tool["name"] not in names]
        tree["tools"] = [*named["tools"], *others]
    return OpenAISettings.model_validate(tree)


def misfits(settings: OpenAISettings | None, neutral: NeutralSettings) -> list[tuple[str, str]]:
    """See `Provider.misfits`."""
    own = settings or OpenAISettings()
    changes, without_place = _changes(own, neutral, may_choose="turn_detection" not in own.model_fields_set)
    return [(key, _no_place(changes)) for key in without_place]


def _no_place(changes: Json) -> str:
    mode = changes["turn_detection"]
    return f"{mode['type']} has no such setting" if isinstance(mode, dict) else "turn detection is off"


def changed(
    settings: OpenAISettings, neutral: NeutralSettings, vendor: Json, *, spoken: bool
) -> OpenAISettings:
    """The settings after an update. UpdateImpossible for what cannot be asked of the running session."""
    changes, without_place = _changes(settings, neutral, may_choose=True)
    if without_place:
        raise UpdateImpossible(without_place[0], _no_place(changes))
    kept = [tool.model_dump() for tool in settings.tools if isinstance(tool, McpTool)]
    if "tools" in changes:
        changes["tools"] = [*changes["tools"], *kept]
    for step in (changes, vendor):
        settings = merged(_ready_for(settings, step), step, spoken=spoken)
    for key, why in refusals(settings):
        raise UpdateImpossible(key, why)
    return settings


def refusals(settings: OpenAISettings) -> Sequence[tuple[str, str]]:
    """See `Provider.refusals`."""
    names = {tool.name for tool in settings.tools if isinstance(tool, FunctionTool)}
    labels = {tool.server_label for tool in settings.tools if isinstance(tool, McpTool)}
    match settings.tool_choice:
        case ChosenFunction(name=name) if name not in names:
            return [("tool_choice.name", f"no tool is called {name}: write one of tools")]
        case ChosenMcp(server_label=label) if label not in labels:
            return [("tool_choice.server_label", f"no MCP server is called {label}: write one of tools")]
    return ()


def warnings(settings: OpenAISettings) -> Sequence[tuple[str, str]]:
    """See `Provider.warnings`; and what the API is known to take and to do nothing with."""
    return list(_warnings(settings))


def _warnings(settings: OpenAISettings) -> Iterator[tuple[str, str]]:
    if settings.output_modalities == ("text",):
        yield "output_modalities", "the agent writes and does not speak: the caller will hear nothing"
    turns = settings.turn_detection
    if turns is None or not turns.create_response:
        yield "turn_detection", "the agent will answer only when the dialplan asks it to"
    idle_ms = turns.idle_timeout_ms if isinstance(turns, ServerVad) else None
    if idle_ms is not None and idle_ms not in _IDLE_MS:
        yield "turn_detection.idle_timeout_ms", "the API is said to take 5000 to 30000 only"
    if settings.reasoning_effort is not None and not settings.reasons:
        yield "reasoning_effort", f"{settings.model} does not reason: not sent"
    if settings.model in _ENDING_MODELS:
        yield "model", f"{settings.model} ends on 2027-01-20: use gpt-realtime-2.1"
    voice = settings.voice
    if isinstance(voice, str) and not voice.startswith("voice_") and voice not in VOICES:
        yield "voice", f"not known to be a voice of this API: {', '.join(VOICES)}"
    if settings.include:
        yield "include", "passed on; telbridge makes no use of it"
    for index, tool in enumerate(settings.tools):
        if isinstance(tool, McpTool) and tool.require_approval != "never":
            yield (
                f"tools[{index}].require_approval",
                'nobody on a telephone can approve: such calls are denied; write "never"',
            )


# ---------------------------------------------------------------- from neutral to vendor


def _changes(
    settings: OpenAISettings, neutral: NeutralSettings, *, may_choose: bool
) -> tuple[Json, list[str]]:
    """The vendor's fields for what is set in `neutral`, and the neutral keys that found no place in the
    mode of turn detection. `may_choose`: the mode may follow from them."""
    changes: Json = {
        name: value
        for name in ("instructions", "voice", "language", "key_terms", "reasoning_effort", "user_profile")
        if (value := getattr(neutral, name)) is not None
    }
    if neutral.noise_reduction is not None:
        off = neutral.noise_reduction == "off"
        changes["noise_reduction"] = None if off else {"type": neutral.noise_reduction}
    if neutral.max_output_tokens is not None:
        tokens = neutral.max_output_tokens
        changes["max_output_tokens"] = tokens if tokens == "inf" else min(tokens, MAX_OUTPUT_TOKENS)
    if neutral.tools is not None:
        changes["tools"] = [FunctionTool.of(tool).model_dump() for tool in neutral.tools]
    if neutral.user_id is not None:
        changes["safety_identifier"] = _identifier(neutral.user_id)
    if neutral.tags is not None:
        changes["tracing"] = {"metadata": dict(neutral.tags)}
    if neutral.modalities is not None:
        changes["output_modalities"] = ["audio"] if "audio" in neutral.modalities else ["text"]
    turns, without_place = _turn_changes(settings, neutral, may_choose=may_choose)
    return changes | turns, without_place


def _turn_changes(
    settings: OpenAISettings, neutral: NeutralSettings, *, may_choose: bool
) -> tuple[Json, list[str]]:
    asked = neutral.turn_detection or TurnDetection()
    wanted = {
        f"turn_detection.{name}": (mode, field, value)
        for name, (mode, field) in _TURN_FIELDS.items()
        if (value := getattr(asked, name)) is not None
    }
    if neutral.idle_timeout_s is not None:
        idle_ms = max(1, round(neutral.idle_timeout_s * 1000))
        wanted["idle_timeout_s"] = ("server_vad", "idle_timeout_ms", idle_ms)
    if neutral.barge_in is not None:
        wanted["barge_in"] = ("any", "interrupt_response", neutral.barge_in)
    if not wanted and asked.mode is None:
        return {}, []
    kind: str | None = settings.turn_detection.type if settings.turn_detection is not None else None
    if may_choose and asked.mode is not None:
        kind = _MODE[asked.mode]
    elif may_choose and {mode for mode, _, _ in wanted.values()} - {"any"} == {"semantic_vad"}:
        kind = "semantic_vad"
    # Without turn detection nothing of the caller's interrupts: barge-in off is then already true.
    without_place = [
        key
        for key, (mode, _, value) in wanted.items()
        if mode != kind and not (mode == "any" and (kind is not None or value is False))
    ]
    if kind is None:
        return {"turn_detection": None}, without_place
    fields = {field: value for mode, field, value in wanted.values() if mode in (kind, "any")}
    return {"turn_detection": {"type": kind, **fields}}, without_place


def _ready_for(settings: OpenAISettings, changes: Json) -> OpenAISettings:
    """Another mode of turn detection does not take over the fields of the old one."""
    asked, now = changes.get("turn_detection"), settings.turn_detection
    if not isinstance(asked, dict) or now is None or asked.get("type", now.type) == now.type:
        return settings
    both = {"create_response": now.create_response, "interrupt_response": now.interrupt_response}
    tree = settings.model_dump(exclude_unset=True)
    tree["turn_detection"] = {**both, "type": asked["type"]}
    try:
        return OpenAISettings.model_validate(tree)
    except ValueError:
        return settings  # No such mode; merging will say so.


def _identifier(user_id: str) -> str:
    """What a header can carry."""
    if re.fullmatch(r"[\x21-\x7e]{1,512}", user_id):
        return user_id
    return hashlib.sha256(user_id.encode()).hexdigest()
