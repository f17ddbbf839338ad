"""Voices of Azure Voice Live: every variant of `session.voice`.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" and "How to customize Voice Live
input and output"; types of azure-ai-voicelive 1.3.1.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import Field

from telbridge.sessions.provider import VendorPart

OpenAIName: TypeAlias = Literal[
    "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"
]
OPENAI_NAMES: Final[frozenset[str]] = frozenset(get_args(OpenAIName))

PersonalModel: TypeAlias = Literal[
    "DragonLatestNeural",
    "PhoenixLatestNeural",
    "PhoenixV2Neural",
    "DragonHDOmniLatestNeural",
    "MAI-Voice-1",
]


class OpenAIVoice(VendorPart):
    """A voice of the gpt-realtime models."""

    type: Literal["openai"] = "openai"
    name: Annotated[OpenAIName, Field(description="name of the voice")]


class _AzureVoice(VendorPart):
    """What all voices of Azure's speech synthesis take; pitch, rate and volume as in SSML's prosody."""

    temperature: Annotated[
        float | None, Field(ge=0, le=1, description="how freely an HD voice speaks, 0 to 1")
    ] = None
    custom_lexicon_url: Annotated[str | None, Field(description="address of a pronunciation lexicon")] = None
    custom_text_normalization_url: Annotated[
        str | None, Field(description="address of rules for reading numbers and abbreviations")
    ] = None
    prefer_locales: Annotated[
        tuple[str, ...] | None, Field(description="accents to prefer for each language, such as en-GB")
    ] = None
    locale: Annotated[
        str | None, Field(description="the one locale to speak; text of any other becomes silence")
    ] = None
    style: Annotated[str | None, Field(description="speaking style that the voice knows")] = None
    pitch: Annotated[str | None, Field(description="pitch, such as +10%")] = None
    rate: Annotated[str | None, Field(description='speed, "0.5" to "1.5"')] = None
    volume: Annotated[str | None, Field(description="volume, such as +10%")] = None


class AzureStandardVoice(_AzureVoice):
    """A voice of Azure's catalogue."""

    type: Literal["azure-standard"] = "azure-standard"
    name: Annotated[str, Field(min_length=1, description="name, such as en-US-AvaNeural")]


class AzureCustomVoice(_AzureVoice):
    """A voice trained for you."""

    type: Literal["azure-custom"] = "azure-custom"
    name: Annotated[str, Field(min_length=1, description="name of the trained voice")]
    endpoint_id: Annotated[str, Field(min_length=1, description="where it is deployed")]


class AzurePersonalVoice(_AzureVoice):
    """A voice made from a short recording."""

    type: Literal["azure-personal"] = "azure-personal"
    name: Annotated[str, Field(min_length=1, description="speaker profile id of the voice")]
    model: Annotated[PersonalModel | str, Field(description="model that speaks it: DragonLatestNeural …")]


class AvatarVoiceSync(_AzureVoice):
    """The voice of the avatar."""

    type: Literal["avatar-voice-sync"] = "avatar-voice-sync"
    model: Annotated[PersonalModel | str, Field(description="model that speaks it: DragonLatestNeural …")]


class AzureRealtimeNativeVoice(VendorPart):
    """A voice of the model azure-realtime: aarti andrew ava denise diya elsa florian francisca meera
    xiaoxiao ximena yunxi, and whatever the service adds."""

    type: Literal["azure-realtime-native"] = "azure-realtime-native"
    name: Annotated[str, Field(min_length=1, description="name of the voice, such as ava")]


VoiceTable: TypeAlias = Annotated[
    OpenAIVoice
    | AzureStandardVoice
    | AzureCustomVoice
    | AzurePersonalVoice
    | AvatarVoiceSync
    | AzureRealtimeNativeVoice,
    Field(discriminator="type"),
]
Voice: TypeAlias = VoiceTable | OpenAIName
"""A bare name is one of OpenAI's."""


def is_synthesised(voice: Voice) -> bool:
    """Whether Azure's speech synthesis speaks, and not the model itself."""
    return isinstance(voice, _AzureVoice)
