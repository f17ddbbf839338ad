"""Twilio Media Streams, bidirectional (`<Connect><Stream>`); messages as in Twilio's «Media Streams -
WebSocket Messages». SignalWire's cXML streams differ only in ids and codecs.

Everything is JSON text; audio is μ-law, 8 kHz, without a header. Sequence numbers run over all messages and
are texts. Unknown fields and events are no error: Twilio adds some without notice.
"""

from __future__ import annotations

import binascii
import json
import re
from enum import Enum, auto
from typing import Any, Final

from telbridge.audio.formats import PCMU_8K
from telbridge.legs.streams.payload import Malformed, audio_of, json_object, table, text, texts
from telbridge.legs.streams.peer import (
    DIGITS,
    Fault,
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
    Stopped,
)

TWILIO: Final = PeerTraits(
    name="twilio",
    title="Twilio",
    formats=(PCMU_8K,),
    messages="JSON, base64",
    authentication="X-Twilio-Signature on webhook and upgrade, one-time token in the stream's URL",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="closes the stream; TwiML ends the call, the REST API at once where a key is set",
    transfers="a number, SIP, another webhook, by TwiML; comes back when nobody answers",
)
_MEDIA: Final = '{"event":"media"'
_PAYLOAD: Final = '"payload":"'
_SEQUENCE: Final = re.compile(r'"sequenceNumber":\s*"(\d{1,18})"')


class _State(Enum):
    WAITING = auto()
    STREAMING = auto()
    STOPPED = auto()


_NEXT: Final = {
    (_State.WAITING, "connected"): _State.WAITING,
    (_State.WAITING, "start"): _State.STREAMING,
    (_State.STREAMING, "media"): _State.STREAMING,
    (_State.STREAMING, "dtmf"): _State.STREAMING,
    (_State.STREAMING, "mark"): _State.STREAMING,
    (_State.STREAMING, "stop"): _State.STOPPED,
    (_State.STOPPED, "mark"): _State.STOPPED,
}
_EVENTS: Final = {event for _, event in _NEXT}


class TwilioPeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = TWILIO
    audio_is_text: Final = True
    answers_marks: Final = True
    wants_silence: Final = False

    def __init__(self) -> None:
        self._state = _State.WAITING
        self._numbered = 0
        self._last = ""
        self._head = self._tail = b""
        self._stream = ""

    @property
    def lost(self) -> int:
        """Twilio throws audio away when it is read too slowly (its warning 31930)."""
        found = _SEQUENCE.search(self._last)
        return max(0, int(found[1]) - self._numbered) if found else 0

    def receive(self, message: Message) -> Happening:
        if isinstance(message, bytes):
            return Fault("binary message")
        if self._state is _State.STREAMING and message.startswith(_MEDIA):
            at = message.find(_PAYLOAD) + len(_PAYLOAD)
            try:
                audio = binascii.a2b_base64(message[at : message.find('"', at)], strict_mode=True)
            except ValueError:
                pass  # Written in some other way, or wrong: the slow way tells.
            else:
                if audio:
                    self._numbered += 1
                    self._last = message
                    return audio
        try:
            return self._receive(message)
        except Malformed as fault:
            return Fault(str(fault))

    def _receive(self, message: str) -> Happening:
        fields = json_object(message)
        event = text(fields, "event")
        if "sequenceNumber" in fields:
            self._numbered += 1
            self._last = message
        if event not in _EVENTS:
            return Ignored(event[:40])
        state = _NEXT.get((self._state, event))
        if state is None:
            raise Malformed(f"`{event}` while {self._state.name.lower()}")
        self._state = state
        return self._happening(event, fields)

    def _happening(self, event: str, fields: Any) -> Happening:
        match event:
            case "media":
                media = table(fields, "media")
                if media.get("track", "inbound") != "inbound":
                    return Ignored("media of another track")
                return audio_of(media.get("payload"), PCMU_8K)
            case "start":
                return self._started(table(fields, "start"))
            case "dtmf":
                digit = text(table(fields, "dtmf"), "digit")
                return Key(digit) if digit in DIGITS else Ignored("dtmf of no key")
            case "mark":
                return MarkPlayed(text(table(fields, "mark"), "name"))
            case "stop":
                return Stopped()
            case _:
                return Ignored(event)

    def _started(self, start: Any) -> Happening:
        form = table(start, "mediaFormat")
        if (form.get("encoding"), form.get("sampleRate")) != ("audio/x-mulaw", 8000):
            raise Malformed("media format is not audio/x-mulaw at 8000 Hz")
        self._stream = text(start, "streamSid")
        name = json.dumps(self._stream).encode()
        self._head = b'{"event":"media","streamSid":' + name + b',"media":{"payload":"'
        self._tail = b'"}}'
        return Started(
            stream_id=self._stream,
            call_id=text(start, "callSid"),
            account=text(start, "accountSid"),
            format=PCMU_8K,
            parameters=texts(start.get("customParameters")),
        )

    def audio(self, frame: bytes | memoryview) -> bytes:
        return self._head + binascii.b2a_base64(frame, newline=False) + self._tail

    def greeting(self) -> Message | None:
        return None

    def mark(self, name: str) -> Message | None:
        return self._message("mark", mark={"name": name})

    def clear(self) -> Message | None:
        return self._message("clear")

    def key(self, digit: str) -> Message | None:
        """None: Twilio's streams cannot carry keys."""
        return None

    def goodbye(self, reason: str) -> Message | None:
        """None: Twilio takes nothing but media, mark and clear (its warning 31951)."""
        return None

    def _message(self, event: str, **fields: Any) -> str:
        return json.dumps({"event": event, "streamSid": self._stream, **fields}, separators=(",", ":"))
