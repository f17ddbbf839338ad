"""Settings of one Companion API session: every field that the vendor's pages name.

Sources: developers.napster.com/docs, pages deploying-your-agent/configuration, …/connections/websockets and
deploying-your-omniagent/session-configuration; github.com/Napster/omniagent-api-skills. Field names are the
vendor's; `url` to `tool_ids` are ours and never part of the session object.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.credentials import SecretRef, on_this_machine
from telbridge.sessions.provider import Lock, Unconfirmed, VendorPart, VendorSettings

NAME: Final = "companion"
KEY_ENV: Final = "NAPSTER_API_KEY"
"""The vendor's own name for it."""
TAG_KEY_MAX: Final = 64
TAG_VALUE_MAX: Final = 512
CLIENT_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,32}$"

Name = Annotated[str, Field(min_length=1)]
TagKey = Annotated[str, Field(max_length=TAG_KEY_MAX)]
TagValue = Annotated[str, Field(max_length=TAG_VALUE_MAX)]


class TurnDetection(VendorPart):
    """`providerConfig.settings.turnDetection`; an empty table asks for the provider's defaults."""

    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="how loud and clear speech must be, 0 to 1; 0.9 on a line with echo"),
    ] = None
    prefix_padding_ms: Annotated[
        int | None, Field(ge=0, description="ms of audio before detected speech that count as speech")
    ] = None
    silence_duration_ms: Annotated[
        int | None, Field(ge=0, description="ms of silence that end the caller's turn; 800 suits telephones")
    ] = None


class NoiseReduction(VendorPart):
    """`providerConfig.settings.noiseReduction`."""

    type: Annotated[
        Literal["nearField", "farField"] | None,
        Lock.CONNECT,
        Field(description="nearField for a handset, farField for a speakerphone; not set: none"),
    ] = None


class ProviderSettings(VendorPart):
    """`providerConfig.settings`: model and audio. With an agent the first three go out as `set_settings`."""

    instructions: Annotated[
        str | None, Field(repr=False, description="replaces the companion's prompt for this session")
    ] = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2, description="how freely the model words it; 0.3 focused, 0.9 varied")
    ] = None
    turnDetection: Annotated[
        TurnDetection, Field(description="when the caller's turn begins and ends; {} for the defaults")
    ] = Field(default_factory=TurnDetection)
    noiseReduction: Annotated[
        NoiseReduction, Lock.CONNECT, Field(description="cleaning of the caller's audio; not set: none")
    ] = Field(default_factory=NoiseReduction)


class ProviderConfig(VendorPart):
    """`providerConfig`: voice, video and model."""

    voiceId: Annotated[
        Name | None,
        Lock.CONNECT,
        Field(description="voice, such as alloy, echo, shimmer, verse, coral, ash, marin"),
    ] = None
    useGreenVideo: Annotated[
        bool | None, Lock.CONNECT, Field(description="green background of the video; WebRTC only")
    ] = None
    settings: Annotated[ProviderSettings, Field(description="model and audio settings")] = Field(
        default_factory=ProviderSettings
    )


class CompanionSettings(VendorSettings):
    """One session: of an agent (`agent_id`), or put together here around a companion (`companionId`)."""

    url: Annotated[
        str,
        Lock.CONNECT,
        Field(pattern=r"^(https?|wss?)://[^\s/]+", description="address of the REST API, without /public"),
    ] = "https://companion-api.napster.com"
    api_key: Annotated[
        SecretRef, Lock.CONNECT, Field(description="where the key for X-Api-Key is to be found")
    ] = SecretRef(env=KEY_ENV)
    agent_id: Annotated[
        Name | None, Lock.CONNECT, Field(description="id of an agent; voice, tools and knowledge are its own")
    ] = None
    audio_key: Annotated[
        Literal["data", "audio"],
        Lock.CONNECT,
        Unconfirmed(),
        Field(description="key of the audio in send_audio; the vendor's pages of July 2026 said audio"),
    ] = "data"
    output_as_string: Annotated[
        bool,
        Lock.CONNECT,
        Unconfirmed(),
        Field(description="send a tool's output as a JSON string instead of an object"),
    ] = False
    wait_ready_s: Annotated[
        float,
        Lock.CONNECT,
        Unconfirmed(),
        Field(ge=0, le=4.5, description="seconds to wait for `ready` before starting all the same"),
    ] = 3.0
    barge_in: Annotated[
        bool, Field(description="false: silence goes up instead of the caller while the agent speaks")
    ] = True
    tool_ids: Annotated[
        dict[str, Name],
        Lock.CONNECT,
        Field(description="id at the vendor of each tool by its name; a name not here stands for its id"),
    ] = Field(default_factory=dict)

    companionId: Annotated[
        Name | None, Lock.CONNECT, Field(description="id of the companion (persona) of an ad-hoc session")
    ] = None
    functions: Annotated[
        tuple[Name, ...] | None, Lock.CONNECT, Field(description="ids of tools created beforehand")
    ] = None
    faqCollections: Annotated[
        tuple[Name, ...] | None,
        Lock.CONNECT,
        Unconfirmed(),
        Field(description="ids of FAQ collections; newer pages of the vendor allow one at most"),
    ] = None
    knowledgeBaseId: Annotated[
        Name | None, Lock.CONNECT, Field(description="id of the one knowledge collection")
    ] = None
    language: Annotated[
        Name | None,
        Lock.CONNECT,
        Unconfirmed(),
        Field(description='language, as it is: the vendor\'s pages say "es" (newer) and "Spanish" (older)'),
    ] = None
    externalClientId: Annotated[
        str | None,
        Lock.CONNECT,
        Field(
            pattern=CLIENT_ID_PATTERN,
            repr=False,
            description="whose memory the companion continues: 1 to 32 of A-Z a-z 0-9 _ -, no phone number",
        ),
    ] = None
    externalClientProfile: Annotated[
        Json | None, Lock.CONNECT, Field(repr=False, description="facts about the caller, any keys")
    ] = None
    tags: Annotated[
        dict[TagKey, TagValue] | None,
        Lock.CONNECT,
        Field(repr=False, description="labels; keys up to 64 characters, values up to 512"),
    ] = None
    initialSpeech: Annotated[
        Name | None,
        Lock.CONNECT,
        Field(repr=False, description="how the agent opens, told, not read; a call's greeting replaces it"),
    ] = None
    modality: Annotated[
        Literal["audio", "text"] | None,
        Lock.CONNECT,
        Field(description="audio for a telephone; text: no audio at all"),
    ] = None
    disableIdleTimeout: Annotated[
        bool, Lock.CONNECT, Field(description="stay open through 3 minutes without audio; always sent")
    ] = True
    useWebSearch: Annotated[
        bool | None, Lock.CONNECT, Field(description="whether the companion may search the web")
    ] = None
    mode: Annotated[
        Literal["conversation", "puppeteer"] | None,
        Lock.CONNECT,
        Unconfirmed(),
        Field(description="conversation; puppeteer says what it is told to (keys of the Cascade kind only)"),
    ] = None
    providerConfig: Annotated[ProviderConfig, Field(description="voice, video and model")] = Field(
        default_factory=ProviderConfig
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        """A key never leaves this machine in clear text."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            raise ValueError("no host and port in it: write https://host or http://127.0.0.1:port")
        if parts.scheme in ("http", "ws") and not on_this_machine(url):
            raise ValueError("not encrypted: write https://, http:// is for an agent on this machine")
        if parts.query or parts.fragment:
            raise ValueError("holds more than an address: write it without ? and #")
        return url.rstrip("/")
