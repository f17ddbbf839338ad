"""The neutral vocabulary in Deepgram's fields, and what Deepgram can do of it.

Sources: developers.deepgram.com/docs/configure-voice-agent, /docs/flux/language-prompting (languages),
/docs/voice-agent-speculative-replies (functions asked for before the turn is over).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.deepgram.listen import FLUX, FLUX_LANGUAGES, FLUX_MULTI, FluxListen, Listen
from telbridge.sessions.deepgram.settings import PHONE, DeepgramSettings
from telbridge.sessions.deepgram.speak import DeepgramSpeak, ElevenLabsSpeak
from telbridge.sessions.deepgram.think import PROMPT_LIMIT
from telbridge.sessions.provider import (
    ALWAYS_SPEAKS,
    Ability,
    Lock,
    Support,
    Way,
    deep_merged,
    impossible,
    neutral_keys,
    silent_misfit,
)

_SURE: Final = {"low": 0.85, "medium": 0.7, "high": 0.5, "auto": 0.7}
"""eot_threshold for each eagerness; 0.7 is the vendor's default."""
_BY_HAND: Final[Json] = {"eot_threshold": 1.0, "eot_timeout_ms": 60_000}
_SHORTEST_TIMEOUT_MS: Final = 500
_REASONING: Final = frozenset({"open_ai", "groq", "deepgram"})
_CANNOT_BE_TOLD: Final = "the Nova recogniser can't be told when a turn ends"
_NOVA: Final[Json] = {"type": "deepgram", "version": "v1", "model": "nova-3"}

FITS_STORED: Final = frozenset({Ability.INSTRUCTIONS, Ability.USER_PROFILE, Ability.BARGE_IN})
"""What may be asked of a stored agent: it takes no settings beside its id, and we do not know its own."""


def with_neutral(settings: DeepgramSettings, neutral: NeutralSettings) -> DeepgramSettings:
    """See `Provider.with_neutral`. A stored agent gets the instructions put after its own prompt."""
    changes = _changes(settings, neutral, wins=False)
    changes = {name: new for name, new in changes.items() if name == "agent" or name not in _set(settings)}
    return DeepgramSettings.model_validate(deep_merged(settings.model_dump(exclude_unset=True), changes))


def misfits(settings: DeepgramSettings | None, neutral: NeutralSettings) -> list[tuple[str, str]]:
    """See `Provider.misfits`."""
    found = silent_misfit(neutral)
    if settings is not None and isinstance(settings.agent, str):
        why = "a stored agent's own settings are not known here"
        return found + [(key, why) for key in neutral_keys(neutral) if key not in FITS_STORED]
    turn = neutral.turn_detection or TurnDetection()
    named = None if settings is None or isinstance(settings.agent, str) else settings.agent.listen
    if isinstance(named.provider, FluxListen) if named else _recogniser(neutral.language, turn) is not _NOVA:
        return found
    for part in ("silence_ms", "eagerness"):
        if getattr(turn, part) is not None:
            why = f"{_CANNOT_BE_TOLD}: leave it out, or take a Flux recogniser"
            found.append((f"turn_detection.{part}", why))
    if turn.mode == "off":
        found.append(("turn_detection.mode", f"{_CANNOT_BE_TOLD}: write vad, or take a Flux recogniser"))
    return found


def neutral_changes(settings: DeepgramSettings, neutral: NeutralSettings) -> Json:
    """For `update`: the settings to be changed, in Deepgram's fields. UpdateImpossible for what the voice
    or the recogniser in use can't be told."""
    return _changes(settings, neutral, wins=True)


def _set(settings: DeepgramSettings) -> set[str]:
    return settings.model_fields_set


