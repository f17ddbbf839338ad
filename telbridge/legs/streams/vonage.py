"""Vonage Voice WebSockets (NCCO `connect` to an endpoint of type `websocket`); messages as in Vonage's guide
«WebSockets».

Audio goes as binary messages of 20 ms, linear, 16 bit, little endian; what is longer or shorter is garbled.
Everything else is JSON. The first message tells the format and what our NCCO put into `headers`, there being
no id of the call otherwise. `notify` is our mark: it comes back once what stands before it has been played;
one that a `clear` overtakes never does (so third-party bridges; unconfirmed). There is no message for the
end: the socket closes.
"""

from __future__ import annotations

from typing import Any, Final

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, AudioFormat
from telbridge.legs.streams.json_peer import packed
from telbridge.legs.streams.payload import Malformed, json_object, table, text, whole_samples
from telbridge.legs.streams.peer import (
    DIGITS,
    Cleared,
    Fault,
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
)

VONAGE: Final = PeerTraits(
    name="vonage",
    title="Vonage",
    formats=(PCM_8K, PCM_16K, PCM_24K),
    messages="binary; JSON for the rest",
    authentication="signed JWT on the webhook, one-time token in the stream's URL",
    marks=True,
    answers_idle_mark=False,
    clears=True,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="closes the stream; the NCCO has nothing more to do, and the call ends",
    answers_clear=True,
    transfers="a number, SIP, another webhook, by NCCO (unconfirmed); comes back when nobody answers",
)
FRAME_MS: Final = 20
CONTENT_TYPES: Final = {form: f"audio/l16;rate={form.rate_hz}" for form in VONAGE.formats}
_FORMATS: Final = {name: form for form, name in CONTENT_TYPES.items()}
_MAX_KEY_MS: Final = 60_000


class VonagePeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = VONAGE
    lost: Final = 0
    audio_is_text: Final = False
    answers_marks: Final = True
    wants_silence: Final = False

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._frame_octets = 0

    def receive(self, message: Message) -> Happening:
        try:
            if isinstance(message, bytes):
                if self._format is None:
                    raise Malformed("audio before `websocket:connected`")
                return whole_samples(message, self._format)
            return self._receive(json_object(message))
        except Malformed as fault:
            return Fault(str(fault))

    def _receive(self, fields: Any) -> Happening:
        event = text(fields, "event")
        if event == "websocket:connected":
            return self._started(fields)
        if self._format is None:
            raise Malformed("not connected yet")
        match event:
            case "websocket:dtmf":
                return _key(fields)
            case "websocket:notify":
                return MarkPlayed(text(table(fields, "payload"), "id"))
            case "websocket:cleared":
                return Cleared()
            case _:
                return Ignored(event[:40])

    def _started(self, fields: Any) -> Started:
        if self._format is not None:
            raise Malformed("connected twice")
        form = _FORMATS.get(text(fields, "content-type").replace(" ", "").lower())
        if form is None:
            raise Malformed("the content type is none that we know")
        self._format, self._frame_octets = form, form.bytes_for_ms(FRAME_MS)
        call = text(fields, "uuid")
        return Started(call, call, "", form)

    def audio(self, frame: bytes | memoryview) -> bytes:
        return bytes(frame).ljust(self._frame_octets, b"\0")

    def greeting(self) -> Message | None:
        return None

    def mark(self, name: str) -> Message | None:
        return packed(action="notify", payload={"id": name})

    def clear(self) -> Message | None:
        return packed(action="clear")

    def key(self, digit: str) -> Message | None:
        """None: Vonage takes keys by REST only."""
        return None

    def goodbye(self, reason: str) -> Message | None:
        """None: there is no message for it, closing says all."""
        return None


def _key(fields: Any) -> Happening:
    """As documented, or in an object of its own, as some have seen it."""
    inner = fields.get("dtmf")
    told = inner if isinstance(inner, dict) else fields
    digit, duration_ms = text(told, "digit").upper(), told.get("duration", 0)
    if digit not in DIGITS:
        return Ignored("dtmf of no key")
    known = isinstance(duration_ms, int) and duration_ms > 0
    return Key(digit, min(duration_ms, _MAX_KEY_MS) if known else 0)
