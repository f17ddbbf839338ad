"""SignalWire cXML streams, bidirectional (`<Connect><Stream>`); messages as on SignalWire's page `<Stream>`.

As Twilio's but for ids, which are UUIDs, further codecs, keys towards the caller, and what may be missing:
the stream's id on `media`, `customParameters`, what is inside of `stop`.

Unconfirmed, for lack of a live call: that L16 is little endian; whether messages without a stream's id are
numbered as the others are.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, ClassVar, Final

from telbridge.audio.formats import PCM_16K, PCM_24K, PCMU_8K, AudioFormat
from telbridge.legs.streams.json_peer import STOPPED, STREAMING, WAITING, Events, JsonPeer, key_of, packed
from telbridge.legs.streams.payload import Malformed, table, text, texts
from telbridge.legs.streams.peer import (
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
    Stopped,
)

SIGNALWIRE: Final = PeerTraits(
    name="signalwire",
    title="SignalWire",
    formats=(PCMU_8K, PCM_16K, PCM_24K),
    messages="JSON, base64",
    authentication="X-SignalWire-Signature on the webhook, one-time token in the stream's URL",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="on the stream",
    hangs_up="closes the stream; cXML goes on and ends the call",
    transfers="a number, SIP, another webhook, by cXML (unconfirmed); comes back when nobody answers",
)
CODECS: Final = {PCMU_8K: "PCMU@8000h", PCM_16K: "L16@16000h", PCM_24K: "L16@24000h"}
"""SignalWire's names, of the attribute `codec`."""
_ENCODINGS: Final = {PCMU_8K: "audio/x-mulaw", PCM_16K: "audio/x-l16", PCM_24K: "audio/x-l16"}
_MAX_KEY_MS: Final = 60_000


class SignalWirePeer(JsonPeer):
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = SIGNALWIRE
    NUMBER = "sequenceNumber"
    EVENTS: ClassVar[Events] = {
        (WAITING, "connected"): WAITING,
        (WAITING, "start"): STREAMING,
        (STREAMING, "media"): STREAMING,
        (STREAMING, "dtmf"): STREAMING,
        (STREAMING, "mark"): STREAMING,
        (STREAMING, "stop"): STOPPED,
        (STOPPED, "mark"): STOPPED,
    }

    def __init__(self, format: AudioFormat = PCMU_8K) -> None:
        super().__init__(format)
        self._stream = ""
        self._head = b""

    def happening(self, event: str, fields: Any) -> Happening:
        match event:
            case "start":
                return self._started(fields)
            case "dtmf":
                dtmf = table(fields, "dtmf")
                key = key_of(dtmf)
                return Key(key.digit, _key_ms(dtmf)) if isinstance(key, Key) else key
            case "mark":
                return MarkPlayed(text(table(fields, "mark"), "name"))
            case "stop":
                return Stopped()
            case _:
                return Ignored(event)

    def _started(self, fields: Any) -> Happening:
        start = table(fields, "start")
        told = table(start, "mediaFormat")
        wanted = _ENCODINGS[self._format], self._format.rate_hz
        if (text(told, "encoding").lower(), told.get("sampleRate")) != wanted:
            raise Malformed(f"media format is not {wanted[0]} at {wanted[1]} Hz")
        self._stream = text(start, "streamSid", text(fields, "streamSid", ""))
        name = json.dumps(self._stream).encode()
        self._head = b'{"event":"media","streamSid":' + name + b',"media":{"payload":"'
        return Started(
            stream_id=self._stream,
            call_id=text(start, "callSid"),
            account=text(start, "accountSid", ""),
            format=self._format,
            parameters=texts(start.get("customParameters")),
        )

    def audio(self, frame: bytes | memoryview) -> bytes:
        return self._head + binascii.b2a_base64(frame, newline=False) + b'"}}'

    def mark(self, name: str) -> Message | None:
        return packed(event="mark", streamSid=self._stream, mark={"name": name})

    def clear(self) -> Message | None:
        return packed(event="clear", streamSid=self._stream)

    def key(self, digit: str) -> Message | None:
        return packed(event="dtmf", streamSid=self._stream, dtmf={"digit": digit})


def _key_ms(dtmf: Any) -> int:
    value = dtmf.get("duration", 0)
    return min(value, _MAX_KEY_MS) if isinstance(value, int) and value > 0 else 0
