"""Settings of one OpenAI Realtime session, and the first `session.update` made of them.

Wire reference: OpenAI Realtime API, GA shape (guides realtime, realtime-vad, realtime-conversations on
developers.openai.com; types of the `openai` SDK 3.52.0). A new setting is a field here and a key in
`first_update`; the protocol does not change.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat

Json: TypeAlias = dict[str, object]

REASONING_MODELS: Final = "gpt-realtime-2"
"""Prefix of the models that take `reasoning`; any other refuses the whole update for it."""

_WIRE_FORMAT: Final[dict[AudioFormat, Json]] = {
    PCMU_8K: {"type": "audio/pcmu"},
    PCMA_8K: {"type": "audio/pcma"},
    # The rate is optional in the SDK's types, but a live server refused the object without it.
    PCM_24K: {"type": "audio/pcm", "rate": 24_000},
}

_OTHER_PRODUCTS_VOICES: Final = frozenset({"fable", "onyx", "nova"})


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _TurnDetection(_Settings):
    interrupt_response: bool = Field(
        default=True, description="The caller may interrupt: speech of theirs stops the agent at once."
    )
    create_response: bool = Field(
        default=True, description="The agent answers by itself when the caller's turn ends."
    )


class ServerVad(_TurnDetection):
    """Turns by loudness and a pause of fixed length."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(
        default=0.5, ge=0.0, le=1.0, description="How loud speech must be, 0 to 1; raise it on noisy lines."
    )
    prefix_padding_ms: int = Field(
        default=300, ge=0, description="Audio before the detected start that counts as speech."
    )
    silence_duration_ms: int = Field(
        # Always sent: the vendor's pages say 500, a live session without it reported 200.
        default=500,
        ge=0,
        description="Pause that ends the caller's turn; shorter answers faster and interrupts more often.",
    )


class SemanticVad(_TurnDetection):
    """Turns by what was said: a model guesses whether the sentence is over."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = Field(
        default="auto", description="Longest wait for more speech: low 8 s, medium 4 s, high 2 s."
    )


TurnDetection: TypeAlias = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class Transcription(_Settings):
    """Transcript of the caller, for the record. It never steers the model and is billed separately."""

    model: str = Field(default="gpt-4o-mini-transcribe", min_length=1, description="Transcription model.")
    language: str | None = Field(
        default=None, min_length=2, description="Expected language, ISO 639-1 ('en'); none: guessed."
    )


class OpenAISettings(_Settings):
    """One OpenAI Realtime session: what to connect to and how the agent behaves."""

    url: str = Field(
        default="wss://api.openai.com/v1/realtime",
        pattern=r"^wss?://[^\s/]+",
        description="WebSocket address without the model; ws:// only for an agent on this machine.",
    )
    model: str = Field(default="gpt-realtime-2.1", min_length=1, description="Model to talk to.")
    instructions: str | None = Field(
        default=None, description="Who the agent is and what it does; none: the vendor's own text."
    )
    voice: str = Field(
        default="marin", min_length=1, description="Voice name, or the id of a custom voice ('voice_…')."
    )
    audio: Literal["g711", "pcm24k"] = Field(
        default="g711",
        description="g711: the telephone's own law, untouched. pcm24k: linear 24 kHz, converted here.",
    )
    turn_detection: TurnDetection = Field(
        default_factory=ServerVad, description="How the API tells that the caller began or ended a turn."
    )
    transcription: Transcription | None = Field(
        default=None, description="Transcribe the caller for the record; billed separately."
    )
    noise_reduction: Literal["near_field", "far_field"] | None = Field(
        default=None,
        description="Cleaning before turn detection: near_field for a handset, far_field for a room.",
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] = Field(
        default="inf", description="Longest single answer; 20 tokens are one second of speech."
    )
    speed: float = Field(default=1.0, ge=0.25, le=1.5, description="Speed of the agent's speech.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        default=None, description="How long to think; sent to gpt-realtime-2 models only, ignored elsewhere."
    )
    safety_identifier: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,512}$",
        description="Stable hash of the end user, sent as OpenAI-Safety-Identifier.",
    )

    @field_validator("model")
    @classmethod
    def _speaks_this_protocol(cls, model: str) -> str:
        if model.startswith("gpt-live"):
            raise ValueError(
                f"{model} speaks the Live API, a different protocol; use a gpt-realtime model here"
            )
        if "realtime-preview" in model:
            raise ValueError(
                f"{model} speaks the beta protocol, switched off in May 2026; use gpt-realtime-2.1"
            )
        return model

    @field_validator("voice")
    @classmethod
    def _is_a_realtime_voice(cls, voice: str) -> str:
        if voice in _OTHER_PRODUCTS_VOICES:
            raise ValueError(f"{voice} is a voice of the text-to-speech API only; try marin or cedar")
        return voice


def session_format(settings: OpenAISettings, wire: AudioFormat) -> AudioFormat:
    """The session's one format, both ways. A wire that is neither law (L16, Opus) gets μ-law for "g711"."""
    if settings.audio == "pcm24k":
        return PCM_24K
    return wire if wire in (PCMU_8K, PCMA_8K) else PCMU_8K


def format_object(audio_format: AudioFormat) -> Json:
    """The API's name of a session format: exactly these keys, `rate` inside pcmu is no part of it."""
    return dict(_WIRE_FORMAT[audio_format])


def first_update(settings: OpenAISettings, audio_format: AudioFormat) -> Json:
    """The `session` of the first update: complete, for the API refuses or takes an update as a whole."""
    audio_in: Json = {
        "format": format_object(audio_format),
        "turn_detection": settings.turn_detection.model_dump(),
    }
    if settings.transcription is not None:
        audio_in["transcription"] = settings.transcription.model_dump(exclude_none=True)
    if settings.noise_reduction is not None:
        audio_in["noise_reduction"] = {"type": settings.noise_reduction}
    voice = {"id": settings.voice} if settings.voice.startswith("voice_") else settings.voice
    session: Json = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "max_output_tokens": settings.max_output_tokens,
        "audio": {
            "input": audio_in,
            "output": {
                "format": format_object(audio_format),
                "voice": voice,
                "speed": settings.speed,
            },
        },
    }
    if settings.instructions is not None:
        session["instructions"] = settings.instructions
    if settings.reasoning_effort is not None and settings.model.startswith(REASONING_MODELS):
        session["reasoning"] = {"effort": settings.reasoning_effort}
    return session
