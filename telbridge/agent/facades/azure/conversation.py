"""What a Voice Live session remembers: its items in their order, and which ones it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from telbridge.agent.facades.azure import events as wire
from telbridge.agent.facades.azure.events import invalid
from telbridge.agent.facades.openai.schema import Json


@dataclass(slots=True)
class Conversation:
    """Items in their order, by id."""

    id: str
    takes_audio: bool
    """Whether the model hears audio that is put into an item."""
    items: dict[str, Json] = field(default_factory=dict)

    def insert(self, item: Json, after: str | None) -> str | None:
        """Behind `after` ("root": first; None: last); the id of the item before it."""
        if after is None:
            return self.append(item)
        order = list(self.items)
        place = 0 if after == "root" else order.index(after) + 1
        pairs = list(self.items.items())
        self.items = dict([*pairs[:place], (item["id"], item), *pairs[place:]])
        return order[place - 1] if place else None

    def append(self, item: Json) -> str | None:
        """As the last one; the id of the item before it."""
        previous = next(reversed(self.items), None)
        self.items[item["id"]] = item
        return previous

    def update(self, item: Json) -> None:
        """A new state of an item, if it is in the conversation (still)."""
        if item["id"] in self.items:
            self.items[item["id"]] = item

    def known(self, item_id: str, verb: str) -> Json:
        """The item. RefusedError if there is none of this id."""
        if item_id not in self.items:
            text = f"Error {verb[:-1]}ing item: the item with id '{item_id}' does not exist."
            raise invalid(text, "item_id", f"item_{verb}_invalid_item_id")
        return self.items[item_id]

    def check_place(self, after: str | None) -> None:
        """RefusedError for a place behind an item that is not there."""
        if after is not None and after != "root" and after not in self.items:
            text = f"Previous item with id '{after}' not found."
            raise invalid(text, "previous_item_id", "item_create_invalid_previous_item_id")

    def check_new(self, item: wire.Item, path: str) -> None:
        """RefusedError for an item that this conversation can't have."""
        if item.id is not None and item.id in self.items:
            raise invalid("Item id exists already.", f"{path}.id", "item_create_duplicate_item_id")
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
