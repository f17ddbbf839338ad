"""What goes to the OpenAI Realtime API, in the order and at the moment that the API allows. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from telbridge.call.events import Said, UpdateRefused
from telbridge.sessions.openai.items import said_item
from telbridge.sessions.openai.replies import ResponseQueue
from telbridge.sessions.openai.settings import Json
from telbridge.sessions.openai.updates import Updates


class Outbox:
    """Client events on their way: kept until the session is configured, each under an id of its own, one
    response and one update at a time."""

    def __init__(self, updates: Updates) -> None:
        self.responses = ResponseQueue()
        self._updates = updates
        self._open = False
        self._events_sent = 0
        self.out: list[str | bytes] = []
        """To be taken."""
        self._held: list[Json] = []

    def take(self) -> list[str | bytes]:
        """All that is to be sent now, once."""
        out, self.out = self.out, []
        return out

    def configure(self) -> None:
        """The first update, whole."""
        event_id = self._next_event_id()
        self._send_update(event_id, self._updates.first(event_id))

    def open(self, said: Iterable[Said]) -> list[UpdateRefused]:
        """The session is configured: first a change that was asked for meanwhile, then what was said in the
        session before this one, then what was kept. Returns what `send_next_update` does."""
        self._open = True
        refused = self.send_next_update(spoken=False)
        for one in said:
            if one.text:
                self.send(said_item(one))
        held, self._held = self._held, []
        for message in held:
            self.send(message)
        self.send_next_response()
        return refused

    def inherit(self, before: Outbox) -> None:
        """What was kept for a session that never was configured."""
        self._held += before._held
        self.responses.inherit(before.responses)

    def close(self) -> None:
        """The session takes nothing more."""
        self._open = False
        self._held.clear()

    def send(self, message: Json) -> None:
        """At once, or when the session is configured."""
        if self._open:
            self._write({"event_id": self._next_event_id(), **message})
        else:
            self._held.append(message)

    def ask(self, response: Json | None) -> None:
        """For a response, with overrides or a plain one, when it is its turn."""
        self.responses.ask(response)
        self.send_next_response()

    def cancel(self, response_id: str | None) -> None:
        """The running response; by its id, so that a later one is not meant."""
        which = {} if response_id is None else {"response_id": response_id}
        self.send({"type": "response.cancel", **which})

    def send_next_response(self) -> None:
        if self._open and self.responses.may_send():
            event_id = self._next_event_id()
            response = self.responses.send(event_id)
            create: Json = {"type": "response.create", "event_id": event_id}
            if response is not None:
                create["response"] = response
            self._write(create)

    def send_next_update(self, *, spoken: bool) -> list[UpdateRefused]:
        """The next change, if none is in flight; those before it that are not possible any more."""
        refused: list[UpdateRefused] = []
        while self._open:
            found = self._updates.next(self._next_event_id, spoken=spoken, speaking=not self.responses.idle)
            if not isinstance(found, UpdateRefused):
                if found is not None:
                    self._send_update(found.event_id, found.session)
                break
            refused.append(found)
        return refused

    def _send_update(self, event_id: str, session: Json) -> None:
        self._write({"type": "session.update", "event_id": event_id, "session": session})

    def _write(self, message: Json) -> None:
        self.out.append(json.dumps(message, separators=(",", ":")))

    def _next_event_id(self) -> str:
        self._events_sent += 1
        return f"tb_{self._events_sent}"
