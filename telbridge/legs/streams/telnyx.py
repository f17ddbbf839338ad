"""Telnyx media streaming, bidirectional in RTP mode; messages as on Telnyx's page «Media Streaming over
WebSockets» and in its AsyncAPI description.

Audio is the payload of RTP packets without their header, in base64. What we send is in the codec that TeXML
asked for; what comes is in the codec of the call's telephone leg where Telnyx cannot convert it (it converts
between the two laws only): `start` tells which, and it is converted here.

Unconfirmed, for lack of a live call: the byte order of L16. RTP's own is big endian (RFC 3551 §4.5.11), and
so is the default; some programs in the field send little endian.
"""

from __future__ import annotations

import binascii
from typing import Any, ClassVar, Final

import numpy as np

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder
from telbridge.legs.streams.json_peer import STOPPED, STREAMING, WAITING, Events, JsonPeer, key_of, packed
from telbridge.legs.streams.payload import Malformed, table, text, texts
from telbridge.legs.streams.peer import (
    Complained,
    Happening,
    Ignored,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
    Stopped,
)

TELNYX: Final = PeerTraits(
    name="telnyx",
    title="Telnyx",
    formats=(PCMU_8K, PCMA_8K, PCM_8K, PCM_16K, PCM_24K),
    messages="JSON, base64",
    authentication="telnyx-signature-ed25519 and its time on the webhook, one-time token in the stream's URL",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="closes the stream; TeXML goes on and ends the call",
    transfers="a number, SIP, another webhook, by TeXML (unconfirmed); comes back when nobody answers",
)
ENCODINGS: Final = {Encoding.PCMU: "PCMU", Encoding.PCMA: "PCMA", Encoding.PCM16: "L16"}
"""Telnyx's names, which are case-sensitive."""
_FORMATS: Final = {(ENCODINGS[form.encoding], form.rate_hz): form for form in TELNYX.formats}


class TelnyxPeer(JsonPeer):
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = TELNYX
    NUMBER = "sequence_number"
    EVENTS: ClassVar[Events] = {
        (WAITING, "connected"): WAITING,
        (WAITING, "start"): STREAMING,
        (WAITING, "error"): WAITING,
        (STREAMING, "media"): STREAMING,
        (STREAMING, "dtmf"): STREAMING,
        (STREAMING, "mark"): STREAMING,
        (STREAMING, "error"): STREAMING,
        (STREAMING, "stop"): STOPPED,
        (STOPPED, "mark"): STOPPED,
        (STOPPED, "error"): STOPPED,
    }

    def __init__(self, format: AudioFormat = PCMU_8K, *, big_endian: bool = True) -> None:
        """`big_endian`: the order of the octets of L16, both ways."""
        super().__init__(format)
        self._big_endian = big_endian
        self._swaps = big_endian and format.encoding is Encoding.PCM16

    def happening(self, event: str, fields: Any) -> Happening:
        match event:
            case "start":
                return self._started(fields)
            case "dtmf":
                return key_of(table(fields, "dtmf"))
            case "mark":
                return MarkPlayed(text(table(fields, "mark"), "name"))
            case "stop":
                return Stopped()
            case "error":
                payload = table(fields, "payload")
                return Complained(f"{payload.get('code')} {text(payload, 'title', '')}"[:80])
            case _:
                return Ignored(event)

    def _started(self, fields: Any) -> Happening:
        start = table(fields, "start")
        self._comes_in(table(start, "media_format"))
        parameters = texts(start.get("custom_parameters"))
        parameters |= {key: text(start, key) for key in ("from", "to") if isinstance(start.get(key), str)}
        return Started(
            stream_id=text(fields, "stream_id"),
            call_id=text(start, "call_control_id"),
            account="",
            format=self._format,
            parameters=parameters,
        )

    def _comes_in(self, told: Any) -> None:
        """In another format than we asked for, perhaps. Malformed for one that we do not know."""
        encoding, rate_hz = text(told, "encoding").upper(), told.get("sample_rate")
        form = _FORMATS.get((encoding, rate_hz)) if isinstance(rate_hz, int) else None
        if form is None:
            raise Malformed("the media format is none that we know")
        self._inbound = form
        transcoder = None if form == self._format else Transcoder(form, self._format)
        if self._big_endian and form.encoding is Encoding.PCM16:
            convert = transcoder.convert if transcoder is not None else bytes
            self._decode = lambda audio: convert(_swapped(audio))
        elif transcoder is not None:
            self._decode = transcoder.convert

    def audio(self, frame: bytes | memoryview) -> bytes:
        payload = binascii.b2a_base64(_swapped(frame) if self._swaps else frame, newline=False)
        return b'{"event":"media","media":{"payload":"' + payload + b'"}}'

    def mark(self, name: str) -> Message | None:
        return packed(event="mark", mark={"name": name})

    def clear(self) -> Message | None:
        return packed(event="clear")

    def key(self, digit: str) -> Message | None:
        """None: Telnyx takes keys by REST only."""
        return None


def _swapped(pcm: bytes | memoryview) -> bytes:
    """16-bit samples in the other order of octets."""
    return np.frombuffer(pcm, "<i2").byteswap().tobytes()
