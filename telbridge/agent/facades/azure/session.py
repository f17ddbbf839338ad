"""The state of a Voice Live session: what the connection fixed, the defaults, an update laid over them.

Sources: the API reference (learn.microsoft.com, speech-service/voice-live-api-reference-2026-07-15), the
how-to beside it (voice-live-how-to), and for defaults and locks the docstrings of azure-ai-voicelive 1.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from telbridge.agent.events import Tool, TurnDetection
from telbridge.agent.facades.azure import schema as schema
from telbridge.agent.facades.azure.events import invalid, unknown
from telbridge.agent.facades.realtime import EAGERNESS_MS, INSTRUCTIONS, Json, Refusal
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

API_VERSIONS: Final = (
    "2025-05-01-preview",
    "2025-10-01",
    "2026-01-01-preview",
    "2026-04-10",
    "2026-06-01-preview",
    "2026-07-15",
)
PCM_INPUT_RATES_HZ: Final = (8_000, 16_000, 24_000, 44_100)  # the last one in the vendor's live tests only
DEFAULT_VOICE: Final = {"type": "azure-standard", "name": "en-US-AvaNeural"}
OUTPUT_FORMATS: Final[Mapping[str, AudioFormat]] = {
    "pcm16": PCM_24K,
    "g711_ulaw": PCMU_8K,
    "g711_alaw": PCMA_8K,
    **{
        f"pcm16_{rate_hz}hz": AudioFormat(Encoding.PCM16, rate_hz)
        for rate_hz in (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
    },
}


class Family(Enum):
    """Kinds of model: which options there are depends on them."""

    OPENAI_REALTIME = auto()
    AZURE_REALTIME = auto()
    PHI_REALTIME = auto()
    CASCADED = auto()
    """Azure speech to text, a text model, Azure text to speech."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the address of the connection fixed for the whole session."""

    api_version: str
    model: str | None
    """None in agent mode."""
    agent: str | None
    profile: str | None
    """Of a model that the customer brought."""
    fault: Refusal | None = None
    """Why the service ends the session at once."""

    @staticmethod
    def from_query(query: Mapping[str, str]) -> Endpoint:
        agent = query.get("agent-name") or query.get("agent-id")
        model = query.get("model") or None
        fault = None
        if model is None if agent is None else not query.get("agent-project-name"):
            # Seen live in 2025-11: the upgrade succeeds, an error with this code follows, then the end.
            text = "A model, or an agent connection string and project name, must be given."
            fault = Refusal("invalid_request_error", text)
        return Endpoint(
            api_version=query.get("api-version", ""),
            model=None if agent else model,
            agent=agent,
            profile=query.get("profile"),
            fault=fault,
        )

    def has(self, since: str) -> bool:
        """Whether the API version is of this date or later."""
        return self.api_version[:10] >= since

    @property
    def family(self) -> Family:
        if self.profile is not None:
            native = self.profile == "byom-azure-openai-realtime"
            return Family.OPENAI_REALTIME if native else Family.CASCADED
        model = self.model or ""
        if model.startswith("gpt-realtime"):
            return Family.OPENAI_REALTIME
        if model.startswith("azure-realtime"):
            return Family.AZURE_REALTIME
        return Family.PHI_REALTIME if model.startswith("phi4-mm") else Family.CASCADED

    @property
    def reasons(self) -> bool:
        """False for the models that are known not to take a reasoning effort."""
        model = self.model or ""
        plain = model.startswith(("gpt-4", "phi4", "gpt-realtime"))
        return self.profile is not None or not plain or model.startswith("gpt-realtime-2")


# -- the effective session ----------------------------------------------------------------------------


def default_session(endpoint: Endpoint, *, silence_ms: int) -> Json:
    """What `session.created` shows; the silence is this agent's own."""
    session: Json = {
        "modalities": ["text", "audio"],
        "instructions": "" if endpoint.agent else INSTRUCTIONS,
        "voice": _default_voice(endpoint.family),
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": 24_000,
        "output_audio_format": "pcm16",
        "input_audio_noise_reduction": None,
        "input_audio_echo_cancellation": None,
        "input_audio_transcription": (
            {"model": "azure-speech"} if endpoint.family is Family.CASCADED else None
        ),
        "turn_detection": {"type": "server_vad", "silence_duration_ms": silence_ms},
        "tools": [],
        "tool_choice": "auto",
        "temperature": 0.7,
        "max_response_output_tokens": "inf",
    }
    if endpoint.model is not None:
        session["model"] = endpoint.model
    if endpoint.agent is not None:
        ids = {"agent_id": endpoint.agent, "thread_id": "thread_local"}
        session["agent"] = {"type": "agent", "name": endpoint.agent, **ids}
    return completed(session, endpoint)


def _default_voice(family: Family) -> Json:
    if family is Family.OPENAI_REALTIME:
        return {"type": "openai", "name": "alloy"}
    if family is Family.AZURE_REALTIME:
        return {"type": "azure-realtime-native", "name": "ava"}
    return DEFAULT_VOICE


