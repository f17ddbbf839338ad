"""`agent.think` of Deepgram's Settings: the language model, its prompt and its functions.

Sources: developers.deepgram.com/docs/configure-voice-agent, /docs/voice-agent-llm-models,
/docs/voice-agents-function-calling; the typed models of `deepgram-sdk` 7.17.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.deepgram.parts import AwsCredentials, Endpoint, FunctionEndpoint, Identified
from telbridge.sessions.provider import Unconfirmed, VendorPart

PROMPT_LIMIT: Final = 25_000
"""Characters of a prompt that a model run by Deepgram takes; the rest is cut off, with a Warning."""

_Temperature = Annotated[float | None, Field(ge=0, le=2, description="how freely the model words it, 0 to 2")]
_Version1 = Annotated[Literal["v1"] | None, Field(description='"v1", or not set')]
_Model = Annotated[str, Field(min_length=1, description="name of the model, as its vendor spells it")]
_Reasoning = Annotated[
    Literal["none", "minimal", "low", "medium", "high"] | None,
    Field(description="how long the model thinks before it answers"),
]


class OpenAIThink(Identified):
    type: Annotated[Literal["open_ai"], Field(description="OpenAI")]
    model: _Model
    version: _Version1 = None
    temperature: _Temperature = None
    reasoning_mode: _Reasoning = None


class AnthropicThink(Identified):
    type: Annotated[Literal["anthropic"], Field(description="Anthropic")]
    model: _Model
    version: _Version1 = None
    temperature: Annotated[
        float | None, Field(ge=0, le=1, description="how freely the model words it, 0 to 1")
    ] = None


class GoogleThink(Identified):
    type: Annotated[Literal["google"], Field(description="Google")]
    model: Annotated[
        str | None,
        Field(min_length=1, description="name of the model; left out with an endpoint of one's own"),
    ] = None
    version: Annotated[
        Literal["ai-studio-v1beta", "gemini-enterprise-agent-v1", "v1beta"] | None,
        Field(description="which of Google's APIs; not set: by the host"),
    ] = None
    temperature: _Temperature = None


class GroqThink(Identified):
    type: Annotated[Literal["groq"], Field(description="Groq, with an endpoint of one's own")]
    model: Annotated[
        str | None, Field(min_length=1, description="name of the model; not set: openai/gpt-oss-20b")
    ] = None
    version: _Version1 = None
    temperature: _Temperature = None
    reasoning_mode: _Reasoning = None


class BedrockThink(Identified):
    type: Annotated[
        Literal["aws_bedrock"], Field(description="Amazon Bedrock, with an endpoint of one's own")
    ]
    model: _Model
    temperature: _Temperature = None
    credentials: Annotated[AwsCredentials | None, Field(description="keys of the AWS account")] = None


class DeepgramThink(Identified):
    type: Annotated[Literal["deepgram"], Field(description="Deepgram's own models, early access")]
    model: _Model
    version: _Version1 = None
    temperature: _Temperature = None
    reasoning_mode: _Reasoning = None
    voice_prompt_opt_out: Annotated[
        bool | None, Field(description="leave out Deepgram's own words on how to speak")
    ] = None


class NvidiaThink(Identified):
    """Named by the vendor's pages, unknown to its SDK: which fields it takes is not confirmed."""

    type: Annotated[Literal["nvidia"], Unconfirmed(), Field(description="NVIDIA")]
    model: _Model
    temperature: _Temperature = None


ThinkProvider: TypeAlias = Annotated[
    OpenAIThink | AnthropicThink | GoogleThink | GroqThink | BedrockThink | DeepgramThink | NvidiaThink,
    Field(discriminator="type"),
]


class Function(VendorPart):
    """A function that the model may call: by us, or with `endpoint` by Deepgram itself."""

    name: Annotated[str, Field(min_length=1, description="name of the function")]
    description: Annotated[str, Field(description="when to call it, and what it does")]
    parameters: Annotated[Json, Field(description="JSON Schema of its arguments, an object")]
    endpoint: Annotated[
        FunctionEndpoint | None,
        Field(description="where Deepgram calls it itself; not set: telbridge is asked"),
    ] = None
    defer_until_eot: Annotated[
        bool | None,
        Field(description="wait until the caller's turn is surely over; for what can't be undone"),
    ] = None
    initial_agent_filler: Annotated[
        bool | None, Field(description="say a short line while it runs; with think_live only")
    ] = None
    agent_filler_max_count: Annotated[
        int | None, Field(ge=0, description="further such lines, at most; with think_live only")
    ] = None
    agent_filler_interval_ms: Annotated[
        int | None, Field(ge=1000, le=60_000, description="ms of silence before each; with think_live only")
    ] = None

    @property
    def has_filler(self) -> bool:
        fillers = (self.initial_agent_filler, self.agent_filler_max_count, self.agent_filler_interval_ms)
        return any(one is not None for one in fillers)


class Think(VendorPart):
    """One language model with its prompt and functions."""

    provider: Annotated[ThinkProvider, Field(description="the model and its settings")]
    endpoint: Annotated[
        Endpoint | None, Field(description="where the model is reached; not set: Deepgram runs it")
    ] = None
    functions: Annotated[tuple[Function, ...] | None, Field(description="what the model may call")] = None
    prompt: Annotated[str | None, Field(description="who the agent is and what it does")] = None
    context_length: Annotated[
        Annotated[int, Field(ge=1)] | Literal["max"] | None,
        Field(description='characters of conversation to keep, or "max"; with an endpoint only'),
    ] = None

    @model_validator(mode="after")
    def _has_its_endpoint(self) -> Think:
        if self.endpoint is None and self.provider.type in ("groq", "aws_bedrock"):
            raise ValueError(f"{self.provider.type} is not run by Deepgram: set endpoint.url")
        if self.endpoint is not None and self.endpoint.is_websocket:
            raise ValueError("a language model is not reached by WebSocket: write an https:// url")
        if self.endpoint is None and self.context_length is not None:
            raise ValueError("context_length holds for a model with an endpoint only: remove it")
        return self


def one_or_more(value: Any) -> str:
    return "fallbacks" if isinstance(value, list | tuple) else "one"


OneOrMoreThink: TypeAlias = Annotated[
    Annotated[Think, Tag("one")] | Annotated[tuple[Think, ...], Field(min_length=1), Tag("fallbacks")],
    Discriminator(one_or_more),
]


class ThinkLiveProvider(Identified):
    type: Annotated[Literal["deepgram"], Field(description='always "deepgram"')] = "deepgram"
    version: Annotated[Literal["v1"], Field(description='always "v1"')] = "v1"
    agent_backchannel_sensitivity: Annotated[
        float | None,
        Field(ge=0, description="how likely the agent says mhm while the caller speaks; 0: never"),
    ] = None
    presence_check_max_count: Annotated[
        int | None, Field(ge=0, description="how often a silent caller is asked; 0: never")
    ] = None
    presence_check_interval_ms: Annotated[
        int | None, Field(ge=0, description="ms between such questions; below 3000 counts as 3000")
    ] = None
    frustration_max_count: Annotated[
        int | None, Field(ge=0, description="FrustrationDetected events until `escalated`; 0: none at all")
    ] = None
    restricted_terms: Annotated[tuple[str, ...] | None, Field(description="words that it will not say")] = (
        None
    )


class ThinkLive(VendorPart):
    """Early access: an invitation is needed, without one the API refuses the whole Settings."""

    provider: Annotated[ThinkLiveProvider, Field(description="the model and its settings")]
