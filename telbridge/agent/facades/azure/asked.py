"""What a `response.create` of Voice Live asks for: checked, and put into the brain's words."""

from __future__ import annotations

from typing import Any

from telbridge.agent.events import BrainEvent, TextIn
from telbridge.agent.facades.azure import events as wire
from telbridge.agent.facades.azure import session as state
from telbridge.agent.facades.azure.response import ResponseFacts
from telbridge.agent.facades.realtime import Json


def check(options: wire.ResponseOptions, session: Json, endpoint: state.Endpoint) -> None:
    """RefusedError for a response that cannot be had in this session."""
    if options.pre_generated_assistant_message is not None and not endpoint.has("2026-01-01"):
        raise wire.unknown("response.pre_generated_assistant_message")
    if options.modalities is not None:
        state.check_modalities(options.modalities, "response.modalities")
    if options.voice is not None:
        state.check_voice(_plain(options.voice), endpoint, "response.voice")
    if options.tool_choice is not None:
        own = options.tools
        offered = session["tools"] if own is None else [_plain(tool) for tool in own]
        state.check_tool_choice(options.tool_choice, offered, "response.tool_choice")


def facts(
    options: wire.ResponseOptions, session: Json, *, response_id: str, conversation_id: str | None
) -> ResponseFacts:
    """The response's own options, and the session's where it has none."""
    message = options.pre_generated_assistant_message
    format_name = options.output_audio_format or session["output_audio_format"]
    limit = options.max_output_tokens or options.max_response_output_tokens
    return ResponseFacts(
        id=response_id,
        modalities=list(options.modalities or session["modalities"]),
        format=state.OUTPUT_FORMATS[format_name],
        format_name=format_name,
        voice=session["voice"] if options.voice is None else _plain(options.voice),
        conversation_id=conversation_id,
        temperature=session["temperature"] if options.temperature is None else options.temperature,
        max_output_tokens=limit or session["max_response_output_tokens"],
        metadata=options.metadata,
        pre_generated=None if message is None else message.content[0].text,
        word_timestamps=bool(session.get("output_audio_timestamp_types")),
    )


def instructions(options: wire.ResponseOptions, additional: str | None, session: Json) -> str | None:
    """In place of the session's; None: the session's as they are."""
    if options.pre_generated_assistant_message is not None:
        return f"Say exactly: {options.pre_generated_assistant_message.content[0].text}"
    if not additional:
        return options.instructions
    own = session["instructions"] if options.instructions is None else options.instructions
    return f"{own}\n{additional}".strip()


def texts(item: wire.Item) -> list[BrainEvent]:
    """What a message tells the brain."""
    if not isinstance(item, wire.SystemMessage | wire.UserMessage | wire.AssistantMessage):
        return []
    parts = [part.text for part in item.content if not isinstance(part, wire.InputAudio | wire.InputImage)]
    text = " ".join(parts)
    return [TextIn(text, item.role)] if text else []


def _plain(value: Any) -> Any:
    """A shape as the JSON that it was."""
    return value if isinstance(value, str) else value.model_dump(exclude_unset=True)
