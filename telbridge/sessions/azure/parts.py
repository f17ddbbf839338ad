"""Tables inside an Azure Voice Live session: recognition, cleaning, fillers, tools, picture.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference", "Voice Live interim response";
types of azure-ai-voicelive 1.3.1.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.provider import Lock, VendorPart


class Transcription(VendorPart):
    """`input_audio_transcription`: what makes text of the caller's speech."""

    model: Annotated[
        str,
        Field(
            min_length=1,
            description="azure-speech, mai-transcribe…, whisper-1, gpt-4o-transcribe, "
            "gpt-4o-mini-transcribe or gpt-4o-transcribe-diarize",
        ),
    ] = "azure-speech"
    language: Annotated[
        str | None, Field(min_length=2, description="en-US, en, or a list to choose from: en,zh")
    ] = None
    phrase_list: Annotated[
        tuple[str, ...] | None, Field(description="words to expect; azure-speech and mai-transcribe only")
    ] = None
    custom_speech: Annotated[
        dict[str, str] | None, Field(description="trained model by locale; azure-speech only")
    ] = None
    prompt: Annotated[str | None, Field(description="words to expect; whisper and gpt-4o models only")] = None

    @model_validator(mode="after")
    def _fields_of_the_model(self) -> Transcription:
        openai = self.model.startswith(("whisper", "gpt-4o"))
        if openai and self.phrase_list:
            raise ValueError(f"phrase_list is not for {self.model}: write prompt, or model azure-speech")
        if self.custom_speech and self.model != "azure-speech":
            raise ValueError(f"custom_speech is not for {self.model}: write model = 'azure-speech'")
        if self.prompt is not None and not openai:
            raise ValueError(f"prompt is not for {self.model}: write phrase_list")
        return self


class NoiseReduction(VendorPart):
    """`input_audio_noise_reduction`."""

    type: Annotated[
        Literal["azure_deep_noise_suppression", "near_field", "far_field"],
        Field(description="near_field and far_field with gpt-realtime models only"),
    ]


class EchoCancellation(VendorPart):
    """`input_audio_echo_cancellation`: the server takes the agent's own voice out of the caller's."""

    type: Literal["server_echo_cancellation"] = "server_echo_cancellation"
    reference_source: Annotated[
        Literal["server", "client"] | None,
        Lock.START,
        Field(description="server: what it spoke; client: a second channel, which a telephone has not"),
    ] = None
    channels: Annotated[
        Literal[1, 2] | None, Lock.START, Field(description="channels sent: 1, or 2 with client")
    ] = None

    @model_validator(mode="after")
    def _two_channels_want_a_reference(self) -> EchoCancellation:
        if self.channels == 2 and self.reference_source != "client":
            raise ValueError("channels = 2 is for a client reference: write reference_source = 'client'")
        return self


class _Interim(VendorPart):
    triggers: Annotated[
        tuple[Literal["latency", "tool"], ...] | None,
        Field(description="when: the answer is late, a tool runs (vendor's default: latency)"),
    ] = None
    latency_threshold_ms: Annotated[
        int | None, Field(ge=0, description="how late is late, ms (vendor's default: 2000)")
    ] = None


class StaticInterim(_Interim):
    """One of a few fixed phrases."""

    type: Literal["static_interim_response"] = "static_interim_response"
    texts: Annotated[tuple[str, ...] | None, Field(description="phrases, one taken by chance")] = None


class LlmInterim(_Interim):
    """A phrase made for the moment."""

    type: Literal["llm_interim_response"] = "llm_interim_response"
    model: Annotated[str | None, Field(description="model (vendor's default: gpt-4.1-mini)")] = None
    instructions: Annotated[str | None, Field(description="what kind of phrase")] = None
    max_completion_tokens: Annotated[
        int | None, Field(ge=1, description="longest phrase (vendor's default: 50)")
    ] = None


InterimResponse: TypeAlias = Annotated[StaticInterim | LlmInterim, Field(discriminator="type")]


class FunctionTool(VendorPart):
    """A function that telbridge answers."""

    type: Literal["function"] = "function"
    name: Annotated[str, Field(min_length=1, description="name of the function")]
    description: Annotated[str | None, Field(description="when to call it")] = None
    parameters: Annotated[Json | None, Field(description="JSON Schema of its arguments")] = None


class ApprovalByTool(VendorPart):
    """Which tools of a server want approval."""

    never: Annotated[tuple[str, ...] | None, Field(description="tools that run at once")] = None
    always: Annotated[tuple[str, ...] | None, Field(description="tools that ask first")] = None


class McpTool(VendorPart):
    """Tools of an MCP server, which Azure calls."""

    type: Literal["mcp"] = "mcp"
    server_label: Annotated[str, Field(min_length=1, description="name of the server")]
    server_url: Annotated[str, Field(min_length=1, description="address of the server")]
    authorization: Annotated[SecretRef | None, Field(description="token for the server")] = None
    headers: Annotated[
        dict[str, SecretRef | str] | None, Field(description="HTTP headers for the server")
    ] = None
    allowed_tools: Annotated[tuple[str, ...] | None, Field(description="only these of its tools")] = None
    require_approval: Annotated[
        Literal["always", "never"] | ApprovalByTool | None,
        Field(description='"never" on a telephone; telbridge refuses what asks (vendor\'s default: always)'),
    ] = None


