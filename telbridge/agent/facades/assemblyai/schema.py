"""What a client may say in AssemblyAI's Voice Agent API: the shapes, and the errors for what it may not.

Sources: the vendor's pages "Session configuration", "Events reference", "Audio format" and "Client-side
tools" (https://www.assemblyai.com/docs/voice-agents/voice-agent-api/…), and published live sessions where
they differ. How the service treats a field it does not know is documented nowhere: it is refused here as
a wrong value, so that a slip of the client's shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from telbridge.agent.events import TurnDetection
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat

Json = dict[str, Any]

FORMATS: Final[Mapping[str, AudioFormat]] = {
    "audio/pcm": PCM_24K,
    "audio/pcmu": PCMU_8K,
    "audio/pcma": PCMA_8K,
}
DEFAULT_VOICE: Final = "alba"
TOOL_TIMEOUT_S: Final = 120
AGENT_ID: Final = r"agent_[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""As seen live, and as the documentation prints it."""

Voice = Literal[
    "alba",
    "anna",
    "charles",
    "estelle",
    "eve",
    "george",
    "giovanni",
    "iris",
    "jane",
    "jean",
    "juergen",
    "lola",
    "mary",
    "michael",
    "paul",
    "rafael",
    "reid",
    "vera",
]  # all that were accepted live; older pages name others, which are refused
Share = Annotated[float, Field(ge=0, le=1)]
SilenceMs = Annotated[int, Field(ge=50, le=10_000)]


class Refusal(NamedTuple):
    """The inside of a `session.error`."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """The client said something the service does not take; `refusal` goes back to it."""

    refusal: Refusal


class _Shape(BaseModel):
    """Null stands for nothing here: an optional field is left out (`greeting: null` is refused live)."""

    model_config = ConfigDict(extra="forbid", strict=True)


# -- the session --------------------------------------------------------------------------------------


class Format(_Shape):
    encoding: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    sample_rate: int = 0

    @model_validator(mode="after")
    def _rate_goes_with_encoding(self) -> Format:
        rate_hz = FORMATS[self.encoding].rate_hz
        if "sample_rate" in self.model_fields_set and self.sample_rate != rate_hz:
            raise ValueError(f"sample_rate must be {rate_hz} for encoding '{self.encoding}'")
        return self


class Turns(_Shape):
    type: Literal["server_vad"] = "server_vad"  # older page only; still taken
    vad_threshold: Share = 0.5
    min_silence: SilenceMs = 50
    max_silence: SilenceMs = 10_000
    interrupt_response: bool = True
    interruption_delay: Annotated[int, Field(ge=0, le=1000)] = 500


class Input(_Shape):
    type: Literal["audio"] = "audio"
    format: Format = Field(default_factory=Format)
    turn_detection: Turns = Field(default_factory=Turns)
    keyterms: Annotated[list[str], Field(max_length=100)] = []
    transcription_mode: Literal["min_latency", "balanced", "max_accuracy"] = "balanced"
    transcription_prompt: Annotated[str, Field(max_length=1750)] = ""
    language_codes: list[str] = []
    voice_focus: Literal["near-field", "far-field"] = "near-field"
    voice_focus_threshold: Share = 0.85
    continuous_partials: bool | None = None


class Output(_Shape):
    type: Literal["audio"] = "audio"
    voice: Voice = "alba"
    format: Format = Field(default_factory=Format)
    volume: Annotated[int, Field(ge=0, le=100)] = 100


class Parameters(BaseModel):
    """A JSON Schema; the service looks at its `properties`."""

    model_config = ConfigDict(extra="allow", strict=True)
    properties: Json = {}


class ResponseInstructions(_Shape):
    success: Annotated[str, Field(max_length=500)] = ""
    error: Annotated[str, Field(max_length=500)] = ""


class Tool(_Shape):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    parameters: Parameters = Field(default_factory=Parameters)
    execution_mode: Literal["interactive", "hold"] = "interactive"
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = TOOL_TIMEOUT_S
    http: None = None  # only stored agents have tools that the service calls itself
    response_instructions: ResponseInstructions | None = None


class Session(_Shape):
    agent_id: str = ""
    system_prompt: str = ""
    greeting: str = ""
    tools: list[Tool] = []
    input: Input = Field(default_factory=Input)
    output: Output = Field(default_factory=Output)


# -- the messages -------------------------------------------------------------------------------------


class SessionUpdate(_Shape):
    type: Literal["session.update"]
    session: Session


class SessionResume(_Shape):
    type: Literal["session.resume"]
    session_id: str


class InputAudio(_Shape):
    type: Literal["input.audio"]
    audio: str


class ToolResult(_Shape):
    type: Literal["tool.result"]
    call_id: str
    result: str
    is_error: bool = False


class ReplyCreate(_Shape):
    type: Literal["reply.create"]
    instructions: str | None = None


class ConversationMessage(_Shape):
    type: Literal["conversation.message"]
    role: Literal["user", "system"]
    content: str


class SessionEnd(_Shape):
    type: Literal["session.end"]


ClientEvent = (
    SessionUpdate | SessionResume | InputAudio | ToolResult | ReplyCreate | ConversationMessage | SessionEnd
)
CLIENT_EVENTS: Final[Mapping[str, type[ClientEvent]]] = {
    "session.update": SessionUpdate,
    "session.resume": SessionResume,
    "input.audio": InputAudio,
    "tool.result": ToolResult,
    "reply.create": ReplyCreate,
    "conversation.message": ConversationMessage,
    "session.end": SessionEnd,
}


def parse(message: str | bytes) -> ClientEvent:
    """The client's event, checked by itself: what it may say when is the facade's matter.

    RefusedError with the service's code, message and param otherwise."""
    value = _json_object(message)
    kind = value.get("type")
    shape = CLIENT_EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise RefusedError(Refusal("invalid_format", f"Unknown message type: {kind}"))
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise RefusedError(_refusal(error)) from None


