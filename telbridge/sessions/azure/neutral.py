"""The neutral vocabulary in the words of Azure Voice Live.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference", "How to use the Voice Live API".
"""

from __future__ import annotations

import json
from typing import Final

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.azure.parts import FunctionTool, Transcription
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.azure.turns import DETECTORS, SEMANTIC_LANGUAGES
from telbridge.sessions.azure.voices import OPENAI_NAMES
from telbridge.sessions.provider import deep_merged, merged

MAX_OUTPUT_TOKENS: Final = 4096
TEMPERATURES: Final = (0.6, 1.0)
"""Where the two ranges that the vendor's pages give overlap."""

_PROFILE: Final = "\n\nAbout the caller, as JSON: "
_VAD_FIELDS: Final = {
    "threshold": "threshold",
    "prefix_ms": "prefix_padding_ms",
    "silence_ms": "silence_duration_ms",
}
_LEVEL_OF_EAGERNESS: Final = {"low": "high", "medium": "medium", "high": "low", "auto": "default"}
"""The surer the detector must be, the later it ends a turn."""
_END_MODEL: Final = {
    "azure_semantic_vad_en": "semantic_detection_v1_en",
    "azure_semantic_vad_multilingual": "semantic_detection_v1_multilingual",
}
_MERGED: Final = frozenset({"turn_detection", "input_audio_transcription", "metadata", "agent"})
"""Tables in which a field that was set by name wins, and not the whole table."""
_TAGGED: Final = ("turn_detection", "voice", "interim_response")
"""Tables of several kinds: another `type` has other fields."""


def with_neutral(settings: AzureSettings, neutral: NeutralSettings) -> AzureSettings:
    """See `Provider.with_neutral`. Two things join what was set by name: functions of other names, and the
    caller's profile, at the end of the instructions."""
    named = settings.model_dump(exclude_unset=True)
    wish = Wish(settings, neutral, may_choose="turn_detection" not in named)
    changes = {
        key: value
        for key, value in wish.changes.items()
        if key not in named or (key in _MERGED and isinstance(named[key], dict))
    }
    tree = deep_merged(changes, named)
    if "instructions" in named and neutral.user_profile is not None:
        tree["instructions"] = with_profile(named["instructions"] or "", None, neutral.user_profile)
    if named.get("tools") is not None and neutral.tools is not None:
        tree["tools"] = _joined(settings, wish.changes["tools"])
    return AzureSettings.model_validate(tree)


def changed(
    settings: AzureSettings, neutral: NeutralSettings, vendor: Json, *, spoken: bool
) -> AzureSettings:
    """The settings after an update. UpdateImpossible for what cannot be asked of the running session."""
    wish = Wish(settings, neutral, may_choose=True)
    if wish.without_place:
        key, why = wish.without_place[0]
        raise UpdateImpossible(key, why)
    if "tools" in wish.changes:
        wish.changes["tools"] += [
            tool.model_dump(exclude_none=True)
            for tool in settings.tools or ()
            if not isinstance(tool, FunctionTool)
        ]
    _refuse_echo_lock(vendor)
    for step in (wish.changes, vendor):
        settings = merged(_ready_for(settings, step), step, spoken=spoken)
    return settings


def misfits(settings: AzureSettings | None, neutral: NeutralSettings) -> list[tuple[str, str]]:
    """See `Provider.misfits`. Most of them depend on the model."""
    own = settings or AzureSettings()
    found = Wish(own, neutral, may_choose="turn_detection" not in own.model_fields_set).without_place
    if settings is not None:
        if neutral.memory_id is not None and settings.agent is None:
            found.append(("memory_id", "only an agent remembers: write agent, or leave it out"))
        return found
    off = neutral.turn_detection is not None and neutral.turn_detection.mode == "off"
    return [(key, why) for key, why in found if off and key in ("turn_detection", "barge_in")]


