"""What a client may say in Napster's Companion API: request bodies, commands, and the errors for the rest.

Sources: https://developers.napster.com/docs/ (deploying your agent: connections/websockets, messaging,
configuration) and the vendor's skills at https://github.com/Napster/omniagent-api-skills. Where pages of
different age disagree (language names or codes, one FAQ collection or several, the key of caller audio)
both are taken. How a field is treated that no page names is unknown; it is refused here, so that a slip
of the client's shows. The `error` event's shape is documented nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from telbridge.agent.events import TurnDetection

Json = dict[str, Any]

VOICES: Final = frozenset(
    {"alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse"}
)
_EXACTLY: Final = re.compile(r"\s*say exactly(?: this)?(?: once)?\s*:\s*", re.IGNORECASE)


class Refusal(NamedTuple):
    """The `data` of an `error` event."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """A command the service does not take; `refusal` goes back."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class RefusedBodyError(Exception):
    """A request body the service does not take; `problem` is the body of the answer, status 400."""

    problem: Json


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# -- creating a session -------------------------------------------------------------------------------


class Turns(_Shape):
    """In snake_case, as the model behind it has them; an empty object means its defaults."""

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0)] | None = None


class NoiseReduction(_Shape):
    type: Literal["nearField", "farField"]


class ProviderSettings(_Shape):
    instructions: str | None = None
    temperature: float | None = None
    turnDetection: Turns | None = None
    noiseReduction: NoiseReduction | None = None


class ProviderConfig(_Shape):
    voiceId: str | None = None
    useGreenVideo: bool | None = None
    settings: ProviderSettings | None = None


class _Request(_Shape):
    """What both ways of creating a session have in common."""

    modality: Literal["audio", "text"] | None = None
    externalClientId: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] | None = None
    externalClientProfile: Json | None = None
    initialSpeech: str | None = None
    tags: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = None


class AgentConnection(_Request):
    """POST /public/agents/{id}/connections. The other channels end elsewhere than in a WebSocket."""

    channelType: Literal["websocket"]


class WebSocketConnection(_Request):
    """POST /public/ws-connections."""

    companionId: Annotated[str, Field(min_length=1)]
    functions: list[str] | None = None
    faqCollections: list[str] | None = None
    knowledgeBaseId: str | None = None
    language: Annotated[str, Field(min_length=1)] | None = None
    disableIdleTimeout: bool | None = None
    useWebSearch: bool | None = None
    mode: Literal["conversation", "puppeteer"] | None = None
    providerConfig: ProviderConfig | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session as its creator wants it."""

    instructions: str = ""
    turns: Turns = field(default_factory=Turns)
    text_only: bool = False
    functions: tuple[str, ...] = ()
    """Their ids, which serve as their names: no tools are stored here."""
    initial_speech: str | None = None
    idle_timeout: bool = True


def agent_connection(body: bytes) -> Wanted:
    """Of an agent made beforehand, which here has nothing of its own. RefusedBodyError."""
    request = _body(AgentConnection, body)
    return Wanted(text_only=request.modality == "text", initial_speech=request.initialSpeech)


def websocket_connection(body: bytes) -> Wanted:
    """RefusedBodyError; the page calls the voice optional, the service does not (seen live)."""
    request = _body(WebSocketConnection, body)
    config = request.providerConfig or ProviderConfig()
    if config.voiceId is None:
        raise RefusedBodyError(problem(400, "Bad Request", "Voice id is required."))
    if config.voiceId not in VOICES:
        raise RefusedBodyError(problem(400, "Bad Request", f"Voice '{config.voiceId}' is not supported."))
    settings = config.settings or ProviderSettings()
    return Wanted(
        instructions=settings.instructions or "",
        turns=settings.turnDetection or Turns(),
        text_only=request.modality == "text",
        functions=tuple(request.functions or ()),
        initial_speech=request.initialSpeech,
        idle_timeout=not request.disableIdleTimeout,
    )


def problem(status: int, title: str, detail: str) -> Json:
    """RFC 9457, as ASP.NET writes it; the service's bodies vary."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def fault(code: str, description: str) -> list[Json]:
    """The service's other shape of an error."""
    return [{"code": code, "description": description, "type": "Validation", "numericType": 2}]


