"""Settings of one Azure Voice Live session: how to connect, and the complete session configuration.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" (2026-07-15), "How to use the Voice
Live API"; the ResponseSession interface of the JavaScript SDK; types of azure-ai-voicelive 1.3.1. Where the
pages disagree, the field takes what any of them takes, and `warnings` names the safe part.

`id`, `object`, `expires_at` and `agent` of ResponseSession are the server's to tell: an agent is chosen by
`agent` here, which goes into the query. `model` goes there too: an update that repeats it is refused (seen
live).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from telbridge.sessions.azure.parts import (
    AgentMode,
    Animation,
    Avatar,
    EchoCancellation,
    InterimResponse,
    NoiseReduction,
    Tool,
    ToolChoiceFunction,
    Transcription,
)
from telbridge.sessions.azure.turns import AzureSemanticVad, TurnDetection
from telbridge.sessions.azure.voices import Voice, is_synthesised
from telbridge.sessions.credentials import SecretRef, on_this_machine
from telbridge.sessions.provider import Lock, Unconfirmed, VendorSettings

NAME: Final = "azure_voice_live"
"""Of the provider, and of its section in the settings."""

KEY_VARIABLE: Final = "AZURE_VOICELIVE_API_KEY"
"""As in the vendor's samples."""

_PATH: Final = "/voice-live/realtime"
_VERBATIM_SINCE: Final = "2026-01-01"
"""First api-version with `pre_generated_assistant_message`."""

Off: TypeAlias = Literal["off"]
"""Sent as null; TOML has no null."""