class Wish:
    """What is set in the neutral settings, in the vendor's fields."""

    def __init__(self, settings: AzureSettings, neutral: NeutralSettings, *, may_choose: bool) -> None:
        """`may_choose`: the kind of turn detection is not settled yet."""
        self._settings = settings
        self._neutral = neutral
        self.changes: Json = {}
        self.without_place: list[tuple[str, str]] = []
        """Key and reason of what this model or this detector does not have."""
        self._instructions()
        self._voice()
        self._recognition()
        self._turns(may_choose)
        self._cleaning()
        self._model()
        self._labels()

    def _instructions(self) -> None:
        neutral = self._neutral
        if neutral.instructions is None and neutral.user_profile is None:
            return
        if self._settings.agent is not None:
            key = "instructions" if neutral.instructions is not None else "user_profile"
            self.without_place.append((key, "the agent has its own instructions"))
            return
        current = self._settings.instructions or ""
        self.changes["instructions"] = with_profile(current, neutral.instructions, neutral.user_profile)

    def _voice(self) -> None:
        name = self._neutral.voice
        if name is None:
            return
        kind = "azure-standard"
        if name.lower() in OPENAI_NAMES:
            kind, name = "openai", name.lower()
        elif self._settings.agent is None and self._settings.model == "azure-realtime":
            kind = "azure-realtime-native"
        self.changes["voice"] = {"type": kind, "name": name}

    def _recognition(self) -> None:
        neutral = self._neutral
        if neutral.language is None and neutral.key_terms is None:
            return
        now = self._settings.input_audio_transcription
        if isinstance(now, Transcription):
            model = now.model
        else:
            model = "gpt-4o-mini-transcribe" if self._settings.speech_to_speech else "azure-speech"
        openai = model.startswith(("whisper", "gpt-4o"))
        table: Json = {"model": model}
        if neutral.language is not None:
            table["language"] = _primary(neutral.language) if openai else neutral.language
        if neutral.key_terms is not None and openai:
            table["prompt"] = ", ".join(neutral.key_terms)
        elif neutral.key_terms is not None:
            table["phrase_list"] = list(neutral.key_terms)
        self.changes["input_audio_transcription"] = table

    def _turns(self, may_choose: bool) -> None:
        asked = self._neutral.turn_detection or TurnDetection()
        barge_in = self._neutral.barge_in
        table = self._kind(asked, may_choose)
        if table is None:
            if asked.mode == "off":
                self.changes["turn_detection"] = "off"
            if asked.mode != "off" and asked.model_fields_set:
                self.without_place.append(("turn_detection", "turn detection is off: choose a mode"))
            if barge_in is not None:
                self.without_place.append(("barge_in", "turn detection is off: choose a mode"))
            return
        self._put_vad_fields(asked, table)
        self._put_eagerness(asked, table)
        if barge_in is not None:
            table["interrupt_response"] = barge_in
        if asked.model_fields_set or barge_in is not None or "languages" in table:
            self.changes["turn_detection"] = table

    def _kind(self, asked: TurnDetection, may_choose: bool) -> Json | None:
        """The detector to be; None for none."""
        settings = self._settings
        now = None if settings.turns_by_hand else getattr(settings.turn_detection, "type", None)
        if not may_choose or (asked.mode is None and "turn_detection" in settings.model_fields_set):
            return None if now is None else {"type": now}
        if asked.mode == "off":
            return None
        if asked.mode == "vad":
            return {"type": "server_vad"}
        return self._semantic(asked, now)

    def _semantic(self, asked: TurnDetection, now: str | None) -> Json:
        """By language; OpenAI's own where its one knob is asked for, and none of the others."""
        knobs = asked.threshold, asked.prefix_ms, asked.silence_ms
        if self._settings.speech_to_speech and asked.eagerness is not None and knobs == (None, None, None):
            return {"type": "semantic_vad"}
        language = self._neutral.language
        if language is None and now is not None and "semantic" in now and now != "semantic_vad":
            return {"type": now}
        primary = _primary(language or "en")
        if primary != "en" and primary in SEMANTIC_LANGUAGES:
            return {"type": "azure_semantic_vad_multilingual", "languages": [primary]}
        return {"type": "azure_semantic_vad"}

    def _put_vad_fields(self, asked: TurnDetection, table: Json) -> None:
        for name, key in _VAD_FIELDS.items():
            value = getattr(asked, name)
            if value is None:
                continue
            if table["type"] == "semantic_vad":
                self.without_place.append((f"turn_detection.{name}", "semantic_vad has no such setting"))
            else:
                table[key] = value

    def _put_eagerness(self, asked: TurnDetection, table: Json) -> None:
        if asked.eagerness is None:
            return
        if table["type"] == "semantic_vad":
            table["eagerness"] = asked.eagerness
        elif self._settings.speech_to_speech:
            why = f"{table['type']} has no such setting with {self._settings.model}"
            self.without_place.append(("turn_detection.eagerness", why))
        else:
            table["end_of_utterance_detection"] = {
                "model": _END_MODEL.get(table["type"], "semantic_detection_v1"),
                "threshold_level": _LEVEL_OF_EAGERNESS[asked.eagerness],
            }

    def _cleaning(self) -> None:
        noise, echo = self._neutral.noise_reduction, self._neutral.echo_cancellation
        if noise == "off":
            self.changes["input_audio_noise_reduction"] = "off"
        elif noise is not None:
            kind = noise if self._settings.speech_to_speech else "azure_deep_noise_suppression"
            self.changes["input_audio_noise_reduction"] = {"type": kind}
        if echo is not None:
            table = {"type": "server_echo_cancellation"}
            self.changes["input_audio_echo_cancellation"] = table if echo else "off"

    def _model(self) -> None:
        neutral, settings = self._neutral, self._settings
        its_model_reasons = settings.reasons and settings.profile is None
        if neutral.temperature is not None and its_model_reasons:
            self.without_place.append(("temperature", f"{settings.model} reasons and has none"))
        elif neutral.temperature is not None:
            low, high = TEMPERATURES
            self.changes["temperature"] = min(max(neutral.temperature, low), high)
        if neutral.max_output_tokens is not None:
            tokens = neutral.max_output_tokens
            most = tokens if tokens == "inf" else min(tokens, MAX_OUTPUT_TOKENS)
            self.changes["max_response_output_tokens"] = most
        if neutral.reasoning_effort is not None and settings.reasons:
            self.changes["reasoning_effort"] = neutral.reasoning_effort
        elif neutral.reasoning_effort is not None:
            self.without_place.append(("reasoning_effort", f"{settings.model} does not reason"))
        if neutral.modalities is not None:
            speaks = "audio" in neutral.modalities
            self.changes["modalities"] = ["text", "audio"] if speaks else ["text"]
        if neutral.tools is not None:
            self.changes["tools"] = [{"type": "function", **tool.model_dump()} for tool in neutral.tools]

    def _labels(self) -> None:
        """Cut to what the API takes: 16 labels of 64 and 512 characters."""
        labels = dict(self._neutral.tags or {})
        if self._neutral.user_id is not None:
            labels = {"user_id": self._neutral.user_id, **labels}
        if labels:
            self.changes["metadata"] = {key[:64]: labels[key][:512] for key in list(labels)[:16] if key}
        if self._neutral.memory_id is not None and self._settings.agent is not None:
            self.changes["agent"] = {"conversation_id": self._neutral.memory_id}


