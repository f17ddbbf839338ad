"""The neutral vocabulary: what is asked of an agent, in no vendor's words.

Only fields that were set count (`model_fields_set`); a field that is not set leaves the vendor's own
default alone. How far each agent API can do what is asked stands in its capabilities (docs/providers.md).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Json: TypeAlias = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TurnDetection(_Part):
    """How the agent API tells that the caller began or ended a turn."""

    mode: Annotated[
        Literal["vad", "semantic", "off"] | None,
        Field(description='"vad": by voice and pauses; "semantic": by what was said; "off": by hand'),
    ] = None
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="how sure the detector must be of speech, 0 to 1")
    ] = None
    prefix_ms: Annotated[
        int | None, Field(ge=0, le=5000, description="ms before the detected start that count as speech")
    ] = None
    silence_ms: Annotated[
        int | None, Field(ge=0, le=10_000, description="ms of silence that end the caller's turn")
    ] = None
    eagerness: Annotated[
        Literal["low", "medium", "high", "auto"] | None,
        Field(description="how soon a semantic detector takes a turn for finished"),
    ] = None


class Tool(_Part):
    """A function that the agent may call."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$", description="name of the function")]
    description: Annotated[str, Field(description="when the agent should call it, and what it does")] = ""
    parameters: Annotated[Json, Field(description="JSON Schema of its arguments, an object")] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )


class NeutralSettings(_Part):
    """Of one agent session."""

    instructions: Annotated[
        str | None, Field(max_length=200_000, description="who the agent is and what it does")
    ] = None
    voice: Annotated[str | None, Field(min_length=1, description="voice, by the vendor's name for it")] = None
    language: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="BCP 47 tag, such as en or de-DE"),
    ] = None
    key_terms: Annotated[
        tuple[str, ...] | None, Field(description="names and words that the recogniser should expect")
    ] = None
    turn_detection: Annotated[
        TurnDetection | None, Field(description="when the caller's turn begins and ends")
    ] = None
    barge_in: Annotated[bool | None, Field(description="whether the caller's voice stops the agent")] = None
    noise_reduction: Annotated[
        Literal["near_field", "far_field", "off"] | None,
        Field(description="near_field for a handset, far_field for a speakerphone"),
    ] = None
    echo_cancellation: Annotated[
        bool | None, Field(description="remove the agent's own voice from what the caller's phone sends")
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="how freely the model words it")] = (
        None
    )
    max_output_tokens: Annotated[
        Annotated[int, Field(ge=1)] | Literal["inf"] | None, Field(description="longest single answer")
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        Field(description="how long the model thinks before it answers"),
    ] = None
    tools: Annotated[tuple[Tool, ...] | None, Field(description="functions the agent may call")] = None
    user_id: Annotated[
        str | None,
        Field(min_length=1, max_length=512, description="stable id of the caller; no phone number"),
    ] = None
    user_profile: Annotated[Json | None, Field(description="facts about the caller for the agent")] = None
    memory_id: Annotated[
        str | None, Field(min_length=1, max_length=512, description="whose memory the agent continues")
    ] = None
    tags: Annotated[dict[str, str] | None, Field(description="labels of the session at the vendor")] = None
    modalities: Annotated[
        tuple[Literal["audio", "text"], ...] | None,
        Field(min_length=1, description="what the agent produces"),
    ] = None
    idle_timeout_s: Annotated[
        float | None, Field(gt=0, description="seconds of silence after which the API prompts or closes")
    ] = None
