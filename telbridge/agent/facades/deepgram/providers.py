"""Who listens, thinks and speaks in a Deepgram Voice Agent: the shapes, and what does not go together.

Sources: the types of the vendor's SDK 7.17.0 (`deepgram.agent.v1.types`, `deepgram.types`) for the fields;
developers.deepgram.com/docs/configure-voice-agent, /docs/voice-agent-llm-models and
/docs/voice-agent-tts-models for ranges and combinations. Models are open sets: the vendor adds to them
monthly, and the SDK's lists are behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from telbridge.agent.facades.deepgram.refusal import NOT_LISTENING, NOT_SPEAKING, RefusedError, invalid

MANAGED_PROMPT_MAX_CHARS: Final = 25_000
DEFAULT_VOICE: Final = "flux-kit-en"
SPEEDS: Final = {"v1": (0.7, 1.5), "v2": (0.5, 1.5)}


class Shape(BaseModel):
    """The service takes no key it does not know (`client_side` in a function, `timeout` in think: both seen
    refused)."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(Shape):
    url: str
    headers: dict[str, str] | None = None


# -- listen -------------------------------------------------------------------------------------------


class NovaListen(Shape):
    type: Literal["deepgram"]
    version: Literal["v1"] | None = None
    model: str | None = None
    language: str | None = None
    smart_format: bool | None = None
    keyterms: list[str] | None = None


class FluxListen(Shape):
    type: Literal["deepgram"]
    version: Literal["v2"]
    model: str
    language_hints: list[str] | None = None
    eot_threshold: Annotated[float, Field(ge=0.5, le=1.0)] | None = None
    eager_eot_threshold: Annotated[float, Field(ge=0.3, le=0.9)] | None = None
    eot_timeout_ms: Annotated[int, Field(ge=500, le=60_000)] | None = None
    keyterms: list[str] | None = None


def _version(provider: Any) -> str:
    if isinstance(provider, FluxListen):
        return "v2"
    return "v2" if isinstance(provider, dict) and provider.get("version") == "v2" else "v1"


ListenProvider = Annotated[
    Annotated[NovaListen, Tag("v1")] | Annotated[FluxListen, Tag("v2")], Discriminator(_version)
]


class Listen(Shape):
    provider: ListenProvider | None = None


# -- think --------------------------------------------------------------------------------------------

Temperature = Annotated[float, Field(ge=0, le=2)]
Reasoning = Literal["none", "minimal", "low", "medium", "high"]


class OpenAiThink(Shape):
    type: Literal["open_ai"]
    model: str
    version: Literal["v1"] | None = None
    temperature: Temperature | None = None
    reasoning_mode: Reasoning | None = None


class AnthropicThink(Shape):
    type: Literal["anthropic"]
    model: str
    version: Literal["v1"] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None


class GoogleThink(Shape):
    type: Literal["google"]
    model: str | None = None
    version: Literal["ai-studio-v1beta", "gemini-enterprise-agent-v1", "v1beta"] | None = None
    temperature: Temperature | None = None


class GroqThink(Shape):
    type: Literal["groq"]
    model: str
    version: Literal["v1"] | None = None
    temperature: Temperature | None = None
    reasoning_mode: Reasoning | None = None


class AwsCredentials(Shape):
    type: Literal["sts", "iam"]
    region: str
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class BedrockThink(Shape):
    type: Literal["aws_bedrock"]
    model: str
    temperature: Temperature | None = None
    credentials: AwsCredentials | None = None


class DeepgramThink(Shape):
    type: Literal["deepgram"]
    model: str
    version: Literal["v1"] | None = None
    temperature: Temperature | None = None
    reasoning_mode: Reasoning | None = None
    voice_prompt_opt_out: bool | None = None


class NvidiaThink(Shape):
    """On the vendor's pages, in no SDK type."""

    type: Literal["nvidia"]
    model: str
    temperature: Temperature | None = None


ThinkProvider = Annotated[
    OpenAiThink | AnthropicThink | GoogleThink | GroqThink | BedrockThink | DeepgramThink | NvidiaThink,
    Field(discriminator="type"),
]


class FunctionEndpoint(Shape):
    url: str
    method: str | None = None
    headers: dict[str, str] | None = None


class Function(Shape):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    endpoint: FunctionEndpoint | None = None
    """None: the client carries it out."""
    defer_until_eot: bool | None = None
    initial_agent_filler: bool | None = None
    agent_filler_max_count: int | None = None
    agent_filler_interval_ms: Annotated[int, Field(ge=1_000, le=60_000)] | None = None


class Think(Shape):
    provider: ThinkProvider
    endpoint: Endpoint | None = None
    functions: list[Function] | None = None
    prompt: str | None = None
    context_length: Literal["max"] | float | None = None


# -- speak --------------------------------------------------------------------------------------------


class DeepgramSpeak(Shape):
    """No `language`: with it the live service refuses the whole message."""

    type: Literal["deepgram"]
    model: str
    version: Literal["v1", "v2"] | None = None
    speed: float | None = None
    expressivity: Annotated[int, Field(ge=-2, le=2)] | None = None


class ElevenLabsSpeak(Shape):
    type: Literal["eleven_labs"]
    model_id: str
    version: Literal["v1"] | None = None
    language: str | None = None
    language_code: str | None = None


class CartesiaVoice(Shape):
    mode: str
    id: str


