"""What a Voice Live session remembers: its items in their order, and which ones it takes."""

from __future__ import annotations

from dataclasses import dataclass

from telbridge.agent.facades.azure import events as wire
from telbridge.agent.facades.azure.events import invalid
from telbridge.agent.facades.realtime import Items


@dataclass(slots=True, kw_only=True)
class Conversation(Items):
    """The items of one session, and which others it takes."""

    id: str
    takes_audio: bool
    """Whether the model hears audio that is put into an item."""

    def check_new(self, item: wire.Item, path: str) -> None:
        """RefusedError for an item that this conversation can't have."""
        self.check_free(item.id, f"{path}.id")
        if isinstance(item, wire.McpApproval):
            text = f"MCP approval request with id '{item.approval_request_id}' not found."
            raise invalid(text, f"{path}.approval_request_id")
        if isinstance(item, wire.FunctionCallOutput) and not self._has_call(item.call_id):
            text = f"Tool call ID '{item.call_id}' not found in conversation."
            raise invalid(text, f"{path}.call_id", "invalid_tool_call_id")
        if isinstance(item, wire.UserMessage) and not self.takes_audio:
            for index, part in enumerate(item.content):
                if isinstance(part, wire.InputAudio):
                    text = "Content type 'input_audio' is not supported for this model."
                    raise invalid(text, f"{path}.content[{index}].type")

    def _has_call(self, call_id: str) -> bool:
        items = self.items.values()
        return any(item["type"] == "function_call" and item["call_id"] == call_id for item in items)