def _changes(settings: DeepgramSettings, neutral: NeutralSettings, *, wins: bool) -> Json:
    """`wins`: the neutral value replaces one that the settings hold."""
    changes: Json = {}
    if neutral.barge_in is not None:
        changes["barge_in"] = neutral.barge_in
    if neutral.user_profile is not None:
        changes["user_profile"] = neutral.user_profile
    if neutral.tags is not None:
        changes["tags"] = [f"{name}={label}" for name, label in neutral.tags.items()]
    agent = settings.agent
    if isinstance(agent, str):
        if neutral.instructions is not None:
            changes["append_prompt"] = neutral.instructions
        return changes
    tree = agent.model_dump(exclude_unset=True)
    changed = {
        "listen": _listen(agent.listen, neutral, wins=wins),
        "think": _think(tree.get("think"), neutral, wins=wins),
        "speak": _speak(tree.get("speak"), agent.voices, neutral.voice, wins=wins),
    }
    if inner := {name: block for name, block in changed.items() if block}:
        changes["agent"] = inner
    return changes


def _over(current: Json, wanted: Json, *, wins: bool) -> Json:
    return {**current, **wanted} if wins else {**wanted, **current}


# ---------------------------------------------------------------- listen


def _listen(listen: Listen | None, neutral: NeutralSettings, *, wins: bool) -> Json:
    turn = neutral.turn_detection or TurnDetection()
    if listen is not None:
        current = listen.provider.model_dump(exclude_unset=True)
        flux = isinstance(listen.provider, FluxListen)
    else:
        current = PHONE["listen"]["provider"] if wins else _recogniser(neutral.language, turn)
        flux = current["version"] == "v2"
    wanted: Json = {}
    if neutral.key_terms is not None:
        wanted["keyterms"] = list(neutral.key_terms)
    if flux:
        wanted |= _flux_turns(turn)
        if neutral.language is not None:
            wanted |= _flux_language(current["model"], neutral.language, wins=wins)
    elif wins and _flux_turns(turn):
        raise UpdateImpossible(
            "turn_detection", "Nova can't be told: start with a flux-general-en recogniser"
        )
    elif neutral.language is not None:
        wanted["language"] = neutral.language
    provider = _over(current, wanted, wins=wins)
    unchanged = PHONE["listen"]["provider"] if listen is None else current
    return {} if provider == unchanged else {"provider": provider}


def _base(language: str) -> str:
    return language.split("-")[0].lower()


def _recogniser(language: str | None, turn: TurnDetection) -> Json:
    """Flux, unless turns are to be told by the voice alone or Flux does not know the language."""
    if turn.mode == "vad" or (language is not None and _base(language) not in FLUX_LANGUAGES):
        return _NOVA
    if language is not None and _base(language) != "en":
        return {**PHONE["listen"]["provider"], "model": FLUX_MULTI}
    provider: Json = PHONE["listen"]["provider"]
    return provider


def _flux_language(model: str, language: str, *, wins: bool) -> Json:
    multi = model.startswith(FLUX_MULTI)
    if _base(language) not in FLUX_LANGUAGES:
        if wins:
            raise UpdateImpossible(
                "language", f"Flux does not know {language}: start with a nova-3 recogniser"
            )
        return {}
    if multi:
        return {"language_hints": [language]}
    # The English model takes no hint; a model that was set by name stays.
    if _base(language) == "en" or not wins:
        return {}
    return {"model": FLUX_MULTI, "language_hints": [language]}


def _flux_turns(turn: TurnDetection) -> Json:
    wanted: Json = {}
    if turn.eagerness is not None:
        wanted["eot_threshold"] = _SURE[turn.eagerness]
    if turn.mode == "off":
        wanted |= _BY_HAND
    if turn.silence_ms is not None:
        wanted["eot_timeout_ms"] = max(_SHORTEST_TIMEOUT_MS, turn.silence_ms)
    return wanted


# ---------------------------------------------------------------- think


