"""What a client may say in Deepgram's Voice Agent (V1): the shapes, and the errors for what it may not.

Sources: `deepgram.agent.v1.types` of the vendor's SDK 7.17.0 for the shapes, and the pages under
developers.deepgram.com/docs/voice-agent-settings, /docs/configure-voice-agent and
/docs/tts-media-output-settings. Unlike the SDK's models the service refuses keys it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ValidationError

from telbridge.agent.facades.deepgram.providers import (
    FluxListen,
    Listen,
    ListenProvider,
    Shape,
    Speak,
    SpeakChain,
    Think,
    ThinkChain,
    check_listen,
    check_speak,
    check_think,
    speaks_flux,
)
from telbridge.agent.facades.deepgram.refusal import (
    INVALID_AGENT,
    NO_KNOWN_FORMAT,
    RefusedError,
    invalid,
    unparsable,
)
from telbridge.audio.formats import AudioFormat, Encoding

Json = dict[str, Any]

ENCODINGS: Final[Mapping[str, Encoding]] = {
    "linear16": Encoding.PCM16,
    "mulaw": Encoding.PCMU,
    "alaw": Encoding.PCMA,
}
"""Those of the API's encodings that this agent can hear and speak."""
INPUT_RATES_HZ: Final = (8_000, 16_000, 24_000, 32_000, 44_100, 48_000)
OUTPUT_RATES_HZ: Final[Mapping[str, tuple[int, ...]]] = {
    "linear16": (8_000, 16_000, 24_000, 32_000, 48_000),
    "mulaw": (8_000, 16_000),
    "alaw": (8_000, 16_000),
}
FLUX_RATE_HZ: Final = 44_100
DEFAULT_RATES_HZ: Final = {"linear16": 24_000, "mulaw": 8_000, "alaw": 8_000}


# -- settings -----------------------------------------------------------------------------------------


class AudioInput(Shape):
    encoding: Literal[
        "linear16",
        "linear32",
        "flac",
        "alaw",
        "mulaw",
        "amr-nb",
        "amr-wb",
        "opus",
        "ogg-opus",
        "speex",
        "g729",
    ]
    sample_rate: int


class AudioOutput(Shape):
    encoding: Literal["linear16", "mulaw", "alaw", "mp3", "opus", "flac", "aac"] | None = None
    sample_rate: int | None = None
    bitrate: int | None = None
    container: Literal["none", "wav", "ogg"] | None = None


class Audio(Shape):
    input: AudioInput | None = None
    output: AudioOutput | None = None


class SpokenHistory(Shape):
    type: Literal["History"]
    role: Literal["user", "assistant"]
    content: str


class CalledFunction(Shape):
    id: str
    name: str
    client_side: bool
    arguments: str
    response: str
    thought_signature: str | None = None


class CalledHistory(Shape):
    type: Literal["History"]
    function_calls: list[CalledFunction]


class Context(Shape):
    messages: list[SpokenHistory | CalledHistory] | None = None


class Agent(Shape):
    """`think_live` is by invitation: it is refused like any unknown key, as the service does."""

    language: str | None = None
    greeting: str | None = None
    context: Context | None = None
    listen: Listen | None = None
    think: ThinkChain | None = None
    speak: SpeakChain | None = None


class Flags(Shape):
    history: bool | None = None


class Settings(Shape):
    type: Literal["Settings"]
    tags: list[str] | None = None
    experimental: bool | None = None
    mip_opt_out: bool | None = None
    flags: Flags | None = None
    audio: Audio
    agent: Agent


# -- other messages -----------------------------------------------------------------------------------


class KeepAlive(Shape):
    type: Literal["KeepAlive"]


class UpdatePrompt(Shape):
    type: Literal["UpdatePrompt"]
    prompt: str


class UpdateThink(Shape):
    type: Literal["UpdateThink"]
    think: ThinkChain


class UpdateSpeak(Shape):
    type: Literal["UpdateSpeak"]
    speak: SpeakChain


class ListenUpdate(Shape):
    provider: ListenProvider


class UpdateListen(Shape):
    type: Literal["UpdateListen"]
    listen: ListenUpdate


class InjectUserMessage(Shape):
    type: Literal["InjectUserMessage"]
    content: str


class InjectAgentMessage(Shape):
    """Without its dynamic variant, which goes with think_live."""

    type: Literal["InjectAgentMessage"]
    message: str
    behavior: Literal["default", "queue", "interrupt"] | None = None


class FunctionCallResponse(Shape):
    type: Literal["FunctionCallResponse"]
    id: str | None = None
    name: str
    content: str
    # In no SDK type; the vendor's skill for agents tells clients to send it back.
    thought_signature: str | None = None


class ForceEndTurn(Shape):
    type: Literal["ForceEndTurn"]


class ToThinkProvider(Shape):
    type: Literal["__customToThinkProvider"]
    content: Any


Update = UpdatePrompt | UpdateThink | UpdateSpeak | UpdateListen
ClientMessage = (
    Settings
    | KeepAlive
    | Update
    | InjectUserMessage
    | InjectAgentMessage
    | FunctionCallResponse
    | ForceEndTurn
    | ToThinkProvider
)
CLIENT_MESSAGES: Final[Mapping[str, type[ClientMessage]]] = {
    "Settings": Settings,
    "KeepAlive": KeepAlive,
    "UpdatePrompt": UpdatePrompt,
    "UpdateThink": UpdateThink,
    "UpdateSpeak": UpdateSpeak,
    "UpdateListen": UpdateListen,
    "InjectUserMessage": InjectUserMessage,
    "InjectAgentMessage": InjectAgentMessage,
    "FunctionCallResponse": FunctionCallResponse,
    "ForceEndTurn": ForceEndTurn,
    "__customToThinkProvider": ToThinkProvider,
}
# The service names no more of a path than these; below them it tries alternatives, and none fits.
_WHOLE: Final = frozenset({"think", "speak"})
_TAGS: Final = frozenset({"v1", "v2", "SpokenHistory", "CalledHistory"})
_RANGES: Final = frozenset(
    {"greater_than_equal", "less_than_equal", "greater_than", "less_than", "too_short", "finite_number"}
)