class AzureSettings(VendorSettings):
    """One Azure Voice Live session. A field that is not set is not sent, unless its description says so."""

    # -- the connection

    url: Annotated[
        str | None,
        Lock.CONNECT,
        Field(
            pattern=r"^(wss?|https?)://[^\s/]+",
            description="address of the resource, its path if not the usual one; ws:// for an agent nearby",
        ),
    ] = None
    resource: Annotated[
        str | None,
        Lock.CONNECT,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$",
            description="name of the Azure resource, for wss://NAME.services.ai.azure.com; or write url",
        ),
    ] = None
    api_version: Annotated[
        str,
        Lock.CONNECT,
        Field(pattern=r"^\d{4}-\d\d-\d\d(-preview)?$", description="version of the API, such as 2026-07-15"),
    ] = "2026-07-15"
    model: Annotated[
        str,
        Lock.CONNECT,
        Field(min_length=1, description="gpt-4.1, gpt-realtime-2.1, azure-realtime …; or your deployment"),
    ] = "gpt-4.1"
    profile: Annotated[
        Literal[
            "byom-azure-openai-realtime",
            "byom-azure-openai-chat-completion",
            "byom-foundry-anthropic-messages",
        ]
        | None,
        Lock.CONNECT,
        Field(description="bring your own model: its kind; model is then the deployment's name"),
    ] = None
    agent: Annotated[
        AgentMode | None, Lock.CONNECT, Field(description="a Foundry agent in the model's place")
    ] = None
    features: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+:[a-z0-9_]+$")], ...],
        Lock.CONNECT,
        Field(description="feature flags, such as client_ec_reference:true"),
    ] = ()
    api_key: Annotated[
        SecretRef, Lock.CONNECT, Field(description=f"key of the resource; default: env {KEY_VARIABLE}")
    ] = SecretRef(env=KEY_VARIABLE)
    bearer_token: Annotated[
        SecretRef | None, Lock.CONNECT, Field(description="a ready Entra token, instead of a key")
    ] = None
    entra: Annotated[
        bool,
        Lock.CONNECT,
        Field(
            description="get an Entra token by azure-identity, instead of a key; pip install telbridge[azure]"
        ),
    ] = False
    entra_scope: Annotated[
        Literal["https://ai.azure.com/.default", "https://cognitiveservices.azure.com/.default"],
        Lock.CONNECT,
        Field(description="what the Entra token is for"),
    ] = "https://ai.azure.com/.default"

    # -- the session

    modalities: Annotated[
        tuple[Literal["text", "audio", "animation", "avatar"], ...] | None,
        Field(min_length=1, description='what the agent produces: ["text", "audio"]; never audio alone'),
    ] = None
    instructions: Annotated[
        str | None, Field(description="who the agent is and what it does; not with an agent")
    ] = None
    voice: Annotated[Voice | None, Lock.SPOKEN, Field(description="the agent's voice")] = None
    input_audio_format: Annotated[
        Literal["pcm16", "g711_ulaw", "g711_alaw"] | None,
        Lock.START,
        Field(description="the caller's audio; unset: as the telephone sends it. Always sent"),
    ] = None
    input_audio_sampling_rate: Annotated[
        Literal[8000, 16000, 24000] | None,
        Lock.START,
        Field(description="Hz; g711: 8000, pcm16: 8000, 16000 or 24000. Always sent"),
    ] = None
    output_audio_format: Annotated[
        Literal["pcm16", "pcm16_8000hz", "pcm16_16000hz", "g711_ulaw", "g711_alaw"] | None,
        Lock.START,
        Unconfirmed(),
        Field(description="the agent's audio; unset: as the telephone takes it. Always sent"),
    ] = None
    input_audio_noise_reduction: Annotated[
        NoiseReduction | Off | None, Field(description='cleaning of the caller\'s audio, or "off"')
    ] = None
    input_audio_echo_cancellation: Annotated[
        EchoCancellation | Off | None, Field(description='removal of the agent\'s own voice, or "off"')
    ] = None
    input_audio_transcription: Annotated[
        Transcription | Off | None, Field(description='text of the caller\'s speech, or "off"')
    ] = None
    turn_detection: Annotated[
        TurnDetection | Off | None,
        Field(description='how turns are told, or "off" for turns by hand. Always sent'),
    ] = AzureSemanticVad()
    tools: Annotated[tuple[Tool, ...] | None, Field(description="what the agent may call")] = None
    tool_choice: Annotated[
        ToolChoiceFunction | str | None,
        Field(description="auto, none, required, or the one function to call"),
    ] = None
    parallel_tool_calls: Annotated[bool | None, Field(description="several calls at once")] = None
    temperature: Annotated[
        float | None,
        Unconfirmed(),
        Field(ge=0, le=1.2, description="how freely the model words it; 0.6 to 1.0 is safe"),
    ] = None
    max_response_output_tokens: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None,
        Field(description='longest single answer, 1 to 4096 or "inf"'),
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        Field(description="how long to think; reasoning models only"),
    ] = None
    interim_response: Annotated[
        InterimResponse | Off | None,
        Field(description='what to say while the answer is late, or "off"; text models with Azure voices'),
    ] = None
    output_audio_timestamp_types: Annotated[
        tuple[Literal["word"], ...] | None, Field(description='["word"]: times of words; Azure voices')
    ] = None
    animation: Annotated[Animation | None, Field(description="data that move a face")] = None
    avatar: Annotated[Avatar | None, Lock.START, Field(description="a picture that speaks")] = None
    include: Annotated[
        tuple[
            Literal[
                "item.input_audio_transcription.logprobs",
                "item.input_audio_transcription.phrases",
                "file_search_call.results",
            ],
            ...,
        ]
        | None,
        Field(description="what else the server should tell"),
    ] = None
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ]
        | None,
        Field(max_length=16, description="labels in the resource's logs: 16 of 64 and 512 characters"),
    ] = None

    # -- what belongs together

    @field_validator("modalities")
    @classmethod
    def _text_comes_along(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given is not None and "text" not in given:
            raise ValueError('never without text: write ["text", "audio"]')
        if given is not None and len(set(given)) < len(given):
            raise ValueError("the same twice: write each modality once")
        return given

    @field_validator("turn_detection", mode="before")
    @classmethod
    def _usual_detector(cls, given: object) -> object:
        """A table without a type is one of the default detector."""
        return {"type": "azure_semantic_vad", **given} if isinstance(given, dict) else given

    @field_validator("model")
    @classmethod
    def _speaks_this_protocol(cls, model: str) -> str:
        if model.startswith("gpt-live"):
            raise ValueError(f"{model} speaks the Live API, a different protocol: use a gpt-realtime model")
        return model

    @model_validator(mode="after")
    def _one_address(self) -> AzureSettings:
        if self.url is not None and self.resource is not None:
            raise ValueError("url and resource are both set: write one of them")
        return self

    @model_validator(mode="after")
    def _one_credential(self) -> AzureSettings:
        named = ["api_key"] if "api_key" in self.model_fields_set else []
        named += ["bearer_token"] if self.bearer_token is not None else []
        named += ["entra"] if self.entra else []
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are both set: write one of them")
        return self

    @model_validator(mode="after")
    def _agent_or_model(self) -> AzureSettings:
        if self.agent is None:
            return self
        for name in ("instructions", "profile"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is the agent's own with an agent: leave it out")
        if "model" in self.model_fields_set:
            raise ValueError("model is the agent's own with an agent: leave it out")
        return self

    @model_validator(mode="after")
    def _rate_of_the_format(self) -> AzureSettings:
        g711 = (self.input_audio_format or "").startswith("g711")
        if g711 and self.input_audio_sampling_rate not in (None, 8000):
            raise ValueError("input_audio_sampling_rate is 8000 with g711: leave it out")
        echo = self.input_audio_echo_cancellation
        if g711 and isinstance(echo, EchoCancellation) and echo.reference_source == "client":
            raise ValueError(
                "a client reference is impossible with g711: write input_audio_format = 'pcm16', or 'server'"
            )
        return self

    # -- what follows

    @property
    def address(self) -> str | None:
        """ws:// or wss:// with a path; None if nothing names it."""
        if self.url is None:
            host = self.resource
            return None if host is None else f"wss://{host}.services.ai.azure.com{_PATH}"
        url = urlsplit(self.url)
        scheme = {"https": "wss", "http": "ws"}.get(url.scheme, url.scheme)
        path = url.path if url.path.strip("/") else _PATH
        return url._replace(scheme=scheme, path=path).geturl()

    @property
    def is_on_this_machine(self) -> bool:
        """Whether no key is needed: an agent of our own."""
        return on_this_machine(self.url or "")

    @property
    def speech_to_speech(self) -> bool:
        """Whether the model itself hears and speaks (gpt-realtime), as far as its name tells."""
        if self.agent is not None:
            return False
        if self.profile is not None:
            return self.profile == "byom-azure-openai-realtime"
        return self.model.startswith("gpt-realtime")

    @property
    def reasons(self) -> bool:
        """Whether the model takes `reasoning_effort` (and then no temperature), as far as its name tells."""
        return self.profile is not None or self.model.startswith(("gpt-5", "gpt-realtime-2"))

    @property
    def synthesised(self) -> bool:
        """Whether Azure's speech synthesis speaks. Without a voice that is what every model but the
        speech-to-speech ones has."""
        if self.voice is not None:
            return is_synthesised(self.voice)
        return not self.speech_to_speech and not (self.agent is None and self.model == "azure-realtime")

    @property
    def says_verbatim(self) -> bool:
        """Whether the API can be given the words themselves (`pre_generated_assistant_message`)."""
        return self.synthesised and self.api_version[:10] >= _VERBATIM_SINCE

    @property
    def interrupts(self) -> bool:
        """Whether the caller's speech stops the agent at the server."""
        turns = self.turn_detection
        return turns is not None and turns != "off" and turns.interrupt_response

    @property
    def turns_by_hand(self) -> bool:
        return self.turn_detection is None or self.turn_detection == "off"

    @property
    def server_truncates(self) -> bool:
        """Whether the server cuts interrupted replies by its own clock."""
        return bool(getattr(self.turn_detection, "auto_truncate", None))
