"""Settings of one AssemblyAI Voice Agent session: every field of the vendor's `session` object.

Pages (assemblyai.com/docs/voice-agents/voice-agent-api): session-configuration, audio-format,
turn-detection-and-interruptions, tools/client-side-tools; the AsyncAPI file
assemblyai.com/docs/api-reference/specs/voice-agent-api.yaml; tokens: api-spec/generate-voice-agent-token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit, urlunsplit

from pydantic import Field, model_validator

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.credentials import SecretRef, revealed
from telbridge.sessions.provider import Lock, Unconfirmed, VendorPart, VendorSettings

EncodingName: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]

FORMATS: Final[Mapping[str, AudioFormat]] = {
    "audio/pcm": PCM_24K,
    "audio/pcmu": PCMU_8K,
    "audio/pcma": PCMA_8K,
}
_NAMES: Final = {audio_format: name for name, audio_format in FORMATS.items()}

_STORED_ONLY: Final = ("llm", "pre_connect_requests")
_STORED_ONLY_IN_TOOLS: Final = ("http", "dtmf_collected_arguments")

OURS: Final = frozenset(
    {
        "url",
        "api_key",
        "auth",
        "token",
        "caller_facts",
        "flush_on_speech_started",
        "tool_results",
        "resume",
        "raw",
    }
)
"""Settings that are no part of the vendor's `session` object."""


class AudioFormatSettings(VendorPart):
    """How audio is written on the WebSocket."""

    encoding: Annotated[
        EncodingName | None,
        Lock.START,
        Field(
            description="audio/pcmu or audio/pcma (8 kHz) or audio/pcm (24 kHz); none: the telephone's own "
            "law. With agent_id nothing is sent: write what the stored agent is set to (none: audio/pcm)"
        ),
    ] = None
    sample_rate: Annotated[
        Literal[8000, 24000] | None,
        Lock.START,
        Field(description="Hz: 24000 with audio/pcm, 8000 with the others; follows from the encoding"),
    ] = None

    @model_validator(mode="after")
    def _one_rate_each(self) -> AudioFormatSettings:
        if self.encoding is None or self.sample_rate is None:
            return self
        rate_hz = FORMATS[self.encoding].rate_hz
        if self.sample_rate != rate_hz:
            raise ValueError(f"{self.encoding} has one rate only: write {rate_hz} or leave sample_rate out")
        return self


class TurnDetectionSettings(VendorPart):
    """`session.input.turn_detection`. Without any of these turns are found by what is said."""

    type: Annotated[
        Literal["server_vad"] | None,
        Unconfirmed,
        Field(description="server_vad; older pages of the vendor only, better left out"),
    ] = None
    vad_threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="0 to 1, vendor's default 0.5; lower hears more as speech"),
    ] = None
    min_silence: Annotated[
        int | None,
        Field(ge=50, le=10_000, description="ms; set, it switches the adaptive pause off for the session"),
    ] = None
    max_silence: Annotated[
        int | None,
        Field(ge=50, le=10_000, description="ms; set, it switches the adaptive pause off for the session"),
    ] = None
    interrupt_response: Annotated[
        bool | None, Field(description="whether the caller's voice stops the agent; vendor's default true")
    ] = None
    interruption_delay: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000,
            description="ms of speech before it can interrupt; vendor's default 500, in min_latency 0",
        ),
    ] = None

    @model_validator(mode="after")
    def _in_order(self) -> TurnDetectionSettings:
        if (self.min_silence or 0) > (self.max_silence or 10_000):
            raise ValueError("min_silence is longer than max_silence: write a max_silence not below it")
        return self


class InputSettings(VendorPart):
    """`session.input`: how the agent listens."""

    type: Annotated[Literal["audio"] | None, Field(description="audio, there is nothing else")] = None
    format: Annotated[
        AudioFormatSettings, Lock.START, Unconfirmed, Field(description="of the caller's audio")
    ] = Field(default_factory=AudioFormatSettings)
    keyterms: Annotated[
        tuple[str, ...] | None,
        Field(max_length=100, description="at most 100 names and words to expect, from the next utterance"),
    ] = None
    transcription_mode: Annotated[
        Literal["min_latency", "balanced", "max_accuracy"] | None,
        Field(description="min_latency, balanced (vendor's default) or max_accuracy"),
    ] = None
    transcription_prompt: Annotated[
        str | None, Field(max_length=1750, repr=False, description="what the caller may talk about")
    ] = None
    language_codes: Annotated[
        tuple[Annotated[str, Field(min_length=2)], ...] | None,
        Field(description="languages to expect, such as en; mid-session from the recogniser's next start"),
    ] = None
    voice_focus: Annotated[
        Literal["near-field", "far-field"] | None,
        Field(description="noise suppression: near-field (vendor's default) for a handset, or far-field"),
    ] = None
    voice_focus_threshold: Annotated[
        float | None, Field(ge=0, le=1, description="0 to 1, vendor's default 0.85")
    ] = None
    continuous_partials: Annotated[
        bool | None, Unconfirmed, Field(description="named in the server's answers, on no page of the vendor")
    ] = None
    turn_detection: Annotated[
        TurnDetectionSettings, Field(description="when the caller's turn ends and what interrupts")
    ] = Field(default_factory=TurnDetectionSettings)