class CartesiaSpeak(Shape):
    type: Literal["cartesia"]
    model_id: str
    voice: CartesiaVoice
    version: Literal["2025-03-17"] | None = None
    language: str | None = None
    volume: Annotated[float, Field(ge=0.5, le=2.0)] | None = None
    speed: float | str | None = None
    """On the vendor's page, in no SDK type."""


class OpenAiSpeak(Shape):
    type: Literal["open_ai"]
    model: str
    voice: Literal["alloy", "echo", "fable", "onyx", "nova", "shimmer"]
    version: Literal["v1"] | None = None


class PollySpeak(Shape):
    type: Literal["aws_polly"]
    voice: str
    language: str
    engine: Literal["generative", "long-form", "standard", "neural"]
    credentials: AwsCredentials
    language_code: str | None = None


SpeakProvider = Annotated[
    DeepgramSpeak | ElevenLabsSpeak | CartesiaSpeak | OpenAiSpeak | PollySpeak, Field(discriminator="type")
]


class Speak(Shape):
    provider: SpeakProvider
    endpoint: Endpoint | None = None


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


# A list is an order of fallbacks: the next one is asked when one fails.
ThinkChain = Annotated[
    Annotated[Think, Tag("one")] | Annotated[list[Think], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many),
]
SpeakChain = Annotated[
    Annotated[Speak, Tag("one")] | Annotated[list[Speak], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many),
]


# -- what does not go together ------------------------------------------------------------------------


def check_listen(provider: NovaListen | FluxListen | None) -> None:
    """RefusedError for what the shapes allow and the service does not."""
    if isinstance(provider, NovaListen):
        if provider.model is not None and provider.model.startswith("flux-"):
            # Without version v2 the model is looked for where only Nova is. The consequence is unconfirmed.
            raise RefusedError(NOT_LISTENING)
        return
    if provider is None:
        return
    if provider.language_hints and not provider.model.endswith("-multi"):
        raise invalid("language_hints is only supported by flux-general-multi.")
    eager, threshold = provider.eager_eot_threshold, provider.eot_threshold
    if eager is not None and eager > (0.7 if threshold is None else threshold):
        raise invalid("eager_eot_threshold must not be greater than eot_threshold.")


def check_think(chain: Iterable[Think], *, mip_opt_out: bool) -> None:
    """RefusedError for what the shapes allow and the service does not."""
    for think in chain:
        provider = think.provider
        own = think.endpoint is not None
        if provider.type in ("groq", "aws_bedrock") and not own:
            raise invalid(f"An endpoint is required for the think provider {provider.type}.")
        if provider.model is None and not own:
            raise invalid("A model is required for the think provider google.")
        if provider.model == "think-fast" and mip_opt_out:
            raise invalid("think-fast cannot be used with mip_opt_out.")
        if think.context_length is not None and not own:
            raise invalid("context_length requires a custom endpoint.")
        # wss: what `__customToThinkProvider` speaks through.
        _check_url(think.endpoint, "https://", "wss://")
        for function in think.functions or ():
            _check_function(function)


def _check_function(function: Function) -> None:
    fillers = (
        function.initial_agent_filler,
        function.agent_filler_max_count,
        function.agent_filler_interval_ms,
    )
    if any(filler is not None for filler in fillers):
        raise invalid("Agent fillers of functions require think_live.")
    if function.endpoint is not None and not function.endpoint.url.startswith("https://"):
        raise invalid("The endpoint of a function must be an https URL.")


def check_speak(chain: Iterable[Speak]) -> None:
    """RefusedError for what the shapes allow and the service does not."""
    for speak in chain:
        provider = speak.provider
        if isinstance(provider, DeepgramSpeak):
            _check_voice(provider)
        elif speak.endpoint is None and not isinstance(provider, CartesiaSpeak):
            raise invalid(f"An endpoint is required for the speak provider {provider.type}.")
        if isinstance(provider, ElevenLabsSpeak):
            _check_url(speak.endpoint, "https://", "wss://")
            _check_eleven_labs(speak.endpoint)
        else:
            _check_url(speak.endpoint, "https://")


def _check_voice(provider: DeepgramSpeak) -> None:
    version = provider.version or "v1"
    if (version == "v2") is not provider.model.startswith("flux-"):
        raise invalid(f"The model {provider.model} is not available in version {version}.")
    if provider.expressivity is not None and version != "v2":
        raise invalid("expressivity is only supported by Flux TTS.")
    if provider.speed is not None:
        low, high = SPEEDS[version]
        if not low <= provider.speed <= high:
            raise RefusedError(NOT_SPEAKING)


def _check_url(endpoint: Endpoint | None, *schemes: str) -> None:
    if endpoint is not None and not endpoint.url.startswith(schemes):
        names = " or ".join(scheme.removesuffix("://") for scheme in schemes)
        raise invalid(f"The endpoint must be a URL with {names}.")


def _check_eleven_labs(endpoint: Endpoint | None) -> None:
    """Format and model are the agent's to add."""
    if endpoint is not None and ("output_format=" in endpoint.url or "model_id=" in endpoint.url):
        raise invalid("The endpoint of eleven_labs must not contain output_format or model_id.")


def speaks_flux(chain: Iterable[Speak]) -> bool:
    """Whether Flux TTS is in the chain; also without any provider, where it is the default."""
    providers = [speak.provider for speak in chain]
    return not providers or any(isinstance(p, DeepgramSpeak) and p.version == "v2" for p in providers)
