"""Client events of the Azure Voice Live API, without their event ids. Pure.

Shapes: learn.microsoft.com, Speech service, "Voice Live API reference", and the client events of
azure-ai-voicelive 1.3.1.
"""

from __future__ import annotations

from typing import Final

from telbridge.call.events import Said
from telbridge.call.ports import TextRole
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.openai.replies import AudioItem

_ROLE: Final = {TextRole.CALLER: "user", TextRole.CONTEXT: "system"}


def text_item(words: str, role: TextRole) -> Json:
    """Of the caller, or of nobody."""
    content = [{"type": "input_text", "text": words}]
    return _create({"type": "message", "role": _ROLE[role], "content": content})


def said_item(said: Said) -> Json:
    """One utterance of a conversation held before."""
    return text_item(said.text, TextRole.CALLER) if said.by_caller else _create(_assistant(said.text))


def tool_output(call_id: str, output: str) -> Json:
    """The result of a function call."""
    return _create({"type": "function_call_output", "call_id": call_id, "output": output})


def denial(request_id: str) -> Json:
    """The answer to a tool of an MCP server that wants approval: there is nobody to ask."""
    item = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": False}
    return _create(item)


def truncation(item: AudioItem, position_ms: int) -> Json:
    """How far an audio item was heard."""
    return {
        "type": "conversation.item.truncate",
        "item_id": item.item_id,
        "content_index": item.content_index,
        "audio_end_ms": position_ms,
    }


def cancel(response_id: str | None) -> Json:
    """The end of a response; None: of whichever runs."""
    event: Json = {"type": "response.cancel"}
    return event if response_id is None else {**event, "response_id": response_id}


def exactly(settings: AzureSettings, words: str) -> Json:
    """What a response.create holds so that these words are said. Azure's voices are given the words
    themselves; whether the model's own voices take that no source confirms, so a model is told what to say,
    and its instructions do not hold for that one reply."""
    if settings.says_verbatim:
        return {"response": {"pre_generated_assistant_message": _assistant(words)}}
    return {"response": {"instructions": f"Say exactly: {words}"}}


def answer(settings: AzureSettings, instructions: str | None) -> Json | None:
    """What a response.create holds so that the agent speaks, by these instructions too. A response's
    instructions replace the session's, so both go; an agent's own are not ours to repeat."""
    if instructions is None:
        return None
    if settings.agent is not None:
        return {"additional_instructions": instructions}
    both = f"{settings.instructions}\n\n{instructions}" if settings.instructions else instructions
    return {"response": {"instructions": both}}


def _assistant(words: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "text", "text": words}]}


def _create(item: Json) -> Json:
    return {"type": "conversation.item.create", "item": item}