def with_profile(current: str, instructions: str | None, profile: Json | None) -> str:
    """Instructions with the caller's profile as their last line; None leaves that part as it was."""
    text, mark, written = current.partition(_PROFILE)
    if instructions is not None:
        text = instructions
    if profile is not None:
        mark, written = _PROFILE, json.dumps(profile, ensure_ascii=False)
    return f"{text}{mark}{written}".strip()


def _primary(language: str) -> str:
    return language.partition("-")[0].lower()


def _joined(settings: AzureSettings, functions: list[Json]) -> list[Json]:
    named = [tool.model_dump(exclude_none=True) for tool in settings.tools or ()]
    names = {tool.get("name") for tool in named}
    return [*named, *(function for function in functions if function["name"] not in names)]


def _refuse_echo_lock(vendor: Json) -> None:
    echo = vendor.get("input_audio_echo_cancellation")
    for name in ("reference_source", "channels"):
        if isinstance(echo, dict) and name in echo:
            key = f"input_audio_echo_cancellation.{name}"
            raise UpdateImpossible(key, "can't be changed now, only before the session starts")


def _ready_for(settings: AzureSettings, step: Json) -> AzureSettings:
    """Where a step makes another kind of a table, the fields that the new kind does not have are dropped:
    merging would keep them and the API refuse them."""
    tree = settings.model_dump(exclude_unset=True)
    for key in _TAGGED:
        now, then = tree.get(key), step.get(key)
        if isinstance(now, dict) and isinstance(then, dict) and then.get("type", now["type"]) != now["type"]:
            del tree[key]
            kind = DETECTORS.get(str(then["type"])) if key == "turn_detection" else None
            if kind is not None:
                kept = {name: value for name, value in now.items() if name in kind.model_fields}
                tree[key] = kept | {"type": then["type"]}
    return AzureSettings.model_validate(tree)