class OutputSettings(VendorPart):
    """`session.output`: how the agent speaks."""

    type: Annotated[
        Literal["audio"] | None, Lock.START, Field(description="audio, there is nothing else")
    ] = None
    voice: Annotated[
        str | None, Lock.START, Field(min_length=1, description="name of the voice; vendor's default alba")
    ] = None
    format: Annotated[AudioFormatSettings, Lock.START, Field(description="of the agent's audio")] = Field(
        default_factory=AudioFormatSettings
    )
    volume: Annotated[int | None, Field(ge=0, le=100, description="0 to 100, vendor's default 100")] = None


class ResponseInstructions(VendorPart):
    """What the agent is told along with a tool's result."""

    success: Annotated[str | None, Field(max_length=500, description="at most 500 characters")] = None
    error: Annotated[str | None, Field(max_length=500, description="at most 500 characters")] = None


class ToolSettings(VendorPart):
    """A function that the agent may call and telbridge answers."""

    type: Annotated[Literal["function"], Field(description="function, there is nothing else")] = "function"
    name: Annotated[str, Field(min_length=1, description="unique, in snake_case")]
    description: Annotated[str | None, Field(description="when to call it, and what it does")] = None
    parameters: Annotated[Json | None, Field(description="JSON Schema of its arguments, an object")] = None
    execution_mode: Annotated[
        Literal["interactive", "hold"] | None,
        Field(description="interactive (vendor's default): may talk on; hold: silent until the result"),
    ] = None
    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=300, description="1 to 300, vendor's default 120; then it apologises")
    ] = None
    response_instructions: Annotated[
        ResponseInstructions | None,
        Unconfirmed,
        Field(description="what to do with a success or an error; named by the vendor's SDK only"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _run_here(cls, given: Any) -> Any:
        for key in _STORED_ONLY_IN_TOOLS:
            if isinstance(given, dict) and key in given:
                raise ValueError(
                    f"{key} works in stored agents only: leave it out, or store and use agent_id"
                )
        return given

    @model_validator(mode="after")
    def _properties_are_a_table(self) -> ToolSettings:
        if not isinstance((self.parameters or {}).get("properties", {}), dict):
            raise ValueError("parameters.properties is no object: write one, each argument with its schema")
        return self


class TokenSettings(VendorPart):
    """The short-lived token that `auth = "token"` fetches for each connection."""

    url: Annotated[
        str | None,
        Field(pattern=r"^https?://[^\s/]+", description="https:// address; none: /v1/token on url's host"),
    ] = None
    expires_in_seconds: Annotated[
        int, Field(ge=1, le=600, description="1 to 600: how long it may be used to connect")
    ] = 60
    max_session_duration_seconds: Annotated[
        int | None,
        Field(ge=60, le=10_800, description="60 to 10800: longest session, vendor's default 10800"),
    ] = None
    product: Annotated[
        Literal["voice_agent"] | None, Unconfirmed, Field(description="voice_agent; no visible effect")
    ] = None


class AssemblyAISettings(VendorSettings):
    """One AssemblyAI Voice Agent session: how to connect, and the `session` object by the vendor's names."""

    url: Annotated[
        str,
        Lock.CONNECT,
        Field(
            pattern=r"^wss?://[^\s/]+",
            description="WebSocket address; ws:// for an agent on this machine only",
        ),
    ] = "wss://agents.assemblyai.com/v1/ws"
    api_key: Annotated[SecretRef, Lock.CONNECT, Field(description="where the API key is")] = SecretRef(
        env="ASSEMBLYAI_API_KEY"
    )
    auth: Annotated[
        Literal["header", "token"],
        Lock.CONNECT,
        Field(description="header: the key itself goes along; token: a short-lived one is fetched with it"),
    ] = "header"
    token: Annotated[
        TokenSettings, Lock.CONNECT, Field(description='the short-lived token of auth = "token"')
    ] = Field(default_factory=TokenSettings)

    agent_id: Annotated[
        str | None,
        Lock.START,
        Field(
            min_length=1,
            description="id of a stored agent, which then has greeting, voice and formats of its own",
        ),
    ] = None
    system_prompt: Annotated[
        str | None, Field(repr=False, description="who the agent is and what it does; from the next reply on")
    ] = None
    greeting: Annotated[
        str | None,
        Lock.START,
        Field(min_length=1, repr=False, description="spoken word by word at once; none: it listens first"),
    ] = None
    tools: Annotated[
        tuple[ToolSettings, ...] | None,
        Field(description="functions the agent may call; replaced as a whole"),
    ] = None
    input: Annotated[InputSettings, Field(description="how the agent listens")] = Field(
        default_factory=InputSettings
    )
    output: Annotated[OutputSettings, Field(description="how the agent speaks")] = Field(
        default_factory=OutputSettings
    )

    caller_facts: Annotated[
        Json | None, Field(repr=False, description="facts about the caller, put at the end of system_prompt")
    ] = None
    flush_on_speech_started: Annotated[
        bool,
        Lock.START,
        Unconfirmed,
        Field(
            description="true: stop playing at input.speech.started, the vendor's pattern; false: only when "
            'the server interrupted its reply, so that an "uh-huh" stops nothing'
        ),
    ] = True
    tool_results: Annotated[
        Literal["after_reply", "at_once"],
        Lock.START,
        Field(
            description="after_reply: when the agent has finished speaking, as the vendor asks; or at_once"
        ),
    ] = "after_reply"
    resume: Annotated[
        bool,
        Lock.START,
        Unconfirmed,
        Field(description="try session.resume first after a lost connection; false: a new session at once"),
    ] = True

    @model_validator(mode="before")
    @classmethod
    def _inline_fields_only(cls, given: Any) -> Any:
        for key in _STORED_ONLY:
            if isinstance(given, dict) and key in given:
                raise ValueError(f"{key} works in stored agents only: store the agent and write its agent_id")
        return given

    @model_validator(mode="after")
    def _tool_names_differ(self) -> AssemblyAISettings:
        names = [tool.name for tool in self.tools or ()]
        if len(set(names)) != len(names):
            raise ValueError("two tools have the same name: rename one")
        return self


def chosen_format(settings: AssemblyAISettings, part: AudioFormatSettings, wire: AudioFormat) -> AudioFormat:
    """Of one direction. A stored agent cannot be told; otherwise the wire's own law, or for any other wire
    the API's best."""
    if part.encoding is not None:
        return FORMATS[part.encoding]
    if settings.agent_id is not None or part.sample_rate == PCM_24K.rate_hz:
        return PCM_24K
    if wire in (PCMU_8K, PCMA_8K):
        return wire
    return PCMU_8K if part.sample_rate == PCMU_8K.rate_hz else PCM_24K


def first_session(
    settings: AssemblyAISettings, uplink: AudioFormat, downlink: AudioFormat, environ: Mapping[str, str]
) -> Json:
    """The `session` of the first update, without prompt and greeting, which the protocol puts in: a stored
    agent's id must stand there alone."""
    if settings.agent_id is not None:
        return {"agent_id": settings.agent_id}
    session = session_object(settings, environ)
    for direction, audio_format in (("input", uplink), ("output", downlink)):
        part = session.setdefault(direction, {}).setdefault("format", {})
        part["encoding"] = _NAMES[audio_format]
    return session


def stored_agent_changes(settings: AssemblyAISettings, environ: Mapping[str, str]) -> Json:
    """What may still be changed of a stored agent after session.ready, as set here."""
    session = session_object(settings, environ)
    for key in ("agent_id", "greeting", "system_prompt"):
        session.pop(key, None)
    for direction, fixed in (("input", ("type", "format")), ("output", ("type", "format", "voice"))):
        part = session.get(direction, {})
        for key in fixed:
            part.pop(key, None)
        if not part:
            session.pop(direction, None)
    return session


def session_object(settings: AssemblyAISettings, environ: Mapping[str, str]) -> Json:
    """The vendor's fields that are set. Never a null: the API refuses one. `tools` carry their `type` even
    if nobody wrote it."""
    session = revealed(settings, environ, exclude_unset=True, exclude_none=True, exclude=set(OURS))
    for tool in session.get("tools", ()):
        tool.setdefault("type", "function")
    return session


def token_address(settings: AssemblyAISettings) -> str:
    """Of the request for a token, with its query."""
    token = settings.token
    address = token.url
    if address is None:
        url = urlsplit(settings.url)
        scheme = "https" if url.scheme == "wss" else "http"
        address = urlunsplit((scheme, url.netloc, "/v1/token", "", ""))
    query = token.model_dump(exclude={"url"}, exclude_none=True)
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query)}"


def refusals(settings: AssemblyAISettings) -> list[tuple[str, str]]:
    """What a stored agent has of its own and nobody can change (`agent_id_not_first`, `immutable_field`)."""
    if settings.agent_id is None:
        return []
    fixed = {
        "greeting": settings.greeting,
        "output.voice": settings.output.voice,
        "output.type": settings.output.type,
        "input.type": settings.input.type,
    }
    return [
        (key, "the stored agent of agent_id has its own: leave it out, or leave agent_id out")
        for key, value in fixed.items()
        if value is not None
    ]


def warnings(settings: AssemblyAISettings) -> list[tuple[str, str]]:
    """What is passed on although a telephone gains nothing by it."""
    found = []
    for key, part in (("input", settings.input.format), ("output", settings.output.format)):
        if settings.agent_id is None and (part.encoding == "audio/pcm" or part.sample_rate == 24_000):
            found.append((f"{key}.format", "a telephone's 8 kHz gain nothing from 24 kHz: leave it out"))
    detection = settings.input.turn_detection
    if detection.type is not None:
        found.append(("input.turn_detection.type", "the vendor's newer pages have it no more: leave it out"))
    return found