def merged(old: Json, patch: Json) -> Json:
    """`old` with the keys of `patch` in place of its own: each object is one value.

    One of the vendor's pages calls an update a replacement of the configuration, the other a patch; a key
    that is sent is replaced in both readings, so this is what a client may rely on."""
    session = {**old, **patch}
    changed = session["input_audio_format"] != old["input_audio_format"]
    if changed and "input_audio_sampling_rate" not in patch:
        session["input_audio_sampling_rate"] = 24_000 if session["input_audio_format"] == "pcm16" else 8_000
    return session


def completed(session: Json, endpoint: Endpoint) -> Json:
    """With the defaults inside of its objects filled in."""
    defaults = {
        "turn_detection": _vad_defaults(session["turn_detection"], endpoint),
        "input_audio_echo_cancellation": {"reference_source": "server", "channels": 1},
        "interim_response": {"triggers": ["latency"], "latency_threshold_ms": 2_000},
        "animation": {"model_name": "default", "outputs": ["blendshapes"]},
    }
    filled = {key: {**inner, **session[key]} for key, inner in defaults.items() if session.get(key)}
    return {**session, **filled}


def _vad_defaults(vad: Json | None, endpoint: Endpoint) -> Json:
    if vad is None:
        return {}
    answers = {"create_response": True, "interrupt_response": True}
    if vad["type"] == "semantic_vad":
        return {"eagerness": "auto", **answers}
    common = {"threshold": 0.5, "silence_duration_ms": 500, "auto_truncate": False, **answers}
    later = endpoint.has("2026-04-10")
    if vad["type"] == "server_vad":
        return {"prefix_padding_ms": 400 if later else 300, **common}
    own = {"speech_duration_ms": 80, "remove_filler_words": False}
    return {"prefix_padding_ms": 420 if later else 300, **own, **common}


# -- what it means to the brain -------------------------------------------------------------------------


def input_format(session: Json) -> AudioFormat:
    """Of one channel: the second one of an echo reference is not the caller's."""
    name, rate_hz = session["input_audio_format"], session["input_audio_sampling_rate"]
    return AudioFormat(Encoding.PCM16, rate_hz) if name == "pcm16" else OUTPUT_FORMATS[name]


def is_stereo(session: Json) -> bool:
    return echo_reference(session) == ("client", 2)


def text_only(modalities: list[str]) -> bool:
    return "audio" not in modalities


def tools(session: Json) -> tuple[Tool, ...]:
    """Only functions are the client's to run."""
    return tuple(
        Tool(tool["name"], tool.get("description") or "")
        for tool in session["tools"]
        if tool["type"] == "function"
    )


def turns(vad: Json | None) -> TurnDetection | None:
    """Azure's end-of-utterance models are not had here: silence ends a turn, whatever the type."""
    if vad is None:
        return None
    semantic = vad["type"] == "semantic_vad"
    return TurnDetection(
        threshold=vad.get("threshold", 0.5),
        prefix_ms=vad.get("prefix_padding_ms", 300),
        silence_ms=EAGERNESS_MS[vad["eagerness"]] if semantic else vad["silence_duration_ms"],
        idle_ms=None,
        answers=vad["create_response"],
        interrupts=vad["interrupt_response"],
    )


# -- refusals that need to know the session -------------------------------------------------------------


def check_update(update: schema.Session, session: Json, endpoint: Endpoint) -> None:
    """RefusedError if the session that an update would make cannot be had over this connection."""
    given = update.model_fields_set
    if "model" in given:
        # Reported by integrators for the model's own name too.
        raise invalid("The model cannot be changed in a session.", "session.model")
    if endpoint.agent is not None and "instructions" in given:
        raise invalid("Instructions cannot be set in agent mode.", "session.instructions")
    if "parallel_tool_calls" in given and not endpoint.has("2026-06-01"):
        raise unknown("session.parallel_tool_calls")
    check_modalities(session["modalities"], "session.modalities")
    check_voice(session["voice"], endpoint, "session.voice")
    _check_input(session)
    _check_echo_cancellation(session, endpoint)
    _check_for_model(update, session, endpoint)
    check_tool_choice(session["tool_choice"], session["tools"], "session.tool_choice")


def check_fixed(old: Json, new: Json, *, started: bool, spoken: bool) -> None:
    """RefusedError for a change of what cannot change any more.

    `started`: after the first update or the first caller audio; `spoken`: after the first agent audio."""
    if started:
        for key in ("input_audio_format", "input_audio_sampling_rate", "avatar"):
            if old.get(key) != new.get(key):
                raise invalid(f"Cannot change '{key}' after the session has started.", f"session.{key}")
        if echo_reference(old) != echo_reference(new):
            raise invalid(
                "The echo cancellation channels cannot be changed in a session.",
                "session.input_audio_echo_cancellation",
                "change_in_ec_channels_not_allowed",
            )
    if spoken and _voice_of(old["voice"]) != _voice_of(new["voice"]):
        text = "Cannot update a conversation's voice if assistant audio is present."
        raise invalid(text, "session.voice", "cannot_update_voice")


