"""Client events of the OpenAI Realtime API, without their event ids.

Shapes: `RealtimeClientEvent` and `ConversationItem` of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import Said
from telbridge.call.playout import Heard
from telbridge.call.ports import TextRole
from telbridge.sessions.openai.replies import AudioItem, positions
from telbridge.sessions.openai.settings import Json

_ROLE: Final[dict[TextRole, Literal["user", "system"]]] = {
    TextRole.CALLER: "user",
    TextRole.CONTEXT: "system",
}


def text_item(words: str, role: TextRole) -> Json:
    """Of the caller, or of nobody."""
    content = [{"type": "input_text", "text": words}]
    return _create({"type": "message", "role": _ROLE[role], "content": content})


def said_item(said: Said) -> Json:
    """One utterance of a conversation held before. The agent's must be text: audio is refused."""
    if said.by_caller:
        return text_item(said.text, TextRole.CALLER)
    content = [{"type": "output_text", "text": said.text}]
    return _create({"type": "message", "role": "assistant", "content": content})


def tool_output(call_id: str, output: str) -> Json:
    """The result of a function call."""
    return _create({"type": "function_call_output", "call_id": call_id, "output": output})


def denial(request_id: str) -> Json:
    """The answer to an MCP server's tool that wants approval: there is nobody to ask."""
    return _create(
        {
            "type": "mcp_approval_response",
            "id": f"no_{request_id}"[:32],
            "approval_request_id": request_id,
            "approve": False,
            "reason": "Nobody can approve this during a telephone call.",
        }
    )


def truncations(items: Iterable[AudioItem], heard: Heard, audio_format: AudioFormat) -> Iterator[Json]:
    """How far each audio item of a cut reply was heard; none for an item that is cut there already."""
    for item, position_ms in positions(items, heard, audio_format):
        if item.truncated_at_ms is not None and item.truncated_at_ms <= position_ms:
            continue
        item.truncated_at_ms = position_ms
        yield {
            "type": "conversation.item.truncate",
            "item_id": item.item_id,
            "content_index": item.content_index,
            "audio_end_ms": position_ms,
        }


def exactly(words: str) -> Json:
    """The overrides of a response that says these words; the session's instructions do not hold for it."""
    return {"instructions": f"Say exactly: {words}", "tool_choice": "none"}


def _create(item: Json) -> Json:
    return {"type": "conversation.item.create", "item": item}
