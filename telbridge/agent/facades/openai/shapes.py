"""The session of OpenAI Realtime (GA) as a client may describe it: its shapes.

Sources: `openai.types.realtime` of the vendor's SDK 3.52.0; published live probes where they differ (pcm
needs its `rate`, `session.type` is mandatory in each update).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from telbridge.agent.facades.realtime import Json

Voice = Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]
MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None
Modalities = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)] | None


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# -- audio ------------------------------------------------------------------------------------------


class Pcm(Shape):
    type: Literal["audio/pcm"]
    rate: Literal[24000]  # the SDK's type says optional, the service insists (live probe 2026-08-19)


class Pcmu(Shape):
    type: Literal["audio/pcmu"]


class Pcma(Shape):
    type: Literal["audio/pcma"]


Format = Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")]


class ServerVad(Shape):
    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0)] | None = None
    # 5 to 30 s is quoted widely and stands in no schema: only the sign is checked.
    idle_timeout_ms: Annotated[int, Field(ge=0)] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class SemanticVad(Shape):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class Transcription(Shape):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    keywords: list[str] | None = None
    languages: list[str] | None = None


class NoiseReduction(Shape):
    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class AudioInput(Shape):
    format: Format | None = None
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = None


class CustomVoice(Shape):
    id: str


class AudioOutput(Shape):
    format: Format | None = None
    voice: Voice | CustomVoice | None = None
    speed: Annotated[float, Field(ge=0.25, le=1.5)] | None = None


class Audio(Shape):
    input: AudioInput | None = None
    output: AudioOutput | None = None


# -- session ----------------------------------------------------------------------------------------


class FunctionTool(Shape):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: Json | None = None


class McpTool(BaseModel):
    """Accepted and never called: this agent runs no tools of its own."""

    model_config = ConfigDict(extra="allow", strict=True)
    type: Literal["mcp"]
    server_label: str


Tool = Annotated[FunctionTool | McpTool, Field(discriminator="type")]


class ToolChoice(Shape):
    type: Literal["function", "mcp"]
    name: str | None = None
    server_label: str | None = None


class Reasoning(Shape):
    # `none` is in no SDK type and was accepted live by gpt-realtime-2.1 (2026-09-22).
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class Prompt(Shape):
    id: str
    version: str | None = None
    variables: Json | None = None


class Tracing(Shape):
    workflow_name: str | None = None
    group_id: str | None = None
    metadata: Json | None = None


class TokenLimits(Shape):
    post_instructions: int | None = None


class RetentionRatio(Shape):
    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


class Session(Shape):
    """`session` of `session.update`: what it does not name keeps its value."""

    type: Literal["realtime"]
    model: str | None = None
    instructions: str | None = None
    output_modalities: Modalities = None
    audio: Audio | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxTokens = None
    reasoning: Reasoning | None = None
    prompt: Prompt | None = None
    tracing: Literal["auto"] | Tracing | None = None
    truncation: Literal["auto", "disabled"] | RetentionRatio | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None
