"""Settings of one OpenAI Realtime session: every field of the GA session object, and how to connect.

Wire reference: OpenAI Realtime API, GA shape (guides realtime, realtime-vad, realtime-conversations on
developers.openai.com; `RealtimeSessionCreateRequest` of the `openai` SDK 3.52.0). The tables `audio.input`
and `audio.output` of the wire are flat here (`voice`, `speed`, `turn_detection` …); `session.py` makes
the wire's shape of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from telbridge.dialplan.vocabulary import Json as AnyJson
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.openai.parts import (
    RetentionRatio,
    SessionTool,
    StoredPrompt,
    ToolChoice,
    Tracing,
    TypedPart,
)
from telbridge.sessions.provider import Lock, Unconfirmed, VendorPart, VendorSettings

Json: TypeAlias = dict[str, object]

_REASONING_MODEL: Final = re.compile(r"gpt-realtime-2(?!\d)")
"""The 2.x family; gpt-realtime-2025-08-28 is not of it."""
_SPEAKING_ONLY: Final = re.compile(r"gpt-realtime($|-1\.5|-mini|-20\d\d)|gpt-audio")
"""Models known to refuse `reasoning` and parallel tool calls, and the whole update with them."""

_OTHER_PRODUCTS_VOICES: Final = frozenset({"fable", "onyx", "nova"})
_KEYWORD_MODELS: Final = ("gpt-transcribe", "gpt-live-transcribe")
_OLDER_TRANSCRIBERS: Final = ("whisper-1", "gpt-4o-", "gpt-realtime-whisper")
_HEADER: Final = r"^[\x21-\x7e]{1,512}$"


class _TurnDetection(TypedPart):
    interrupt_response: Annotated[
        bool, Field(description="true: speech of the caller stops the agent at once")
    ] = True
    create_response: Annotated[
        bool, Field(description="true: the agent answers by itself when the caller's turn ends")
    ] = True


class ServerVad(_TurnDetection):
    """Turns by loudness and a pause of fixed length."""

    type: Annotated[Literal["server_vad"], Field(description='"server_vad"')] = "server_vad"
    threshold: Annotated[
        float,
        Field(ge=0.0, le=1.0, description="how loud speech must be, 0 to 1; raise it on noisy lines"),
    ] = 0.5
    prefix_padding_ms: Annotated[
        int, Field(ge=0, description="ms before the detected start that count as speech")
    ] = 300
    # Always sent: the vendor's pages say 500, a live session without it reported 200.
    silence_duration_ms: Annotated[
        int,
        Field(
            ge=0,
            description="pause in ms that ends the caller's turn; shorter answers faster and interrupts more",
        ),
    ] = 500
    idle_timeout_ms: Annotated[
        int | None,
        Unconfirmed(),
        Field(
            ge=1, description='ms of silence after which the agent speaks up, 5000 to 30000; "off" for never'
        ),
    ] = None

    @field_validator("idle_timeout_ms", mode="before")
    @classmethod
    def _off_is_null(cls, value: Any) -> Any:
        return None if value == "off" else value


class SemanticVad(_TurnDetection):
    """Turns by what was said: a model guesses whether the sentence is over."""

    type: Annotated[Literal["semantic_vad"], Field(description='"semantic_vad"')] = "semantic_vad"
    eagerness: Annotated[
        Literal["low", "medium", "high", "auto"],
        Field(description="longest wait for more speech: low 8 s, medium 4 s, high 2 s, auto = medium"),
    ] = "auto"


TurnDetection: TypeAlias = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class Transcription(VendorPart):
    """Transcript of the caller, for the record. It never steers the model and is billed separately."""

    model: Annotated[str, Field(min_length=1, description="transcription model")] = "gpt-4o-mini-transcribe"
    language: Annotated[
        str | None, Field(min_length=2, description='expected language, ISO 639-1 ("en"); none: guessed')
    ] = None
    languages: Annotated[
        tuple[str, ...] | None,
        Field(description="languages to choose from, ISO 639-1; gpt-transcribe and gpt-live-transcribe"),
    ] = None
    keywords: Annotated[
        tuple[str, ...] | None,
        Field(description="words to expect; gpt-transcribe and gpt-live-transcribe"),
    ] = None
    prompt: Annotated[str | None, Field(description="text that guides it; a list of words for whisper-1")] = (
        None
    )
    delay: Annotated[
        Literal["minimal", "low", "medium", "high", "xhigh"] | None,
        Field(description="how long to wait before writing; gpt-realtime-whisper only"),
    ] = None

    @property
    def takes_keywords(self) -> bool:
        return self.model.startswith(_KEYWORD_MODELS)

    @property
    def takes_a_prompt(self) -> bool:
        return not self.model.startswith("gpt-realtime-whisper") and "diarize" not in self.model

    @model_validator(mode="after")
    def _only_what_the_model_takes(self) -> Transcription:
        if self.model.startswith(_OLDER_TRANSCRIBERS):
            for name in ("keywords", "languages"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{self.model} takes no {name}: write gpt-transcribe as its model")
            if self.delay is not None and not self.model.startswith("gpt-realtime-whisper"):
                raise ValueError(f"{self.model} takes no delay: write gpt-realtime-whisper as its model")
        if self.prompt is not None and not self.takes_a_prompt:
            raise ValueError(f"{self.model} takes no prompt: leave it out")
        return self


class NoiseReduction(VendorPart):
    """Cleaning of the caller's audio, before turn detection."""

    type: Annotated[
        Literal["near_field", "far_field"],
        Field(description="near_field for a handset, far_field for a room"),
    ]
    strength: Annotated[
        float | None,
        Unconfirmed(),
        Field(ge=0, description="how much is taken away; 1 is usual, higher is stronger"),
    ] = None


