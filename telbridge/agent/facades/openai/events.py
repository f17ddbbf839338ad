"""What a client may say in OpenAI Realtime (GA), and the error for what it may not.

Sources: as for the session (`shapes.py`). A refused update is refused as a whole, so one error, the first, is
enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from telbridge.agent.facades.openai.shapes import (
    CustomVoice,
    Format,
    MaxTokens,
    Modalities,
    Prompt,
    Reasoning,
    Session,
    Shape,
    Tool,
    ToolChoice,
    Voice,
)
from telbridge.agent.facades.realtime import Json, Refusal, RefusedError

Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class SessionUpdate(Shape):
    type: Literal["session.update"]
    event_id: str | None = None
    session: Session


# -- conversation -----------------------------------------------------------------------------------


class InputText(Shape):
    type: Literal["input_text"]
    text: str


class InputAudio(Shape):
    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


class InputImage(Shape):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(Shape):
    # All that a client may put into an assistant's mouth: `output_audio` is refused for its missing text.
    type: Literal["output_text"]
    text: str


class _Item(Shape):
    id: str | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class SystemMessage(_Item):
    type: Literal["message"]
    role: Literal["system"]
    content: list[InputText]


class UserMessage(_Item):
    type: Literal["message"]
    role: Literal["user"]
    content: list[Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")]]


class AssistantMessage(_Item):
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCall(_Item):
    type: Literal["function_call"]
    name: str
    arguments: str
    call_id: str | None = None


class FunctionCallOutput(_Item):
    type: Literal["function_call_output"]
    call_id: str
    output: str


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
Item = Annotated[Message | FunctionCall | FunctionCallOutput, Field(discriminator="type")]


class ItemCreate(Shape):
    type: Literal["conversation.item.create"]
    event_id: str | None = None
    previous_item_id: str | None = None
    item: Item


class ItemRetrieve(Shape):
    type: Literal["conversation.item.retrieve"]
    event_id: str | None = None
    item_id: str


class ItemDelete(Shape):
    type: Literal["conversation.item.delete"]
    event_id: str | None = None
    item_id: str


class ItemTruncate(Shape):
    type: Literal["conversation.item.truncate"]
    event_id: str | None = None
    item_id: str
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


# -- audio buffer and responses -----------------------------------------------------------------------


class Append(Shape):
    type: Literal["input_audio_buffer.append"]
    event_id: str | None = None
    audio: str


class Commit(Shape):
    type: Literal["input_audio_buffer.commit"]
    event_id: str | None = None


class Clear(Shape):
    type: Literal["input_audio_buffer.clear"]
    event_id: str | None = None


class ResponseOutput(Shape):
    format: Format | None = None
    voice: Voice | CustomVoice | None = None


class ResponseAudio(Shape):
    output: ResponseOutput | None = None


class ResponseOptions(Shape):
    instructions: str | None = None
    conversation: Literal["auto", "none"] | None = None
    input: list[Json] | None = None
    output_modalities: Modalities = None
    audio: ResponseAudio | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxTokens = None
    metadata: Annotated[Metadata, Field(max_length=16)] | None = None
    prompt: Prompt | None = None
    reasoning: Reasoning | None = None


class ResponseCreate(Shape):
    type: Literal["response.create"]
    event_id: str | None = None
    response: ResponseOptions | None = None


class ResponseCancel(Shape):
    type: Literal["response.cancel"]
    event_id: str | None = None
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | Append
    | Commit
    | Clear
    | ResponseCreate
    | ResponseCancel
)
CLIENT_EVENTS: Final[Mapping[str, type[ClientEvent]]] = {
    "session.update": SessionUpdate,
    "conversation.item.create": ItemCreate,
    "conversation.item.retrieve": ItemRetrieve,
    "conversation.item.delete": ItemDelete,
    "conversation.item.truncate": ItemTruncate,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Commit,
    "input_audio_buffer.clear": Clear,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
}

_Model = TypeVar("_Model", bound=BaseModel)


def parse(message: Json) -> ClientEvent:
    """The client's event, checked. RefusedError with the service's code, message and param otherwise."""
    kind = message.get("type")
    if kind is None:
        raise RefusedError(
            Refusal("missing_required_parameter", "Missing required parameter: 'type'.", "type")
        )
    shape = CLIENT_EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        known = ", ".join(f"'{name}'" for name in CLIENT_EVENTS)
        raise RefusedError(
            Refusal("invalid_value", f"Invalid value: '{kind}'. Supported values are: {known}.", "type")
        )
    return check(shape, message)


def check(shape: type[_Model], message: Json) -> _Model:
    """`message` as a `shape`, or RefusedError for its first fault."""
    try:
        return shape.model_validate(message)
    except ValidationError as error:
        raise RefusedError(_refusal(error)) from None


# Members of a tagged union stand in pydantic's path by their tag, which is no key of the client's message.
_TAGS: Final = frozenset(
    {"server_vad", "semantic_vad", "audio/pcm", "audio/pcmu", "audio/pcma", "message", "function_call"}
    | {"function_call_output", "system", "user", "assistant", "input_text", "input_audio", "input_image"}
    | {"mcp", "CustomVoice", "ToolChoice", "RetentionRatio", "Tracing"}
)


def _path(location: tuple[int | str, ...]) -> str:
    """`audio.input.format.rate`, `item.content[0].text`, as the service writes them."""
    path = ""
    for index, key in enumerate(location):
        if isinstance(key, int):
            path += f"[{key}]"
        # `function` names a tag only behind an index: tools[0].function.…
        elif key in _TAGS or key.startswith(("literal[", "constrained")) or (key == "function" and index > 0):
            continue
        else:
            path += f".{key}" if path else key
    return path


def _refusal(error: ValidationError) -> Refusal:
    first = error.errors(include_url=False)[0]
    kind, path, given = first["type"], _path(first["loc"]), first.get("input")
    if kind == "extra_forbidden":
        return Refusal("unknown_parameter", f"Unknown parameter: '{path}'.", path)
    if kind == "missing":
        return Refusal("missing_required_parameter", f"Missing required parameter: '{path}'.", path)
    if kind == "union_tag_not_found":
        tag = f"{path}.{str(first['ctx']['discriminator']).strip(chr(39))}"
        return Refusal("missing_required_parameter", f"Missing required parameter: '{tag}'.", tag)
    if kind == "union_tag_invalid":
        context = first["ctx"]
        path = f"{path}.{str(context['discriminator']).strip(chr(39))}"
        return Refusal("invalid_value", _not_among(context["tag"], context["expected_tags"]), path)
    if kind == "literal_error":
        return Refusal("invalid_value", _not_among(given, first["ctx"]["expected"]), path)
    if kind.endswith("_type") or kind == "int_from_float":
        return Refusal("invalid_type", f"Invalid type for '{path}': {first['msg'].lower()}.", path)
    return Refusal("invalid_value", f"Invalid value for '{path}': {first['msg'].lower()}.", path)


def _not_among(given: object, expected: str) -> str:
    return f"Invalid value: '{given}'. Supported values are: {expected}."