def _no_number(name: str) -> float:
    """Python takes NaN and infinities; JSON has none."""
    raise ValueError(name)


_decode: Final = json.JSONDecoder(parse_constant=_no_number).decode


def _json_object(message: str | bytes) -> Json:
    try:
        value = _decode(message if isinstance(message, str) else message.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise RefusedError(Refusal("invalid_format", "Message is not valid JSON.")) from None
    if not isinstance(value, dict):
        raise RefusedError(Refusal("invalid_format", "Message must be a JSON object."))
    return value


def _refusal(error: ValidationError) -> Refusal:
    """The first fault. A wrong shape is a format error and ends nothing; a wrong value ends a session that
    has not begun. Tools are values, their shape included (seen live)."""
    first = error.errors(include_url=False)[0]
    kind, path, message = first["type"], _path(first["loc"]), first["msg"]
    if kind == "extra_forbidden":
        return Refusal("invalid_value", f"Field '{path}' is not allowed here.", path)
    misshapen = kind == "missing" or kind.endswith("_type") or kind == "int_from_float"
    in_message = not path.startswith("session.")
    if in_message or (misshapen and not path.startswith("session.tools")):
        return Refusal("invalid_format", f"{path}: {message}", None if in_message else path)
    return Refusal("invalid_value", f"{path}: {message}", path)


def _path(location: tuple[int | str, ...]) -> str:
    """`session.tools[0].name`."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return "".join(parts).removeprefix(".")


# -- the resolved configuration -----------------------------------------------------------------------


def default_config(agent_id: str | None) -> Json:
    """`config` of `session.ready` before the client has set anything, with the keys seen live."""
    return {
        "id": agent_id,
        "system_prompt": None,
        "greeting": None,
        "input": {
            "type": "audio",
            "format": {"encoding": "audio/pcm", "sample_rate": 24000},
            "turn_detection": None,
            "keyterms": None,
            "transcription_mode": None,
            "continuous_partials": None,
            "transcription_prompt": None,
            "language_codes": None,
            "voice_focus": None,
            "voice_focus_threshold": None,
        },
        "output": {
            "type": "audio",
            "voice": DEFAULT_VOICE,
            "format": {"encoding": "audio/pcm", "sample_rate": 24000},
            "volume": None,
        },
        "tools": [],
        "llm": [],
        "pre_connect_requests": [],
    }


def merged(config: Json, patch: Json) -> Json:
    """`config` with the `session` of an update laid over it. RefusedError if that makes no sense."""
    result = deepcopy(config)
    for key, value in patch.items():
        if key in ("input", "output"):
            for inner, part in value.items():
                result[key][inner] = _merged_part(inner, result[key][inner], part)
        elif key == "tools":
            result["tools"] = [_tool_echo(tool) for tool in value]
        else:
            result[key] = deepcopy(value)
    _check(result)
    return result


def _merged_part(name: str, before: Any, part: Any) -> Any:
    if name == "turn_detection":
        return {**(before or {}), **part}
    if name == "format":
        encoding = part.get("encoding", "audio/pcm")
        return {"encoding": encoding, "sample_rate": FORMATS[encoding].rate_hz}
    return deepcopy(part)


def _tool_echo(tool: Json) -> Json:
    return {
        "description": "",
        "parameters": {},
        "timeout_seconds": TOOL_TIMEOUT_S,
        "execution_mode": "interactive",
        "http": None,
        "response_instructions": None,
        "deployment_id": None,
        "session_update": None,
        "image_tag": None,
        **deepcopy(tool),
    }


def _check(config: Json) -> None:
    """What no field is wrong in by itself."""
    names = [tool["name"] for tool in config["tools"]]
    if len(set(names)) < len(names):
        raise RefusedError(Refusal("invalid_config", "Tool names must be unique.", "session.tools"))
    turns = config["input"]["turn_detection"] or {}
    if turns.get("min_silence", 0) > turns.get("max_silence", 10_000):
        path = "session.input.turn_detection"
        raise RefusedError(Refusal("invalid_config", "min_silence exceeds max_silence.", path))


def check_stored_agent(session: Session) -> None:
    """An id stands alone, and every well-formed one is taken for a stored agent with the defaults.

    RefusedError otherwise. For an id with company the pages name `agent_id_not_first`; this is what came."""
    if len(session.model_fields_set) > 1:
        text = "agent_id cannot be combined with other session fields."
        raise RefusedError(Refusal("invalid_value", text, "session.agent_id"))
    if re.fullmatch(AGENT_ID, session.agent_id) is None:
        raise RefusedError(Refusal("agent_not_found", "Agent not found.", "session.agent_id"))


def locked(patch: Json) -> Iterator[str]:
    """Paths in a later update that only the first may set."""
    if "greeting" in patch:
        yield "session.greeting"
    for key in patch.get("output", {}):
        if key != "volume":
            yield f"session.output.{key}"


def audio_format(direction: Json) -> AudioFormat:
    """Of the `input` or `output` of a resolved configuration."""
    return FORMATS[direction["format"]["encoding"]]


def turn_detection(given: Json, default_silence_ms: int) -> TurnDetection:
    """`turn_detection` of a resolved configuration, its gaps filled. The adaptive pacing that the service
    has by default is not had here."""
    longest_ms = given.get("max_silence", default_silence_ms)
    return TurnDetection(
        threshold=given.get("vad_threshold", 0.5),
        prefix_ms=300,
        silence_ms=given.get("min_silence", min(default_silence_ms, longest_ms)),
        idle_ms=None,
        answers=True,
        interrupts=given.get("interrupt_response", True),
    )