def parse(text: str) -> ClientMessage:
    """The client's message, checked by itself. RefusedError otherwise."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError(NO_KNOWN_FORMAT) from None
    kind = message.get("type") if isinstance(message, dict) else None
    shape = CLIENT_MESSAGES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise RefusedError(NO_KNOWN_FORMAT)
    if shape is Settings and isinstance(message.get("agent"), str):
        message = {**message, "agent": _stored_agent(message["agent"])}
    try:
        return shape.model_validate(message)
    except ValidationError as error:
        raise _refused(error, shape) from None


def _stored_agent(agent_id: str) -> Json:
    """The agent of a reusable configuration. This server keeps none: each well-formed id is an agent with
    nothing but defaults."""
    try:
        UUID(agent_id)
    except ValueError:
        raise RefusedError(INVALID_AGENT) from None
    return {}


def _refused(error: ValidationError, shape: type[ClientMessage]) -> RefusedError:
    faults = error.errors(include_url=False, include_input=False)
    first = next((fault for fault in faults if fault["type"] not in _RANGES), None)
    if first is not None:
        # Only of settings does the service say where the fault lies.
        located = shape is Settings or issubclass(shape, UpdateThink | UpdateSpeak | UpdateListen)
        return unparsable(_path(first["loc"]) if located else "")
    path, reason = _path(faults[0]["loc"], whole=frozenset()), str(faults[0]["msg"])
    return invalid(f"Invalid value for {path}: {reason[:1].lower()}{reason[1:]}.")


def _path(location: tuple[int | str, ...], whole: frozenset[str] = _WHOLE) -> str:
    """`audio.input.encoding`, as the service writes it."""
    path: list[str] = []
    for key in location:
        if key in _TAGS or key in ("one", "many"):
            continue
        path.append(str(key))
        if key in whole:
            break
    return ".".join(path)


# -- the settings as a whole --------------------------------------------------------------------------


def chain_of(part: Think | list[Think] | None) -> tuple[Think, ...]:
    """The providers in the order in which they are asked."""
    return tuple(part) if isinstance(part, list) else () if part is None else (part,)


def voices_of(part: Speak | list[Speak] | None) -> tuple[Speak, ...]:
    """The voices in the order in which they are tried."""
    return tuple(part) if isinstance(part, list) else () if part is None else (part,)


def check_settings(settings: Settings) -> tuple[AudioFormat, AudioFormat]:
    """Input and output format of settings that hold together; RefusedError otherwise."""
    agent = settings.agent
    voices = voices_of(agent.speak)
    check_listen(agent.listen.provider if agent.listen is not None else None)
    check_think(chain_of(agent.think), mip_opt_out=settings.mip_opt_out is True)
    check_speak(voices)
    return input_format(settings.audio.input), output_format(settings.audio.output, voices)


def input_format(described: AudioInput | None) -> AudioFormat:
    """RefusedError for an encoding or rate that this agent cannot hear.

    Default: linear16 at 24 kHz, as the SDK says; the vendor's page says 16 kHz."""
    if described is None:
        return AudioFormat(Encoding.PCM16, 24_000)
    encoding = ENCODINGS.get(described.encoding)
    if encoding is None:
        raise _unsupported(f"`encoding={described.encoding}`")
    if described.sample_rate not in INPUT_RATES_HZ:
        raise _unsupported(f"`sample_rate={described.sample_rate}`")
    return AudioFormat(encoding, described.sample_rate)


def output_format(described: AudioOutput | None, voices: tuple[Speak, ...]) -> AudioFormat:
    """RefusedError for a combination that the voice does not have, or this agent."""
    described = described or AudioOutput()
    name = described.encoding or "linear16"
    container = described.container or "none"
    encoding = ENCODINGS.get(name)
    if encoding is None:
        raise _unsupported(f"`encoding={name}`")
    flux = speaks_flux(voices)
    if container == "ogg" or (container == "wav" and flux):
        raise _unsupported(f"`container={container}` is invalid when `encoding={name}`")
    if described.bitrate is not None:
        raise _unsupported(f"`bitrate` is invalid when `encoding={name}`")
    rate_hz = described.sample_rate or DEFAULT_RATES_HZ[name]
    rates_hz = OUTPUT_RATES_HZ[name] + ((FLUX_RATE_HZ,) if flux and name == "linear16" else ())
    if rate_hz not in rates_hz:
        raise _unsupported(f"`sample_rate={rate_hz}` is invalid when `encoding={name}`")
    return AudioFormat(encoding, rate_hz)


def _unsupported(what: str) -> RefusedError:
    """In the words of the vendor's speech service for the same fault; those of the agent are unknown."""
    return invalid(f"Unsupported audio format: {what}.")


def with_update(before: Listen | None, update: ListenUpdate) -> Listen:
    """The listen settings after an UpdateListen: what it leaves out stays, but for `language_hints`.

    A change between Nova and Flux keeps nothing. (developers.deepgram.com/docs/voice-agent-update-listen)"""
    old, new = before.provider if before is not None else None, update.provider
    if old is None or isinstance(old, FluxListen) is not isinstance(new, FluxListen):
        return Listen(provider=new)
    given = new.model_dump(exclude_unset=True)
    cleared = {"language_hints": None} if isinstance(new, FluxListen) else {}
    return Listen(provider=old.model_copy(update={**cleared, **given}))
