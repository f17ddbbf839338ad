"""One reply of AssemblyAI's Voice Agent API: the server events from `reply.started` to `reply.done`.

Source: https://www.assemblyai.com/docs/voice-agents/voice-agent-api/events-reference. There is no event for
the end of the audio; when a reply is cut short, its transcript tells what had been spoken by then.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from telbridge.agent.events import Misdeed
from telbridge.audio.formats import AudioFormat

MS_PER_CHARACTER: Final = 60
"""Word times are estimates: words come before their sound here."""
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_quote: Final = json.encoder.encode_basestring_ascii
_WORDS: Final = re.compile(r"\s*\S+")


@dataclass(slots=True)
class Outbox:
    """Messages for the client; every one carries the time, as seen live."""

    began_unix_s: float
    began_ns: int
    now_ns: int
    """Of what was received last: a facade has no clock."""
    messages: list[str | bytes] = field(default_factory=list)

    @property
    def unix_s(self) -> float:
        return round(self.began_unix_s + (self.now_ns - self.began_ns) / 1e9, 3)

    def send(self, kind: str, **fields: Any) -> None:
        self.messages.append(_encode({"type": kind, **fields, "timestamp": self.unix_s}))


@dataclass(slots=True)
class Reply:
    """A reply being made."""

    id: str
    item_id: str
    format: AudioFormat
    outbox: Outbox
    ended: bool = False
    """Nothing more comes; the service speaks in real time, so it is not over before it has been heard."""
    _text: str = ""
    _octets: int = 0
    _audible_ns: int = 0

    def start(self) -> None:
        self.outbox.send("reply.started", **self._ids())

    def audio_text(self, base64_text: str) -> None:
        """One message. Hot path; the text may be anything, if the brain passes on what the client sent."""
        if not self._octets:
            self._audible_ns = self.outbox.now_ns
        self._octets += len(base64_text) // 4 * 3 - base64_text.count("=", max(0, len(base64_text) - 2))
        head, stamp = '{"type":"reply.audio","reply_id":"', f',"timestamp":{self.outbox.unix_s}}}'
        self.outbox.messages.append(f'{head}{self.id}","data":{_quote(base64_text)}{stamp}')

    def words(self, text: str) -> None:
        """One delta a word, in one burst."""
        for match in _WORDS.finditer(text):
            start_ms = len(self._text) * MS_PER_CHARACTER
            self._text += match[0]
            end_ms = len(self._text) * MS_PER_CHARACTER
            times = {"start_ms": start_ms, "end_ms": end_ms}
            self.outbox.send("transcript.agent.delta", **self._ids(), delta=match[0], **times)

    @property
    def over_ns(self) -> int:
        """When all audio up to now will have been heard; the audio itself may run ahead of that."""
        return self._audible_ns + int(self.format.ms_in(self._octets) * 1e6)

    def finish(self, *, interrupted: bool) -> None:
        text = self._spoken() if interrupted else self._text
        if self._text:
            self.outbox.send("transcript.agent", **self._ids(), text=text, interrupted=interrupted)
        self.outbox.send("reply.done", reply_id=self.id, status="interrupted" if interrupted else "completed")

    def _spoken(self) -> str:
        """The words up to now, reckoned from the audio that was sent and the time since."""
        length_ms = self.format.ms_in(self._octets)
        passed_ms = (self.outbox.now_ns - self._audible_ns) / 1e6
        words = _WORDS.findall(self._text)
        share = min(1.0, passed_ms / length_ms) if length_ms else 0.0
        return "".join(words[: round(len(words) * share)])

    def _ids(self) -> dict[str, str]:
        return {"reply_id": self.id, "item_id": self.item_id}


def _stray(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields, "timestamp": 0.0})


WRONG: Final = {
    Misdeed.GARBAGE: '{"type": "reply.audio", "data": ',
    Misdeed.NOT_AN_OBJECT: '["not", "an", "object"]',
    Misdeed.UNKNOWN_EVENT: _stray("session.horoscope", mood="fair"),
    Misdeed.MISSING_FIELDS: _stray("reply.audio"),
    Misdeed.BAD_BASE64: _stray("reply.audio", reply_id="resp_never_started", data="*** no base64 ***"),
    Misdeed.STRANGE_AUDIO: _stray(
        "reply.audio", reply_id="resp_never_started", data="/////////////////////w=="
    ),
    Misdeed.SERVER_ERROR: _stray("session.error", code="internal_error", message="The server had an error."),
}
"""What a broken server of this API sends, by misdeed."""