def _think(current: Any, neutral: NeutralSettings, *, wins: bool) -> Any:
    """The same for each of several fallbacks."""
    if isinstance(current, list | tuple):
        return [_one_think(one, neutral, wins=wins) for one in current]
    changed = _one_think(current or PHONE["think"], neutral, wins=wins)
    return {} if changed == (current or PHONE["think"]) else changed


def _one_think(current: Json, neutral: NeutralSettings, *, wins: bool) -> Json:
    kind = current["provider"]["type"]
    wanted: Json = {}
    if neutral.instructions is not None:
        wanted["prompt"] = neutral.instructions
    if neutral.tools is not None:
        # A tool may do what can't be undone, and the API asks for functions before it is sure that the
        # caller has finished.
        wanted["functions"] = [{**tool.model_dump(), "defer_until_eot": True} for tool in neutral.tools]
    provider: Json = {}
    if neutral.temperature is not None:
        provider["temperature"] = (
            min(neutral.temperature, 1.0) if kind == "anthropic" else neutral.temperature
        )
    effort = neutral.reasoning_effort
    if effort is not None and kind in _REASONING:
        provider["reasoning_mode"] = "high" if effort == "xhigh" else effort
    elif effort is not None and wins:
        raise UpdateImpossible("reasoning_effort", f"{kind} can't be told: start with an open_ai model")
    provider = _over(current["provider"], provider, wins=wins)
    return {**_over(current, wanted, wins=wins), "provider": provider}


# ---------------------------------------------------------------- speak


def _speak(current: Any, voices: Sequence[Any], voice: str | None, *, wins: bool) -> Any:
    """Of several voices the first: the fallbacks are other vendors' and have other names."""
    if voice is None:
        return {}
    if current is None:
        return {"provider": {**PHONE["speak"]["provider"], "model": voice}}
    if not wins:
        return {}  # A voice that is set always has its name.
    if isinstance(current, list | tuple):
        return [_renamed(current[0], voices[0].provider, voice), *current[1:]]
    return _renamed(current, voices[0].provider, voice)


def _renamed(speak: Json, provider: Any, voice: str) -> Json:
    fields: Json = dict(speak["provider"])
    if isinstance(provider, ElevenLabsSpeak):
        raise UpdateImpossible("voice", "ElevenLabs takes it in its url: change agent.speak.endpoint.url")
    if isinstance(provider, DeepgramSpeak):
        fields |= {"model": voice, "version": "v2" if voice.startswith(FLUX) else "v1"}
    elif "mode" in fields.get("voice", ()):
        fields["voice"] = {**fields["voice"], "id": voice}
    else:
        fields["voice"] = voice
    return {**speak, "provider": fields}


# ---------------------------------------------------------------- what it can do


def warnings(settings: DeepgramSettings) -> list[tuple[str, str]]:
    """See `Provider.warnings`."""
    found: list[tuple[str, str]] = []
    output = settings.audio.output
    if output is not None and output.container != "none":
        found.append(("audio.output.container", "its header will be heard as a click"))
    if output is not None and output.bitrate is not None:
        found.append(("audio.output.bitrate", "is for compressed audio, which a telephone never gets"))
    agent = settings.agent
    if isinstance(agent, str):
        return found
    if agent.language is not None:
        found.append(("agent.language", "deprecated, and refused beside some Flux and Aura models"))
    if agent.think_live is not None:
        found.append(("agent.think_live", "early access: refused for an account without an invitation"))
    for model in agent.models:
        if model.endpoint is None and model.prompt and len(model.prompt) > PROMPT_LIMIT:
            found.append(("agent.think.prompt", f"is cut off after {PROMPT_LIMIT} characters"))
        if model.provider.type == "nvidia":
            found.append(("agent.think.provider.type", "nvidia is not confirmed by Deepgram's SDK"))
    if any(getattr(voice.provider, "language_code", None) is not None for voice in agent.voices):
        found.append(("agent.speak.provider.language_code", "deprecated: write language"))
    if agent.speak is None and (language := _spoken(agent.listen)) not in ("", "en", "multi"):
        found.append(("agent.speak", f"not set: an English voice will speak, though {language} is expected"))
    return found


