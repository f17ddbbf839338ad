"""What a Voice Live session can be set to: the shapes of `session.update` and of `response.create`.

Sources: the API reference (learn.microsoft.com, speech-service/voice-live-api-reference-2026-07-15) and the
models of the vendor's Python SDK azure-ai-voicelive 1.3.1. Where the two disagree and nobody has seen the
service decide, both spellings are taken; values that only the vendor's own live tests show are taken too.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from telbridge.agent.facades.realtime import Json

OPENAI_TRANSCRIBERS: Final = frozenset(
    {"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"}
)
NULL: Final = "null_forbidden"
"""Pydantic error type of a null where the service wants a value; its context has the `key`."""


class Shape(BaseModel):
    """Strict, and without null except where the reference offers it to switch something off."""

    model_config = ConfigDict(extra="forbid", strict=True)
    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key, value in data.items():
                if value is None and key in cls.model_fields and key not in cls.nullable:
                    raise PydanticCustomError(NULL, "input should not be null", {"key": key})
        return data


Unit = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0)]
MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"]
Modality = Literal["text", "audio", "animation", "avatar"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
InputFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]
OutputFormat = Literal[
    "pcm16",
    "pcm16_8000hz",
    "pcm16_16000hz",
    "g711_ulaw",
    "g711_alaw",
    # In no document, but in the vendor's live tests:
    "pcm16_22050hz",
    "pcm16_24000hz",
    "pcm16_44100hz",
    "pcm16_48000hz",
]


# -- voice --------------------------------------------------------------------------------------------

OpenAIVoiceName = Literal[
    "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"
]


class OpenAIVoice(Shape):
    type: Literal["openai"]
    name: OpenAIVoiceName


class _AzureVoice(Shape):
    temperature: Unit | None = None
    custom_lexicon_url: str | None = None
    custom_text_normalization_url: str | None = None
    prefer_locales: list[str] | None = None
    locale: str | None = None
    style: str | None = None
    pitch: str | None = None
    rate: str | None = None
    volume: str | None = None


PersonalModel = Literal[
    "DragonLatestNeural",
    "PhoenixLatestNeural",
    "PhoenixV2Neural",
    "DragonHDOmniLatestNeural",
    "MAI-Voice-1",
]


class AzureStandardVoice(_AzureVoice):
    type: Literal["azure-standard"]
    name: str


class AzureCustomVoice(_AzureVoice):
    type: Literal["azure-custom"]
    name: str
    endpoint_id: str


class AzurePersonalVoice(_AzureVoice):
    type: Literal["azure-personal"]
    name: str
    model: PersonalModel


class AvatarSyncVoice(_AzureVoice):
    type: Literal["avatar-voice-sync"]
    model: PersonalModel


class AzureRealtimeNativeVoice(Shape):
    type: Literal["azure-realtime-native"]
    name: str  # the SDK's list is open: "additional voice names may be accepted"


Voice = (
    OpenAIVoiceName
    | Annotated[
        OpenAIVoice
        | AzureStandardVoice
        | AzureCustomVoice
        | AzurePersonalVoice
        | AvatarSyncVoice
        | AzureRealtimeNativeVoice,
        Field(discriminator="type"),
    ]
)


# -- caller audio -------------------------------------------------------------------------------------


class EndOfUtterance(Shape):
    model: Literal["semantic_detection_v1", "semantic_detection_v1_en", "semantic_detection_v1_multilingual"]
    threshold_level: Literal["low", "medium", "high", "default"] | None = None
    timeout_ms: Milliseconds | None = None
    # Of the previews, still found in samples: a number, and seconds.
    threshold: float | None = None
    timeout: float | None = None


class _Turns(Shape):
    create_response: bool | None = None
    interrupt_response: bool | None = None


class _Vad(_Turns):
    nullable = frozenset({"end_of_utterance_detection"})
    threshold: Unit | None = None
    prefix_padding_ms: Milliseconds | None = None
    speech_duration_ms: Milliseconds | None = None  # with server_vad only in the reference, not in the SDK
    silence_duration_ms: Milliseconds | None = None
    end_of_utterance_detection: EndOfUtterance | None = None
    auto_truncate: bool | None = None


class ServerVad(_Vad):
    type: Literal["server_vad"]


class _AzureVad(_Vad):
    remove_filler_words: bool | None = None
    appended_text_after_truncation: str | None = None
    # Documented nowhere, sent and accepted in the vendor's live tests.
    speech_duration_assistant_speaking_ms: Milliseconds | None = None


class AzureSemanticVad(_AzureVad):
    type: Literal["azure_semantic_vad", "azure_semantic_vad_multilingual"]
    languages: list[str] | None = None


class AzureSemanticVadEn(_AzureVad):
    type: Literal["azure_semantic_vad_en"]


class SemanticVad(_Turns):
    """OpenAI's own; absent from the SDK's union."""

    type: Literal["semantic_vad"]
    eagerness: Literal["auto", "low", "medium", "high"] | None = None
    auto_truncate: bool | None = None


TurnDetection = Annotated[
    ServerVad | AzureSemanticVad | AzureSemanticVadEn | SemanticVad, Field(discriminator="type")
]


class Transcription(Shape):
    model: Literal[
        "azure-speech",
        "mai-transcribe",
        "mai-transcribe-1",
        "mai-transcribe-2",
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-transcribe-diarize",
    ]
    language: str | None = None
    phrase_list: list[str] | None = None
    custom_speech: dict[str, str] | None = None
    prompt: str | None = None


class NoiseReduction(Shape):
    type: Literal["azure_deep_noise_suppression", "near_field", "far_field"]


class EchoCancellation(Shape):
    type: Literal["server_echo_cancellation"]
    reference_source: Literal["server", "client"] | None = None
    channels: Literal[1, 2] | None = None


# -- tools --------------------------------------------------------------------------------------------


class FunctionTool(Shape):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: Json | None = None


class McpTool(Shape):
    type: Literal["mcp"]
    server_label: str
    server_url: str
    authorization: str | None = None
    headers: dict[str, str] | None = None
    allowed_tools: list[str] | None = None
    require_approval: Literal["always", "never"] | dict[Literal["always", "never"], list[str]] | None = None


class FoundryAgentTool(Shape):
    type: Literal["foundry_agent"]
    agent_name: str
    project_name: str
    agent_version: str | None = None
    client_id: str | None = None
    description: str | None = None
    foundry_resource_override: str | None = None
    agent_context_type: Literal["no_context", "agent_context"] | None = None
    return_agent_response_directly: bool | None = None


Tool = Annotated[FunctionTool | McpTool | FoundryAgentTool, Field(discriminator="type")]


class ToolChoiceFunction(Shape):
    type: Literal["function"]
    name: str


ToolChoice = str | ToolChoiceFunction
"""auto, none, required, or a function: by its bare name or in an object."""


# -- avatar, animation, filler: taken, shown again, and not performed on a telephone line ----------------


class Animation(Shape):
    model_name: str | None = None
    outputs: list[Literal["blendshapes", "viseme_id"]] | None = None


class Avatar(BaseModel):
    """Only what must be there is checked: no telephone shows it."""

    model_config = ConfigDict(extra="allow", strict=True)
    character: str
    customized: bool
    type: Literal["video-avatar", "photo-avatar"] = "video-avatar"


class _Interim(Shape):
    triggers: list[Literal["latency", "tool"]] | None = None
    latency_threshold_ms: Milliseconds | None = None


class StaticInterim(_Interim):
    type: Literal["static_interim_response"]
    texts: list[str] | None = None


class LlmInterim(_Interim):
    type: Literal["llm_interim_response"]
    model: str | None = None
    instructions: str | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


Interim = Annotated[StaticInterim | LlmInterim, Field(discriminator="type")]


# -- session and response -------------------------------------------------------------------------------


class Session(Shape):
    """`session` of `session.update`: what it does not name keeps its value."""

    nullable = frozenset(
        {"turn_detection", "input_audio_noise_reduction", "input_audio_echo_cancellation"}
        | {"input_audio_transcription", "interim_response", "animation", "avatar"}
    )
    model: str | None = None
    modalities: list[Modality] | None = None
    instructions: str | None = None
    voice: Voice | None = None
    input_audio_format: InputFormat | None = None
    input_audio_sampling_rate: int | None = None
    output_audio_format: OutputFormat | None = None
    input_audio_noise_reduction: NoiseReduction | None = None
    input_audio_echo_cancellation: EchoCancellation | None = None
    input_audio_transcription: Transcription | None = None
    turn_detection: TurnDetection | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    temperature: Unit | None = None  # the reference says 0.6 to 1.2, the SDK and the JavaScript pages 0 to 1
    max_response_output_tokens: MaxTokens | None = None
    reasoning_effort: Effort | None = None
    interim_response: Interim | None = None
    output_audio_timestamp_types: list[Literal["word"]] | None = None
    animation: Animation | None = None
    avatar: Avatar | None = None
    include: (
        list[
            Literal[
                "item.input_audio_transcription.logprobs",
                "item.input_audio_transcription.phrases",
                "file_search_call.results",
            ]
        ]
        | None
    ) = None
    metadata: Metadata | None = None


class SpokenText(Shape):
    type: Literal["text"]
    text: str


class SpokenMessage(Shape):
    """`pre_generated_assistant_message`: exactly one text, spoken as it stands."""

    type: Literal["message"]
    role: Literal["assistant"]
    content: Annotated[list[SpokenText], Field(min_length=1, max_length=1)]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None
