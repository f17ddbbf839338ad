"""What we ask of a Deepgram session: kept until it is ready, and remembered until it is answered. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from telbridge.call.events import ToolCall
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.deepgram.updates import PROMPT_ACK
from telbridge.sessions.wire import Malformed, optional_text, text

KEPT: Final = 256
"""Calls, notes and injected words remembered; bounds what a broken peer or dialplan can make us keep."""
NOT_THE_CALLER: Final = "[Not said by the caller] "
"""Before words that reach the model as a user's turn: the API has no other way to make it answer."""


class Asks:
    """The control messages of one session."""

    def __init__(self, held: Sequence[Json] = (), notes: Iterable[str] = ()) -> None:
        self.notes: Final = deque(notes, maxlen=KEPT)
        """Added to the prompt since the start. UpdateThink would lose them, so they are told again."""
        self._ready = False
        self._out: list[str | bytes] = []
        self._held: list[Json] = list(held)
        self._echoes: deque[str] = deque(maxlen=KEPT)
        self._unspoken: deque[tuple[str, bool]] = deque(maxlen=KEPT)
        self._acks: deque[tuple[str, int | None]] = deque()
        self._updates = 0

    # ------------------------------------------------------------ sending

    def send(self, message: Json) -> None:
        """At once, or when the session is ready."""
        if self._ready:
            self.write(message)
        else:
            self._held.append(message)

    def write(self, message: Json) -> None:
        """At once in any case."""
        self._out.append(json.dumps(message, separators=(",", ":")))

    def ready(self, untold: Iterable[str]) -> None:
        """Everything may be sent; notes not told yet go first, for what follows may need them."""
        self._ready = True
        held, self._held = self._held, []
        for note in untold:
            self.append_prompt(note)
        for message in held:
            self.write(message)

    def injections_held(self) -> tuple[Json, ...]:
        """What was to be said and never sent. Updates are not among it: they are in the settings."""
        return tuple(message for message in self._held if message["type"].startswith("Inject"))

    def data_to_send(self) -> list[str | bytes]:
        out, self._out = self._out, []
        return out

    # ------------------------------------------------------------ words

    def append_prompt(self, note: str) -> None:
        self._acks.append((PROMPT_ACK, None))
        self.send({"type": "UpdatePrompt", "prompt": note})

    def say(self, message: str, *, interrupt: bool) -> None:
        """`interrupt`: at once, over whoever speaks, which the API never refuses; else behind the agent's
        own words, which it refuses while the caller speaks."""
        self._unspoken.append((message, interrupt))
        behavior = "interrupt" if interrupt else "queue"
        self.send({"type": "InjectAgentMessage", "message": message, "behavior": behavior})

    def spoken(self, words: str) -> None:
        """The agent says them."""
        for one in self._unspoken:
            if one[0] == words:
                self._unspoken.remove(one)
                return

    def retry_refused(self) -> bool:
        """InjectionRefused names nothing: it is the oldest one not spoken yet. False if that was not to be
        refused, or there is none."""
        message, interrupts = self._unspoken.popleft() if self._unspoken else ("", True)
        if interrupts:
            return False
        self.say(message, interrupt=True)
        return True

    def inject_user(self, content: str) -> None:
        """The API sends it back as the caller's words."""
        self._echoes.append(content)
        self.send({"type": "InjectUserMessage", "content": content})

    def is_echo(self, words: str) -> bool:
        """Whether these words of the caller are our own; each comes back once."""
        if words in self._echoes:
            self._echoes.remove(words)
            return True
        return words.startswith(NOT_THE_CALLER)

    # ------------------------------------------------------------ updates

    def update(self, wanted: Iterable[tuple[Json, str]]) -> None:
        """One change of the session: messages, each with the type of its acknowledgement."""
        self._updates += 1
        for message, ack in wanted:
            self._acks.append((ack, self._updates))
            self.send(message)

    def acknowledged(self, kind: str) -> bool:
        """Whether this acknowledgement, one of those asked for in this order, completes a change."""
        for position, (ack, number) in enumerate(self._acks):
            if ack == kind:
                del self._acks[position]
                return number is not None and all(other != number for _, other in self._acks)
        return False

    def updates_under_way(self) -> int:
        return len({number for _, number in self._acks if number is not None})

    def forget_updates(self) -> None:
        self._acks = deque((ack, number) for ack, number in self._acks if number is None)


class FunctionCalls:
    """Functions that the agent asked us to call."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str | None]] = {}
        self._seen: deque[str] = deque(maxlen=KEPT)

    def requested(self, fields: Json) -> list[ToolCall]:
        """Those that are ours; Deepgram calls the others by itself. Malformed for odd ones."""
        items = [item for item in _items(fields) if item.get("client_side") is not False]
        calls = [(item, ToolCall(text(item, "id"), text(item, "name"), _arguments(item))) for item in items]
        return [call for item, call in calls if self._is_new(item, call)]

    def _is_new(self, item: Json, call: ToolCall) -> bool:
        if call.tool_call_id in self._seen:
            return False
        self._seen.append(call.tool_call_id)
        self._open[call.tool_call_id] = (call.name, optional_text(item, "thought_signature"))
        if len(self._open) > KEPT:
            del self._open[next(iter(self._open))]
        return True

    def cancelled(self, fields: Json) -> list[str]:
        """Ids of those that were open and are no longer wanted. Malformed for odd ones."""
        ids = [text(item, "id") for item in _items(fields)]
        return [call_id for call_id in ids if self._open.pop(call_id, None) is not None]

    def answer(self, call_id: str, output: str, *, failed: bool) -> Json | None:
        """The message with the result; None for a call that is not open."""
        call = self._open.pop(call_id, None)
        if call is None:
            return None
        name, signature = call
        content = json.dumps({"error": output}, ensure_ascii=False) if failed else output
        answer: Json = {"type": "FunctionCallResponse", "id": call_id, "name": name, "content": content}
        if signature is not None:
            # Unconfirmed: the vendor's skill file asks for it, its SDK has no such field.
            answer["thought_signature"] = signature
        return answer


def _items(fields: Json) -> list[Json]:
    items = fields.get("functions")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Malformed("`functions` is no list of objects")
    return items


def _arguments(item: Json) -> str:
    """JSON text by the vendor's pages; an object has been met as well."""
    arguments = item.get("arguments")
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    if not isinstance(arguments, str):
        raise Malformed("`arguments` is no JSON text")
    return arguments