def _spoken(listen: Listen | None) -> str:
    if listen is None:
        return ""
    if isinstance(listen.provider, FluxListen):
        return _base((listen.provider.language_hints or ("",))[0])
    return _base(listen.provider.language or "")


def _native(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.NATIVE, how, lock)


def _emulated(how: str, lock: Lock | None = None) -> Support:
    return Support(Way.EMULATED, how, lock)


ABILITIES: Final = {
    Ability.INSTRUCTIONS: _native("agent.think.prompt; UpdateThink; of a stored agent, put after its own"),
    Ability.VOICE: _native("agent.speak.provider; UpdateSpeak"),
    Ability.LANGUAGE: _native("agent.listen.provider; the voice speaks the language that it is made for"),
    Ability.KEY_TERMS: _native("agent.listen.provider.keyterms; with Nova only before the start"),
    Ability.TURN_MODE: _native("semantic: Flux; vad: Nova; off: Flux with eot_threshold 1.0", Lock.START),
    Ability.TURN_THRESHOLD: impossible(Ability.TURN_THRESHOLD),
    Ability.TURN_PREFIX: impossible(Ability.TURN_PREFIX),
    Ability.TURN_SILENCE: _emulated("eot_timeout_ms, 500 or more; Flux may end the turn sooner"),
    Ability.TURN_EAGERNESS: _emulated("eot_threshold: low 0.85, medium and auto 0.7, high 0.5"),
    Ability.BARGE_IN: _emulated("off: silence is sent in the caller's place while the agent speaks"),
    Ability.NOISE_REDUCTION: impossible(Ability.NOISE_REDUCTION),
    Ability.ECHO_CANCELLATION: impossible(Ability.ECHO_CANCELLATION),
    Ability.TEMPERATURE: _native("agent.think.provider.temperature; with Anthropic 1 at most"),
    Ability.MAX_OUTPUT_TOKENS: impossible(Ability.MAX_OUTPUT_TOKENS),
    Ability.REASONING_EFFORT: _native("agent.think.provider.reasoning_mode of open_ai, groq and deepgram"),
    Ability.TOOLS: _native("agent.think.functions, each with defer_until_eot"),
    Ability.USER_ID: impossible(Ability.USER_ID),
    Ability.USER_PROFILE: _emulated("put after the prompt"),
    Ability.MEMORY_ID: impossible(Ability.MEMORY_ID),
    Ability.TAGS: _native("tags, as name=value", Lock.START),
    Ability.MODALITIES: ALWAYS_SPEAKS,
    Ability.IDLE_TIMEOUT: impossible(Ability.IDLE_TIMEOUT),
    Ability.GREETING_VERBATIM: _native("agent.greeting; of a stored agent InjectAgentMessage"),
    Ability.GREETING_GENERATED: _emulated("InjectUserMessage that tells what to say"),
    Ability.SAY: _native("InjectAgentMessage"),
    Ability.REPLY_NOW: _emulated("ForceEndTurn while the caller speaks (Flux), else InjectUserMessage"),
    Ability.TEXT_AS_CALLER: _native("InjectUserMessage; without an answer UpdatePrompt"),
    Ability.TEXT_AS_CONTEXT: _emulated("UpdatePrompt; with an answer InjectUserMessage"),
    Ability.INTERRUPT: _emulated("the rest of the reply is dropped here: the API can't be told"),
    Ability.REPORT_HEARD: impossible(Ability.REPORT_HEARD),
    Ability.CALLER_TRANSCRIPT: _native("ConversationText"),
    Ability.AGENT_TRANSCRIPT: _native("ConversationText"),
    Ability.LATENCY: _native("LatencyReport, collected for each turn"),
    Ability.RESUME: _emulated("a new session with agent.context.messages"),
}
