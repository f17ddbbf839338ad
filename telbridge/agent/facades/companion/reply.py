"""One reply of Napster's Companion API, and how its server events are written.

Source: https://developers.napster.com/docs/deploying-your-agent/messaging/server-events. Audio carries no
id: it belongs to the talk that was announced last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from telbridge.agent.events import Misdeed

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_quote: Final = json.encoder.encode_basestring_ascii


@dataclass(slots=True)
class Outbox:
    """Messages for the client."""

    began_unix_s: float
    began_ns: int
    now_ns: int
    """Of what was received last: a facade has no clock."""
    messages: list[str | bytes] = field(default_factory=list)

    def send(self, event: str, **data: Any) -> None:
        self.messages.append(_encode({"event": event, "data": data}))

    def send_message(self, role: str, action: str, **fields: Any) -> None:
        """`message_received`: what is said, by either side."""
        unix_s = self.began_unix_s + (self.now_ns - self.began_ns) / 1e9
        timestamp = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
        message = {"type": "message", "role": role, "action": action, **fields, "timestamp": timestamp}
        self.send("message_received", message=message)


@dataclass(slots=True)
class Reply:
    """A reply being made."""

    id: str
    item_id: str
    text_only: bool
    outbox: Outbox
    _text: str = ""
    _talks: bool = False

    def start(self) -> None:
        if not self.text_only:
            self.outbox.send("talk_state_changed", state="preparing")
        self._say("created", content="")

    def audio_text(self, base64_text: str) -> None:
        """One message. Hot path; the text may be anything, if the brain passes on what the client sent."""
        if self.text_only:
            return
        if not self._talks:
            self._talks = True
            self.outbox.send("talk_state_changed", state="started")
        self.outbox.messages.append(f'{{"event":"audio_received","data":{{"data":{_quote(base64_text)}}}}}')

    def words(self, text: str) -> None:
        self._text += text
        self._say("delta", content=text)

    def complete(self) -> None:
        self._say("completed", content=self._text)
        self._stop_talking()

    def cancel(self, reason: str) -> None:
        self._say("cancelled", content=self._text, reason=reason)
        self._stop_talking()

    def _say(self, action: str, **fields: Any) -> None:
        self.outbox.send_message("assistant", action, item_id=self.item_id, response_id=self.id, **fields)

    def _stop_talking(self) -> None:
        if not self.text_only:
            self.outbox.send("talk_state_changed", state="ended")


def _stray(event: str, **data: Any) -> str:
    return json.dumps({"event": event, "data": data})


WRONG: Final[Mapping[Misdeed, str]] = {
    Misdeed.GARBAGE: '{"event": "audio_received", "data": ',
    Misdeed.NOT_AN_OBJECT: '["not", "an", "object"]',
    Misdeed.UNKNOWN_EVENT: _stray("horoscope_changed", mood="fair"),
    Misdeed.MISSING_FIELDS: _stray("audio_received"),
    Misdeed.BAD_BASE64: _stray("audio_received", data="*** no base64 ***"),
    Misdeed.STRANGE_AUDIO: _stray("audio_received", data="/////////////////////w=="),
    Misdeed.SERVER_ERROR: _stray("error", code="internal_error", message="The server had an error."),
}
"""What a broken server of this API sends, by misdeed."""