class CustomVoice(VendorPart):
    """A voice made from recordings of your own."""

    id: Annotated[str, Field(min_length=1, description='id of the voice ("voice_…")')]


WireFormat: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]


class OpenAISettings(VendorSettings):
    """One OpenAI Realtime session: what to connect to and how the agent behaves.

    Sent always, for the API's own defaults are not all known: voice, speed, turn_detection, both formats,
    output_modalities, max_output_tokens. All else only if it is set.
    """

    # -- the connection

    url: Annotated[
        str,
        Lock.CONNECT,
        Field(
            pattern=r"^wss?://[^\s/]+",
            description="WebSocket address without the model; ws:// only for an agent on this machine",
        ),
    ] = "wss://api.openai.com/v1/realtime"
    api_key: Annotated[
        SecretRef,
        Lock.CONNECT,
        Field(description="where the API key is; an agent on this machine gets none unless this is set"),
    ] = SecretRef(env="OPENAI_API_KEY")
    client_secret_s: Annotated[
        int | None,
        Lock.CONNECT,
        Field(
            ge=10,
            le=7200,
            description="connect with a client secret that is good for so many seconds, not with the key",
        ),
    ] = None
    organization: Annotated[
        str | None, Lock.CONNECT, Field(pattern=_HEADER, description="sent as OpenAI-Organization")
    ] = None
    project: Annotated[
        str | None, Lock.CONNECT, Field(pattern=_HEADER, description="sent as OpenAI-Project")
    ] = None
    safety_identifier: Annotated[
        str | None,
        Lock.CONNECT,
        Field(pattern=_HEADER, description="stable hash of the end user, sent as OpenAI-Safety-Identifier"),
    ] = None
    model: Annotated[str, Lock.CONNECT, Field(min_length=1, description="model to talk to")] = (
        "gpt-realtime-2.1"
    )
    audio: Annotated[
        Literal["g711", "pcm24k"],
        Lock.CONNECT,
        Field(description="g711: the telephone's own law, untouched; pcm24k: linear 24 kHz, converted here"),
    ] = "g711"
    input_format: Annotated[
        WireFormat | None,
        Lock.CONNECT,
        Field(description="audio.input.format of the wire, if it shall differ from what `audio` gives"),
    ] = None
    output_format: Annotated[
        WireFormat | None,
        Lock.CONNECT,
        Field(description="audio.output.format of the wire, if it shall differ from what `audio` gives"),
    ] = None

    # -- the agent

    instructions: Annotated[
        str | None, Field(description="who the agent is and what it does; none: the vendor's own text")
    ] = None
    prompt: Annotated[
        StoredPrompt | None, Field(description='a prompt stored at the vendor; "off" takes it back')
    ] = None
    output_modalities: Annotated[
        tuple[Literal["audio", "text"], ...], Field(description='["audio"], which brings the words as well')
    ] = ("audio",)
    voice: Annotated[
        str | CustomVoice,
        Lock.SPOKEN,
        Field(description="name of the voice, or the id of a custom one (voice_…)"),
    ] = "marin"
    speed: Annotated[
        float, Field(ge=0.25, le=1.5, description="speed of the agent's speech, 0.25 to 1.5")
    ] = 1.0
    max_output_tokens: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | Literal["inf"],
        Field(description='longest single answer, 1 to 4096 or "inf"; 20 tokens are one second of speech'),
    ] = "inf"
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        Unconfirmed(),
        Field(description="how long to think; sent to gpt-realtime-2 models only, ignored elsewhere"),
    ] = None
    tools: Annotated[tuple[SessionTool, ...], Field(description="functions and MCP servers to use")] = ()
    tool_choice: Annotated[
        ToolChoice, Field(description='"auto", "none", "required", or the one tool to call')
    ] = "auto"
    parallel_tool_calls: Annotated[
        bool | None, Field(description="several calls at a time; gpt-realtime-2 models only")
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | RetentionRatio,
        Field(description='"auto", "disabled" (an error instead), or a retention_ratio'),
    ] = "auto"
    tracing: Annotated[
        Literal["auto"] | Tracing | None,
        Lock.START,
        Field(description='"auto" or names for the traces dashboard; cannot be changed once it is on'),
    ] = None
    include: Annotated[
        tuple[Literal["item.input_audio_transcription.logprobs"], ...],
        Field(description="what else the API shall send; telbridge makes no use of it"),
    ] = ()

    # -- the caller

    turn_detection: Annotated[
        TurnDetection | None,
        Field(description='how the API tells that the caller began or ended a turn; "off": it does not'),
    ] = Field(default_factory=ServerVad)
    transcription: Annotated[
        Transcription | None, Field(description='transcribe the caller; billed separately; "off" for none')
    ] = None
    noise_reduction: Annotated[
        NoiseReduction | None,
        Field(
            description='near_field for a handset, far_field for a room, or a table with both fields; "off"'
        ),
    ] = None

    # -- what the API has no field for, told by the instructions

    language: Annotated[
        str | None,
        Field(description="BCP 47 tag: a line of the instructions, and the transcription's language"),
    ] = None
    key_terms: Annotated[
        tuple[str, ...] | None,
        Field(description="words to expect: a line of the instructions, and the transcription's keywords"),
    ] = None
    user_profile: Annotated[
        AnyJson | None, Field(description="facts about the caller: a line of the instructions")
    ] = None

    @property
    def reasons(self) -> bool:
        """Whether the model takes `reasoning`; any other refuses the whole update for it."""
        return _REASONING_MODEL.match(self.model) is not None

    @field_validator("url")
    @classmethod
    def _leads_to_this_protocol(cls, url: str) -> str:
        parts = urlsplit(url)
        if "/live/sessions" in parts.path:
            raise ValueError("is the Live API, a different protocol: write …/v1/realtime")
        if "/voice-live/" in parts.path or "/voice-agent/" in parts.path:
            raise ValueError("is Azure Voice Live, a different protocol: use azure_voice_live for it")
        if parts.path.rstrip("/").endswith("/openai/realtime"):
            raise ValueError("is the preview protocol of Azure OpenAI: write …/openai/v1/realtime")
        return url

    @field_validator("model")
    @classmethod
    def _speaks_this_protocol(cls, model: str) -> str:
        if model.startswith("gpt-live"):
            raise ValueError(
                f"{model} speaks the Live API, a different protocol: use a gpt-realtime model here"
            )
        if "realtime-preview" in model:
            raise ValueError(
                f"{model} speaks the beta protocol, switched off in May 2026: use gpt-realtime-2.1"
            )
        if model.startswith(("gpt-realtime-whisper", "gpt-realtime-translate")):
            raise ValueError(f"{model} holds no conversation: use gpt-realtime-2.1")
        return model

    @field_validator("voice", mode="before")
    @classmethod
    def _is_a_realtime_voice(cls, voice: Any) -> Any:
        if isinstance(voice, str):
            if voice in _OTHER_PRODUCTS_VOICES:
                raise ValueError(f"{voice} is a voice of the text-to-speech API only: try marin or cedar")
            if not voice:
                raise ValueError("is empty: try marin or cedar")
        return voice

    @field_validator("output_modalities")
    @classmethod
    def _one_modality(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        if len(modalities) != 1:
            raise ValueError('must be exactly one: write ["audio"], which brings the words as well')
        return modalities

    @field_validator("turn_detection", mode="before")
    @classmethod
    def _server_vad_unless_named(cls, value: Any) -> Any:
        return {"type": "server_vad", **value} if isinstance(value, dict) else value

    @field_validator("noise_reduction", mode="before")
    @classmethod
    def _by_its_name_alone(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) and value != "off" else value

    @field_validator("turn_detection", "transcription", "noise_reduction", "tracing", "prompt", mode="before")
    @classmethod
    def _off_is_null(cls, value: Any) -> Any:
        return None if value == "off" else value

    @model_validator(mode="after")
    def _only_what_the_model_takes(self) -> OpenAISettings:
        if self.parallel_tool_calls and _SPEAKING_ONLY.match(self.model):
            raise ValueError(
                f"{self.model} makes no parallel tool calls: leave parallel_tool_calls out or use "
                "gpt-realtime-2.1"
            )
        return self