_Model = TypeVar("_Model", bound=BaseModel)


def _body(shape: type[_Model], body: bytes) -> _Model:
    try:
        return shape.model_validate(_json(body.decode("utf-8", "replace")))
    except ValueError as error:
        title = "One or more validation errors occurred."
        errors: dict[str, list[str]] = {"$": ["The body is not a JSON object."]}
        if isinstance(error, ValidationError):
            errors = {}
            for one in error.errors(include_url=False):
                errors.setdefault(_path(one["loc"]).removeprefix(".") or "$", []).append(one["msg"])
        raise RefusedBodyError({"title": title, "status": 400, "errors": errors}) from None


# -- commands -----------------------------------------------------------------------------------------


class SendAudio(_Shape):
    data: str | None = None
    audio: str | None = None  # the older key

    @model_validator(mode="after")
    def _one_is_there(self) -> SendAudio:
        if self.data is None and self.audio is None:
            raise ValueError("data is required")
        return self

    @property
    def base64_text(self) -> str:
        return (self.data if self.data is not None else self.audio) or ""


class SendMessage(_Shape):
    role: Literal["user", "system"]
    text: str
    trigger_response: bool
    delay: bool = False


class SetSettings(_Shape):
    instructions: str | None = None
    temperature: float | None = None
    turn_detection: Turns | None = None


class SendFunctionOutput(_Shape):
    call_id: str
    output: Json | str  # the pages want an object; a string with JSON was taken live
    delay: bool = False

    @property
    def output_text(self) -> str:
        return self.output if isinstance(self.output, str) else json.dumps(self.output)


Command = SendAudio | SendMessage | SetSettings | SendFunctionOutput
COMMANDS: Final[Mapping[str, type[Command]]] = {
    "send_audio": SendAudio,
    "send_message": SendMessage,
    "set_settings": SetSettings,
    "send_function_output": SendFunctionOutput,
}


def parse(message: str | bytes) -> Command:
    """A command, checked. RefusedError otherwise."""
    try:
        if isinstance(message, bytes):
            raise ValueError("binary")
        value = _json(message)
        if not isinstance(value, dict):
            raise ValueError("no object")
    except ValueError:
        raise RefusedError(Refusal("invalid_message", "Expected a JSON object in a text frame.")) from None
    kind = value.get("type")
    shape = COMMANDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise RefusedError(Refusal("unknown_command", f"Unknown command: {kind}"))
    if not set(value) <= {"type", "data"}:
        raise RefusedError(Refusal("invalid_command", f"{kind}: only type and data are expected."))
    try:
        return shape.model_validate(value.get("data"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        text = f"{kind}: data{_path(first['loc'])}: {first['msg']}"
        raise RefusedError(Refusal("invalid_command", text)) from None


def spoken_exactly(instruction: str) -> str:
    """«say exactly this once: …», as clients write it into `initialSpeech`, in the words brains know."""
    return _EXACTLY.sub("Say exactly: ", instruction, count=1) if _EXACTLY.match(instruction) else instruction


def turn_detection(turns: Turns, default_silence_ms: int) -> TurnDetection:
    """Gaps filled; a client cannot switch turn detection off, nor what it does."""
    silence_ms = turns.silence_duration_ms
    return TurnDetection(
        threshold=0.5 if turns.threshold is None else turns.threshold,
        prefix_ms=300 if turns.prefix_padding_ms is None else turns.prefix_padding_ms,
        silence_ms=default_silence_ms if silence_ms is None else silence_ms,
        idle_ms=None,
        answers=True,
        interrupts=True,
    )


def _no_number(name: str) -> float:
    """Python takes NaN and infinities; JSON has none."""
    raise ValueError(name)


_decode: Final = json.JSONDecoder(parse_constant=_no_number).decode


def _json(text: str) -> object:
    """ValueError for everything that is no JSON."""
    try:
        value: object = _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _path(location: tuple[int | str, ...]) -> str:
    """`.tags.env`, `.functions[0]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
