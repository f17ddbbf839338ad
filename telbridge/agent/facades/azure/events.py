"""What a client may send to Voice Live, and the error for what it may not.

The service's refusals are documented by their shape only; codes and words are those of the API whose dialect
this is (OpenAI Realtime, beta), as far as nobody has published others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from telbridge.agent.facades.azure import schema as schema
from telbridge.agent.facades.azure.schema import Shape
from telbridge.agent.facades.realtime import Json, Refusal, RefusedError

MAX_DEPTH: Final = 64
"""How deep JSON may be nested, after the default of .NET's reader."""


# -- items --------------------------------------------------------------------------------------------


class InputText(Shape):
    type: Literal["input_text"]
    text: str


class InputAudio(Shape):
    nullable = frozenset({"transcript"})
    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


class InputImage(Shape):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Item(Shape):
    id: str | None = None
    object: Literal["realtime.item", "conversation.item"] | None = None


class _Settled(_Item):
    status: Literal["completed", "incomplete"] | None = None


class SystemMessage(_Settled):
    type: Literal["message"]
    role: Literal["system"]
    content: list[InputText]


class UserMessage(_Settled):
    type: Literal["message"]
    role: Literal["user"]
    content: list[Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")]]


class AssistantMessage(_Settled):
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[schema.SpokenText]


class FunctionCall(_Settled):
    type: Literal["function_call"]
    name: str
    call_id: str
    arguments: str


class FunctionCallOutput(_Settled):
    type: Literal["function_call_output"]
    call_id: str
    output: str


class McpApproval(_Item):
    type: Literal["mcp_approval_response"]
    approval_request_id: str
    approve: bool


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
Item = Annotated[Message | FunctionCall | FunctionCallOutput | McpApproval, Field(discriminator="type")]


# -- events -------------------------------------------------------------------------------------------


class Event(Shape):
    nullable = frozenset({"event_id"})
    event_id: str | None = None


class SessionUpdate(Event):
    type: Literal["session.update"]
    session: schema.Session


class AvatarConnect(Event):
    type: Literal["session.avatar.connect"]
    client_sdp: str


class Append(Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(Event):
    type: Literal["input_audio_buffer.commit"]


class Clear(Event):
    type: Literal["input_audio_buffer.clear"]


class ClearOutput(Event):
    type: Literal["output_audio_buffer.clear"]


class TextDelta(Event):
    nullable = frozenset({"event_id", "content_index"})
    type: Literal["input_text.delta"]
    id: str
    delta: str
    content_index: int | None = None


class TextDone(Event):
    nullable = frozenset({"event_id", "content_index"})
    type: Literal["input_text.done"]
    id: str
    content_index: int | None = None


class ItemCreate(Event):
    nullable = frozenset({"event_id", "previous_item_id"})
    type: Literal["conversation.item.create"]
    previous_item_id: str | None = None
    item: Item


class ItemRetrieve(Event):
    type: Literal["conversation.item.retrieve"]
    item_id: str


class ItemDelete(Event):
    type: Literal["conversation.item.delete"]
    item_id: str


class ItemTruncate(Event):
    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseOptions(Shape):
    nullable = frozenset({"interim_response"})
    modalities: list[Literal["text", "audio"]] | None = None
    instructions: str | None = None
    voice: schema.Voice | None = None
    output_audio_format: schema.OutputFormat | None = None
    tools: list[schema.Tool] | None = None
    tool_choice: str | Json | None = None
    reasoning_effort: schema.Effort | None = None
    interim_response: schema.Interim | None = None
    temperature: Annotated[float, Field(ge=0.6, le=1.2)] | None = None
    # The SDK's name, then the reference's.
    max_output_tokens: schema.MaxTokens | None = None
    max_response_output_tokens: schema.MaxTokens | None = None
    conversation: Literal["auto", "none"] | None = None
    commit: bool | None = None
    cancel_previous: bool | None = None
    append_input_items: list[Item] | None = None
    input_items: list[Item] | None = None
    pre_generated_assistant_message: schema.SpokenMessage | None = None
    metadata: schema.Metadata | None = None
    invoke_input: Json | None = None

    @property
    def aside(self) -> bool:
        """The response enters no conversation."""
        return self.conversation == "none" or self.commit is False


class ResponseCreate(Event):
    nullable = frozenset({"event_id", "response", "additional_instructions"})
    type: Literal["response.create"]
    response: ResponseOptions | None = None
    additional_instructions: str | None = None


class ResponseCancel(Event):
    nullable = frozenset({"event_id", "response_id"})
    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | AvatarConnect
    | Append
    | Commit
    | Clear
    | ClearOutput
    | TextDelta
    | TextDone
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)
# The SDK's enum has six more (input_audio.*, mcp_approval_response); the reference knows none of them.
CLIENT_EVENTS: Final[Mapping[str, type[ClientEvent]]] = {
    "session.update": SessionUpdate,
    "session.avatar.connect": AvatarConnect,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Commit,
    "input_audio_buffer.clear": Clear,
    "output_audio_buffer.clear": ClearOutput,
    "input_text.delta": TextDelta,
    "input_text.done": TextDone,
    "conversation.item.create": ItemCreate,
    "conversation.item.retrieve": ItemRetrieve,
    "conversation.item.delete": ItemDelete,
    "conversation.item.truncate": ItemTruncate,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
}

_Model = TypeVar("_Model", bound=BaseModel)


# -- reading ------------------------------------------------------------------------------------------


def read_json(text: str) -> Json:
    """The message as an object. RefusedError for what is no JSON, is no object, or nests too deep."""
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError(Refusal("invalid_json", "Could not parse the message as JSON.")) from None
    if not isinstance(message, dict):
        raise RefusedError(Refusal("invalid_type", "Expected a JSON object."))
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            return message
    raise RefusedError(Refusal("invalid_json", "Could not parse the message as JSON."))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _within(value: dict[str, Any] | list[Any]) -> list[Any]:
    """The containers directly inside."""
    values = value.values() if isinstance(value, dict) else value
    return [inner for inner in values if isinstance(inner, dict | list)]


def parse(message: Json) -> ClientEvent:
    """The client's event, checked. RefusedError with code, message and param otherwise."""
    kind = message.get("type")
    if kind is None:
        raise missing("type")
    shape = CLIENT_EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        known = ", ".join(f"'{name}'" for name in CLIENT_EVENTS)
        raise invalid(f"Invalid value: '{kind}'. Supported values are: {known}.", "type")
    return check(shape, message)


def check(shape: type[_Model], message: Json) -> _Model:
    """`message` as a `shape`, or RefusedError for its first fault."""
    try:
        return shape.model_validate(message)
    except ValidationError as error:
        raise RefusedError(_refusal(error, message)) from None


# -- refusing -----------------------------------------------------------------------------------------


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> RefusedError:
    return RefusedError(Refusal(code, message, param))


def missing(path: str) -> RefusedError:
    return invalid(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")


def unknown(path: str) -> RefusedError:
    return invalid(f"Unknown parameter: '{path}'.", path, "unknown_parameter")


def _refusal(error: ValidationError, message: Json) -> Refusal:
    fault = max(error.errors(include_url=False), key=_aptness)
    kind, given, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    path = _path(fault["loc"], message, ends_in_key=kind in ("missing", "extra_forbidden"))
    if kind == "extra_forbidden":
        return unknown(path).refusal
    if kind == "missing":
        return missing(path).refusal
    if kind.startswith("union_tag"):
        path = _joined(path, str(context["discriminator"]).strip("'"))
        if kind == "union_tag_not_found":
            return missing(path).refusal
        return Refusal("invalid_value", _not_among(context["tag"], context["expected_tags"]), path)
    if kind == schema.NULL:
        path = _joined(path, context["key"])
    elif kind == "literal_error":
        return Refusal("invalid_value", _not_among(given, context["expected"]), path)
    wrong_type = kind.endswith("_type") or kind in ("int_from_float", schema.NULL)
    what = "invalid_type" if wrong_type else "invalid_value"
    words = "Invalid type for" if wrong_type else "Invalid"
    return Refusal(what, f"{words} '{path}': {fault['msg'].lower()}.", path)


def _aptness(fault: ErrorDetails) -> tuple[int, bool]:
    """A value that may be of several types has an error for each: the one that went deepest is meant, and an
    object was not meant for a name."""
    return len(fault["loc"]), fault["type"] != "literal_error" or isinstance(fault.get("input"), str)


def _not_among(given: object, expected: str) -> str:
    return f"Invalid value: '{given}'. Supported values are: {expected}."


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _path(location: tuple[int | str, ...], message: Json, *, ends_in_key: bool) -> str:
    """`session.tools[0].name`: the location without pydantic's names of union members.

    Those are told from keys by walking through the message itself: a member's tag is the value of the
    object's `type`, `role` or `model`, and no other name of a member is a key."""
    path = ""
    here: Any = message
    tags = _tags(here)
    last = len(location) - 1
    for index, step in enumerate(location):
        if isinstance(step, str) and step in tags:
            tags.remove(step)
            continue
        known = _has(here, step)
        if not known and not (ends_in_key and index == last):
            continue
        path = f"{path}[{step}]" if isinstance(step, int) else _joined(path, step)
        here = here[step] if known else None
        tags = _tags(here)
    return path


def _tags(value: object) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [tag for key in ("type", "role", "model") if isinstance(tag := value.get(key), str)]


def _has(value: object, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
