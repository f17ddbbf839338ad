"""What a client may say in OpenAI Realtime (GA): the shapes, and the errors for what it may not.

Sources: `openai.types.realtime` of the vendor's SDK 3.52.0 for the shapes; published live probes where
they differ (pcm needs its `rate`, `session.type` is mandatory in each update). A refused update is
refused as a whole, so one error, the first, is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat

VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
INSTRUCTIONS: Final = "You are a helpful voice agent on the telephone. Be brief and friendly."
FORMATS: Final[Mapping[str, AudioFormat]] = {
    "audio/pcm": PCM_24K,
    "audio/pcmu": PCMU_8K,
    "audio/pcma": PCMA_8K,
}

Voice = Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]
Json = dict[str, Any]
MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None
Modalities = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)] | None
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class Refusal(NamedTuple):
    """The inside of an `error` event, without the client's event id."""

    code: str | None
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """The client said something the service does not take; `refusal` goes back to it."""

    refusal: Refusal


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# -- audio ------------------------------------------------------------------------------------------


class Pcm(_Shape):
    type: Literal["audio/pcm"]
    rate: Literal[24000]  # the SDK's type says optional, the service insists (live probe 2026-08-19)


class Pcmu(_Shape):
    type: Literal["audio/pcmu"]


class Pcma(_Shape):
    type: Literal["audio/pcma"]


Format = Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")]


class ServerVad(_Shape):
    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0)] | None = None
    # 5 to 30 s is quoted widely and stands in no schema: only the sign is checked.
    idle_timeout_ms: Annotated[int, Field(ge=0)] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class SemanticVad(_Shape):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class Transcription(_Shape):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    keywords: list[str] | None = None
    languages: list[str] | None = None


class NoiseReduction(_Shape):
    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class AudioInput(_Shape):
    format: Format | None = None
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = None


class CustomVoice(_Shape):
    id: str


class AudioOutput(_Shape):
    format: Format | None = None
    voice: Voice | CustomVoice | None = None
    speed: Annotated[float, Field(ge=0.25, le=1.5)] | None = None


class Audio(_Shape):
    input: AudioInput | None = None
    output: AudioOutput | None = None


# -- session ----------------------------------------------------------------------------------------


class FunctionTool(_Shape):
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


class ToolChoice(_Shape):
    type: Literal["function", "mcp"]
    name: str | None = None
    server_label: str | None = None


class Reasoning(_Shape):
    # `none` is in no SDK type and was accepted live by gpt-realtime-2.1 (2026-09-22).
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class Prompt(_Shape):
    id: str
    version: str | None = None
    variables: Json | None = None


class Tracing(_Shape):
    workflow_name: str | None = None
    group_id: str | None = None
    metadata: Json | None = None


class TokenLimits(_Shape):
    post_instructions: int | None = None


class RetentionRatio(_Shape):
    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


class Session(_Shape):
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


class SessionUpdate(_Shape):
    type: Literal["session.update"]
    event_id: str | None = None
    session: Session


# -- conversation -----------------------------------------------------------------------------------


class InputText(_Shape):
    type: Literal["input_text"]
    text: str


class InputAudio(_Shape):
    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


class InputImage(_Shape):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(_Shape):
    # All that a client may put into an assistant's mouth: `output_audio` is refused for its missing text.
    type: Literal["output_text"]
    text: str


class _Item(_Shape):
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


class ItemCreate(_Shape):
    type: Literal["conversation.item.create"]
    event_id: str | None = None
    previous_item_id: str | None = None
    item: Item


class ItemRetrieve(_Shape):
    type: Literal["conversation.item.retrieve"]
    event_id: str | None = None
    item_id: str


class ItemDelete(_Shape):
    type: Literal["conversation.item.delete"]
    event_id: str | None = None
    item_id: str


class ItemTruncate(_Shape):
    type: Literal["conversation.item.truncate"]
    event_id: str | None = None
    item_id: str
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


# -- audio buffer and responses -----------------------------------------------------------------------


class Append(_Shape):
    type: Literal["input_audio_buffer.append"]
    event_id: str | None = None
    audio: str


class Commit(_Shape):
    type: Literal["input_audio_buffer.commit"]
    event_id: str | None = None


class Clear(_Shape):
    type: Literal["input_audio_buffer.clear"]
    event_id: str | None = None


class ResponseOutput(_Shape):
    format: Format | None = None
    voice: Voice | CustomVoice | None = None


class ResponseAudio(_Shape):
    output: ResponseOutput | None = None


class ResponseOptions(_Shape):
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


class ResponseCreate(_Shape):
    type: Literal["response.create"]
    event_id: str | None = None
    response: ResponseOptions | None = None


class ResponseCancel(_Shape):
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


# -- the effective session ----------------------------------------------------------------------------


def default_session(model: str, *, silence_ms: int, voice: str) -> Json:
    """What `session.created` shows, after the example seen live; the silence is this agent's own."""
    return {
        "type": "realtime",
        "model": model,
        "instructions": INSTRUCTIONS,
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": silence_ms,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": voice, "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
    }


# Objects that are one value each: a patch replaces them instead of being merged into them.
_WHOLE: Final = frozenset({"format", "voice", "prompt", "tracing", "truncation", "tool_choice"})
# What a session cannot be without: null leaves it as it was.
_NEVER_NULL: Final = frozenset(
    {"audio", "input", "output", "format", "voice", "speed", "output_modalities", "tools", "tool_choice"}
    | {"max_output_tokens", "truncation", "model", "type"}
)


def merged(old: Json, patch: Json) -> Json:
    """`old` with `patch` laid over it: absent keys keep their value, null clears."""
    result = deepcopy(old)
    for key, value in patch.items():
        if value is None and key in _NEVER_NULL:
            continue
        before = result.get(key)
        if (
            isinstance(value, dict)
            and isinstance(before, dict)
            and key not in _WHOLE
            and _same_kind(before, value)
        ):
            result[key] = merged(before, value)
        else:
            result[key] = deepcopy(value)
    return result


def _same_kind(before: Json, value: Json) -> bool:
    """A server_vad replaced by a semantic_vad keeps nothing of it."""
    return before.get("type", value.get("type")) == value.get("type", before.get("type"))


_VAD_DEFAULTS: Final[Mapping[str, Json]] = {
    "server_vad": {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {"eagerness": "auto", "create_response": True, "interrupt_response": True},
}


def complete(session: Json) -> Json:
    """Fill in the defaults of a turn detection that the client named by its type alone."""
    vad = session["audio"]["input"].get("turn_detection")
    if vad is not None:
        session["audio"]["input"]["turn_detection"] = {**_VAD_DEFAULTS[vad["type"]], **vad}
    return session


def check_for_model(session: Session, model: str) -> None:
    """Options that only the reasoning models take (live probes of 2026-09): RefusedError otherwise."""
    if model.startswith("gpt-realtime-2"):
        return
    if session.reasoning is not None:
        raise RefusedError(
            Refusal("invalid_value", "Unsupported option for this model.", "session.reasoning")
        )
    if session.parallel_tool_calls:
        path = "session.parallel_tool_calls"
        raise RefusedError(Refusal("invalid_value", "Unsupported option for this model.", path))