def check_modalities(modalities: Sequence[str], path: str) -> None:
    """RefusedError for audio alone, and for nothing."""
    if "text" not in modalities or len(set(modalities)) != len(modalities):
        text = (
            f"Invalid modalities: {modalities}. Supported combinations are: ['text'] and ['text', 'audio']."
        )
        raise invalid(text, path)


def check_voice(voice: str | Json, endpoint: Endpoint, path: str) -> None:
    """RefusedError for a voice that the model does not speak with."""
    kind, family = _voice_of(voice)["type"], endpoint.family
    if kind == "openai":
        fits = family is Family.OPENAI_REALTIME
    elif kind == "azure-realtime-native":
        fits = family is Family.AZURE_REALTIME
    else:
        fits = family is not Family.AZURE_REALTIME
    if not fits:
        raise invalid(f"Voice type '{kind}' is not supported for this model.", path)


def check_tool_choice(choice: str | Json, offered: list[Json], path: str) -> None:
    """RefusedError for the choice of a function that is not offered."""
    if isinstance(choice, str):
        name = None if choice in ("auto", "none", "required") else choice
    else:
        # The SDK's docstring of a response nests the name as Chat Completions does.
        inner = choice.get("function", choice)
        name = inner.get("name") if isinstance(inner, dict) else None
    if name is not None and all(tool.get("name") != name for tool in offered):
        raise invalid(f"Tool choice '{name}' not found in 'tools' parameter.", path)


def echo_reference(session: Json) -> tuple[str, int]:
    """Where the echo canceller's reference comes from, and how many channels the caller audio has."""
    cancelling = session["input_audio_echo_cancellation"]
    if cancelling is None:
        return "server", 1
    return cancelling["reference_source"], cancelling["channels"]


def _check_input(session: Json) -> None:
    name, rate_hz = session["input_audio_format"], session["input_audio_sampling_rate"]
    rates_hz = PCM_INPUT_RATES_HZ if name == "pcm16" else (8_000,)
    if rate_hz not in rates_hz:
        text = f"Invalid value: '{rate_hz}'. Supported values for '{name}' are: {rates_hz}."
        raise invalid(text, "session.input_audio_sampling_rate")


def _check_echo_cancellation(session: Json, endpoint: Endpoint) -> None:
    source, channels = echo_reference(session)
    path = "session.input_audio_echo_cancellation"
    if source == "client" and not endpoint.has("2026-06-01"):
        raise unknown(f"{path}.reference_source")
    if source == "client" and channels != 2:
        raise invalid("A client reference needs 2 channels.", path, "invalid_ec_reference_channels")
    if source == "server" and channels != 1:
        text = "2 channels need 'reference_source' to be 'client'."
        raise invalid(text, path, "invalid_ec_channels_requires_client")
    if channels == 2 and session["input_audio_format"] != "pcm16":
        raise invalid("2 channels need 'pcm16'.", path, "invalid_ec_channels_format")


def _check_for_model(update: schema.Session, session: Json, endpoint: Endpoint) -> None:
    native = endpoint.family is Family.OPENAI_REALTIME
    azure_voice = _voice_of(session["voice"])["type"].startswith("azure-")
    noise, vad = session["input_audio_noise_reduction"], session["turn_detection"]
    unfit = {
        "input_audio_noise_reduction.type": (
            noise is not None and noise["type"] != "azure_deep_noise_suppression" and not native
        ),
        "turn_detection.type": vad is not None and vad["type"] == "semantic_vad" and not native,
        "reasoning_effort": update.reasoning_effort is not None and not endpoint.reasons,
        "interim_response": session.get("interim_response") is not None
        and not (endpoint.family is Family.CASCADED and azure_voice),
        "output_audio_timestamp_types": bool(session.get("output_audio_timestamp_types")) and not azure_voice,
    }
    for key, refused in unfit.items():
        if refused:
            raise invalid("Unsupported option for this model.", f"session.{key}")
    if (hearing := session["input_audio_transcription"]) is not None:
        _check_transcription(hearing, native=native)


def _check_transcription(hearing: Json, *, native: bool) -> None:
    model, path = hearing["model"], "session.input_audio_transcription"
    of_openai = model in schema.OPENAI_TRANSCRIBERS
    if of_openai and not native:
        raise invalid(f"Transcription model '{model}' is not supported for this model.", f"{path}.model")
    taken = {"phrase_list": not of_openai, "custom_speech": model == "azure-speech", "prompt": of_openai}
    for key, allowed in taken.items():
        if key in hearing and not allowed:
            raise invalid(f"'{key}' is not supported by '{model}'.", f"{path}.{key}")


def _voice_of(voice: str | Json) -> dict[str, Any]:
    """A bare name is the short form of an OpenAI voice."""
    return {"type": "openai", "name": voice} if isinstance(voice, str) else voice
