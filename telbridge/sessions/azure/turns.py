"""Turn detection of Azure Voice Live: every variant of `session.turn_detection`.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" and "How to use the Voice Live
API" (turn detection); types of azure-ai-voicelive 1.3.1. A field that is not set is not sent.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from telbridge.sessions.provider import Unconfirmed, VendorPart

SEMANTIC_LANGUAGES: Final = ("en", "es", "fr", "it", "de", "ja", "pt", "zh", "ko", "hi")
"""Of azure_semantic_vad_multilingual."""


class EndOfUtterance(VendorPart):
    """`end_of_utterance_detection`: a model that tells a finished sentence from a pause. For models that
    get text; with speech-to-speech models no source confirms it."""

    model: Annotated[
        Literal["semantic_detection_v1", "semantic_detection_v1_en", "semantic_detection_v1_multilingual"],
        Field(description="which detector"),
    ] = "semantic_detection_v1"
    threshold_level: Annotated[
        Literal["low", "medium", "high", "default"] | None,
        Field(description="how sure it must be; lower ends the turn sooner (vendor's default: medium)"),
    ] = None
    timeout_ms: Annotated[
        int | None, Field(ge=0, description="longest wait for more speech, ms (vendor's default: 1000)")
    ] = None


class _Turns(VendorPart):
    create_response: Annotated[
        bool, Field(description="answer by itself when the caller's turn ends; always sent")
    ] = True
    interrupt_response: Annotated[
        bool, Field(description="the caller's speech stops the agent; always sent")
    ] = True


class _Vad(_Turns):
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="how sure to be of speech (vendor's default: 0.5)")
    ] = None
    prefix_padding_ms: Annotated[
        int | None, Field(ge=0, description="audio before the detected start that counts as speech, ms")
    ] = None
    speech_duration_ms: Annotated[
        int | None, Field(ge=0, description="shortest sound that counts as speech, ms")
    ] = None
    speech_duration_assistant_speaking_ms: Annotated[
        int | None,
        Unconfirmed(),
        Field(ge=0, description="the same while the agent speaks; undocumented, used by the vendor's tests"),
    ] = None
    silence_duration_ms: Annotated[
        int | None, Field(ge=0, description="pause that ends the turn, ms (vendor's default: 500)")
    ] = None
    end_of_utterance_detection: Annotated[
        EndOfUtterance | None, Field(description="a model that decides whether a pause ends the turn")
    ] = None
    auto_truncate: Annotated[
        bool | None,
        Field(description="the server cuts interrupted replies by its own clock; unset: telbridge tells it"),
    ] = None
    appended_text_after_truncation: Annotated[
        str | None, Field(description="what is put behind a reply that the server cut (auto_truncate)")
    ] = None


class ServerVad(_Vad):
    """Turns by voice and pauses. `speech_duration_ms` stands in the reference only, not in the SDK."""

    type: Literal["server_vad"] = "server_vad"


class _AzureSemantic(_Vad):
    remove_filler_words: Annotated[
        bool | None, Field(description="'uh' and 'hmm' do not interrupt the agent (vendor's default: no)")
    ] = None


class AzureSemanticVad(_AzureSemantic):
    """Turns by voice, pauses and meaning."""

    type: Literal["azure_semantic_vad"] = "azure_semantic_vad"
    languages: Annotated[tuple[str, ...] | None, Field(description="languages to expect: en, de …")] = None


class AzureSemanticVadEn(_AzureSemantic):
    """The same for English alone."""

    type: Literal["azure_semantic_vad_en"] = "azure_semantic_vad_en"


class AzureSemanticVadMultilingual(_AzureSemantic):
    """The same for ten languages."""

    type: Literal["azure_semantic_vad_multilingual"] = "azure_semantic_vad_multilingual"
    languages: Annotated[
        tuple[str, ...] | None,
        Field(description="languages to expect, of en es fr it de ja pt zh ko hi"),
    ] = None


class SemanticVad(_Turns):
    """OpenAI's detector, for the gpt-realtime models only; in the reference, not in the SDK."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Annotated[
        Literal["auto", "low", "medium", "high"] | None,
        Field(description="how soon a turn counts as finished (vendor's default: auto)"),
    ] = None


TurnDetection: TypeAlias = Annotated[
    ServerVad | AzureSemanticVad | AzureSemanticVadEn | AzureSemanticVadMultilingual | SemanticVad,
    Field(discriminator="type"),
]

DETECTORS: Final[dict[str, type[VendorPart]]] = {
    "server_vad": ServerVad,
    "azure_semantic_vad": AzureSemanticVad,
    "azure_semantic_vad_en": AzureSemanticVadEn,
    "azure_semantic_vad_multilingual": AzureSemanticVadMultilingual,
    "semantic_vad": SemanticVad,
}