class FoundryAgentTool(VendorPart):
    """A Foundry agent as a tool; in the vendor's reference, not in the SDK any more."""

    type: Literal["foundry_agent"] = "foundry_agent"
    agent_name: Annotated[str, Field(min_length=1, description="name of the agent")]
    project_name: Annotated[str, Field(min_length=1, description="project of the agent")]
    agent_version: Annotated[str | None, Field(description="version of the agent")] = None
    client_id: Annotated[str | None, Field(description="identity that calls it")] = None
    description: Annotated[str | None, Field(description="when to call it")] = None
    foundry_resource_override: Annotated[str | None, Field(description="another Foundry resource")] = None
    agent_context_type: Annotated[
        Literal["no_context", "agent_context"] | None,
        Field(description="whether it remembers (vendor's default: agent_context)"),
    ] = None
    return_agent_response_directly: Annotated[
        bool | None, Field(description="speak its answer as it is (vendor's default: yes)")
    ] = None


Tool: TypeAlias = Annotated[FunctionTool | McpTool | FoundryAgentTool, Field(discriminator="type")]


class ToolChoiceFunction(VendorPart):
    """The one function that must be called."""

    type: Literal["function"] = "function"
    name: Annotated[str, Field(min_length=1, description="name of the function")]


class Animation(VendorPart):
    """Data that move a face."""

    model_name: Annotated[str | None, Field(description="model (vendor's default: default)")] = None
    outputs: Annotated[
        tuple[Literal["blendshapes", "viseme_id"], ...] | None, Field(description="kinds of data")
    ] = None


class IceServer(VendorPart):
    """A server for the avatar's WebRTC connection."""

    urls: Annotated[tuple[str, ...], Field(min_length=1, description="addresses")]
    username: Annotated[str | None, Field(description="user")] = None
    credential: Annotated[SecretRef | None, Field(description="password")] = None


class VideoCrop(VendorPart):
    """A part of the picture, pixels."""

    top_left: Annotated[tuple[int, int], Field(description="x and y")]
    bottom_right: Annotated[tuple[int, int], Field(description="x and y")]


class VideoResolution(VendorPart):
    """Size of the picture, pixels."""

    width: Annotated[int, Field(gt=0, description="pixels")]
    height: Annotated[int, Field(gt=0, description="pixels")]


class Background(VendorPart):
    """What stands behind the avatar."""

    color: Annotated[str | None, Field(description="colour, #RRGGBBAA")] = None
    image_url: Annotated[str | None, Field(description="address of a picture")] = None


class Video(VendorPart):
    """The avatar's video."""

    bitrate: Annotated[int | None, Field(gt=0, description="bit/s (vendor's default: 2000000)")] = None
    codec: Annotated[Literal["h264"] | None, Field(description="h264")] = None
    crop: Annotated[VideoCrop | None, Field(description="part of the picture")] = None
    resolution: Annotated[VideoResolution | None, Field(description="size")] = None
    background: Annotated[Background | None, Field(description="background")] = None
    gop_size: Annotated[int | None, Field(gt=0, description="frames (vendor's default: 10)")] = None


class Scene(VendorPart):
    """Where a photo avatar stands and how it moves."""

    zoom: Annotated[float | None, Field(description="size")] = None
    position_x: Annotated[float | None, Field(description="to the right")] = None
    position_y: Annotated[float | None, Field(description="upwards")] = None
    rotation_x: Annotated[float | None, Field(description="radians")] = None
    rotation_y: Annotated[float | None, Field(description="radians")] = None
    rotation_z: Annotated[float | None, Field(description="radians")] = None
    amplitude: Annotated[float | None, Field(description="how much it moves")] = None


class Avatar(VendorPart):
    """A picture that speaks."""

    type: Annotated[Literal["video-avatar", "photo-avatar"] | None, Field(description="kind")] = None
    character: Annotated[str, Field(min_length=1, description="name of the figure")]
    customized: Annotated[bool, Field(description="whether it was made for you")]
    style: Annotated[str | None, Field(description="clothes and posture")] = None
    model: Annotated[Literal["vasa-1"] | None, Field(description="model of a photo avatar")] = None
    ice_servers: Annotated[tuple[IceServer, ...] | None, Field(description="WebRTC servers")] = None
    video: Annotated[Video | None, Field(description="the picture")] = None
    scene: Annotated[Scene | None, Field(description="place and movement")] = None
    output_protocol: Annotated[
        Literal["webrtc", "websocket"] | None, Field(description="how the picture is sent")
    ] = None
    output_audit_audio: Annotated[
        bool | None, Field(description="send the sound over the WebSocket as well")
    ] = None


class AgentMode(VendorPart):
    """A Foundry agent in the model's place; goes into the query of the connection. The vendor's classic
    form names `agent_id` instead of `agent_name`."""

    agent_name: Annotated[str | None, Field(min_length=1, description="name of the agent")] = None
    agent_id: Annotated[str | None, Field(min_length=1, description="id of a classic agent")] = None
    agent_project_name: Annotated[str, Field(min_length=1, description="project of the agent")]
    agent_version: Annotated[str | None, Field(description="version of the agent")] = None
    conversation_id: Annotated[str | None, Field(description="conversation to carry on")] = None
    agent_authentication_identity_client_id: Annotated[
        str | None, Field(description="identity that calls the agent")
    ] = None
    foundry_resource_override: Annotated[str | None, Field(description="another Foundry resource")] = None
    agent_access_token: Annotated[SecretRef | None, Field(description="token of a classic agent")] = None

    @model_validator(mode="after")
    def _one_agent(self) -> AgentMode:
        if (self.agent_name is None) == (self.agent_id is None):
            raise ValueError("needs exactly one agent: write agent_name, or agent_id for a classic one")
        if self.agent_access_token is not None and self.agent_id is None:
            raise ValueError("agent_access_token is for classic agents: write agent_id")
        return self
