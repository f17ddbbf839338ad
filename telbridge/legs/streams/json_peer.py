"""What carriers share whose streams are JSON text with base64 inside: reading, order of events, numbers.

Their words differ; a peer brings its own table of events and reads their fields. Unknown events and fields
are no error: carriers add some without notice.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, ClassVar, Final

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.payload import Malformed, audio_of, json_object, table, text
from telbridge.legs.streams.peer import DIGITS, Fault, Happening, Ignored, Key, Message

_MEDIA: Final = '{"event":"media"'
_PAYLOAD: Final = '"payload":"'
_KIND: Final = 40
"""Of an event's name, as much as is told."""


class StreamState(Enum):
    WAITING = auto()
    STREAMING = auto()
    STOPPED = auto()


WAITING, STREAMING, STOPPED = StreamState
Events = Mapping[tuple[StreamState, str], StreamState]
"""Which events may come when, and the state after them."""


class JsonPeer:
    """Half of a `telbridge.legs.streams.peer.StreamPeer`; `happening` is what a carrier adds."""

    EVENTS: ClassVar[Events]
    NUMBER: ClassVar[str]
    """The field with the number of a message; "" where messages are not numbered."""
    audio_is_text: Final = True
    answers_marks: Final = True
    wants_silence: Final = False

    def __init__(self, format: AudioFormat) -> None:
        """`format`: what the stream was asked for, both ways."""
        self._format = format
        self._inbound = format
        """What the carrier really sends."""
        self._decode: Callable[[bytes], bytes] | None = None
        """From that to `format`, where they differ."""
        self._state = WAITING
        self._known = {event for _, event in self.EVENTS}
        self._pattern = re.compile(rf'"{self.NUMBER}":\s*"?(\d{{1,18}})')
        self._numbered = 0
        self._last = ""

    @property
    def lost(self) -> int:
        """By the number of the last message."""
        found = self._pattern.search(self._last) if self.NUMBER else None
        return max(0, int(found[1]) - self._numbered) if found else 0

    def receive(self, message: Message) -> Happening:
        if isinstance(message, bytes):
            return Fault("binary message")
        if self._state is STREAMING and message.startswith(_MEDIA):
            at = message.find(_PAYLOAD) + len(_PAYLOAD)
            try:
                audio = binascii.a2b_base64(message[at : message.find('"', at)], strict_mode=True)
            except ValueError:
                audio = b""  # Written in some other way, or wrong: the slow way tells.
            if audio and len(audio) % self._inbound.sample_bytes == 0:
                self._numbered += 1
                self._last = message
                return audio if self._decode is None else self._decode(audio)
        try:
            return self._receive(message)
        except Malformed as fault:
            return Fault(str(fault))

    def _receive(self, message: str) -> Happening:
        fields = json_object(message)
        event = text(fields, "event")
        if self.NUMBER in fields:
            self._numbered += 1
            self._last = message
        if event not in self._known:
            return Ignored(event[:_KIND])
        state = self.EVENTS.get((self._state, event))
        if state is None:
            raise Malformed(f"`{event}` while {self._state.name.lower()}")
        happening = self._audio(table(fields, "media")) if event == "media" else self.happening(event, fields)
        self._state = state
        return happening

    def happening(self, event: str, fields: Any) -> Happening:
        """What an event of the table says; never `media`. Malformed."""
        raise NotImplementedError

    def _audio(self, media: Any) -> Happening:
        if media.get("track", "inbound") not in ("inbound", "inbound_track"):
            return Ignored("media of another track")
        audio = audio_of(media.get("payload"), self._inbound)
        return audio if self._decode is None else self._decode(audio)

    def greeting(self) -> Message | None:
        return None

    def goodbye(self, reason: str) -> Message | None:
        """None: there is no message for it, closing says all."""
        return None


def key_of(dtmf: Any) -> Happening:
    """The key in a `dtmf` object. Malformed."""
    digit = text(dtmf, "digit").upper()
    return Key(digit) if digit in DIGITS else Ignored("dtmf of no key")


def packed(**fields: Any) -> str:
    """A message of ours."""
    return json.dumps(fields, separators=(",", ":"))
