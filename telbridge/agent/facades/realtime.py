"""What the dialects of the Realtime protocol have in common: OpenAI's (GA) and Azure Voice Live's (beta)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

INSTRUCTIONS: Final = "You are a helpful voice agent on the telephone. Be brief and friendly."
EAGERNESS_MS: Final = {"low": 1_000, "medium": 700, "auto": 700, "high": 400}
"""Semantic turn detection is not had here: eagerness chooses the silence that ends a turn."""
MS_PER_OUTPUT_TOKEN: Final = 50  # model audio; caller audio is 100 ms a token (vendor's pricing page)
CHARS_PER_TOKEN: Final = 4  # a rule of thumb: nobody is billed here


class Refusal(NamedTuple):
    """The inside of an `error` event, without the client's event id."""

    code: str | None
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """The client said something the service does not take; `refusal` goes back to it."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class AppendShape:
    """How this client writes an append around its base64 text: two constant strings.

    Learnt from the first one that was parsed properly, so that the others need no JSON."""

    head: str
    tail: str

    @staticmethod
    def learn(message: str, audio: str) -> AppendShape | None:
        start = message.find(audio) if audio else -1
        if start < 0:
            return None
        head, tail = message[:start], message[start + len(audio) :]
        try:
            constant = json.loads(head + tail) == {"type": "input_audio_buffer.append", "audio": ""}
        except ValueError:
            return None
        return AppendShape(head, tail) if constant else None

    def audio_of(self, message: str) -> str | None:
        """The base64 text, or None if the message has another shape."""
        if not (message.startswith(self.head) and message.endswith(self.tail, len(self.head))):
            return None
        text = message[len(self.head) : -len(self.tail)]
        return text if text.isprintable() and '"' not in text and "\\" not in text else None


@dataclass(slots=True)
class Items:
    """A conversation's items in their order, by id."""

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
            raise RefusedError(Refusal(f"item_{verb}_invalid_item_id", text, "item_id"))
        return self.items[item_id]

    def check_place(self, after: str | None) -> None:
        """RefusedError for a place behind an item that is not there."""
        if after is not None and after != "root" and after not in self.items:
            text = f"Previous item with id '{after}' not found."
            raise RefusedError(Refusal("item_create_invalid_previous_item_id", text, "previous_item_id"))

    def check_free(self, item_id: str | None, param: str) -> None:
        """RefusedError for an id that an item has already."""
        if item_id is not None and item_id in self.items:
            raise RefusedError(Refusal("item_create_duplicate_item_id", "Item id exists already.", param))


@dataclass(slots=True)
class Outbox:
    """Messages for the client, with the server's event ids in them."""

    session_id: str
    messages: list[str | bytes] = field(default_factory=list)
    _next_id: int = 0

    def event_id(self) -> str:
        self._next_id += 1
        return f"event_{self.session_id}{self._next_id:x}"

    def send(self, kind: str, **fields: Any) -> None:
        self.messages.append(
            json.dumps({"type": kind, "event_id": self.event_id(), **fields}, separators=(",", ":"))
        )

    def send_delta(self, head: str, base64_text: str) -> None:
        """An audio delta whose constant part was made once (see `Response._delta_head`)."""
        self._next_id += 1
        self.messages.append(f'{head}{self._next_id:x}","delta":"{base64_text}"}}')
