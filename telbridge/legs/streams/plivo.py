"""Plivo Audio Streaming, bidirectional; messages as on Plivo's pages «Audio streaming» and on its events.

Sequence numbers are JSON numbers and run over all messages. There is no message for the end of a stream: the
socket closes. A checkpoint that a `clearAudio` overtakes is never answered.

Unconfirmed, for lack of a live call: that L16 is little endian; whether a checkpoint before which nothing
waits is answered at once.
"""

from __future__ import annotations

import binascii
from typing import Any, ClassVar, Final

from telbridge.audio.formats import PCM_8K, PCM_16K, PCMU_8K, AudioFormat, Encoding
from telbridge.legs.streams.json_peer import STOPPED, STREAMING, WAITING, Events, JsonPeer, key_of, packed
from telbridge.legs.streams.payload import Malformed, table, text
from telbridge.legs.streams.peer import (
    Cleared,
    Happening,
    Ignored,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
    Stopped,
)

PLIVO: Final = PeerTraits(
    name="plivo",
    title="Plivo",
    formats=(PCMU_8K, PCM_8K, PCM_16K),
    messages="JSON, base64",
    authentication="X-Plivo-Signature-V3 and its nonce on the webhook, one-time token in the stream's URL",
    marks=True,
    answers_idle_mark=False,
    clears=True,
    dtmf_in=True,
    dtmf_out="on the stream",
    hangs_up="closes the stream; Plivo's XML goes on and ends the call",
    transfers="a number, SIP, another webhook, by Plivo's XML (unconfirmed); comes back when nobody answers",
    answers_clear=True,
)
ENCODINGS: Final = {Encoding.PCMU: "audio/x-mulaw", Encoding.PCM16: "audio/x-l16"}


class PlivoPeer(JsonPeer):
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = PLIVO
    NUMBER = "sequenceNumber"
    EVENTS: ClassVar[Events] = {
        (WAITING, "start"): STREAMING,
        (STREAMING, "media"): STREAMING,
        (STREAMING, "dtmf"): STREAMING,
        (STREAMING, "playedStream"): STREAMING,
        (STREAMING, "clearedAudio"): STREAMING,
        (STREAMING, "stop"): STOPPED,
        (STOPPED, "playedStream"): STOPPED,
        (STOPPED, "clearedAudio"): STOPPED,
    }

    def __init__(self, format: AudioFormat = PCMU_8K) -> None:
        super().__init__(format)
        self._stream = ""
        self._head = (
            f'{{"event":"playAudio","media":{{"contentType":"{ENCODINGS[format.encoding]}",'
            f'"sampleRate":{format.rate_hz},"payload":"'
        ).encode()

    def happening(self, event: str, fields: Any) -> Happening:
        match event:
            case "start":
                return self._started(table(fields, "start"))
            case "dtmf":
                return key_of(table(fields, "dtmf"))
            case "playedStream":
                return MarkPlayed(text(fields, "name"))
            case "clearedAudio":
                return Cleared()
            case "stop":
                return Stopped()
            case _:
                return Ignored(event)

    def _started(self, start: Any) -> Happening:
        told = table(start, "mediaFormat")
        wanted = ENCODINGS[self._format.encoding], self._format.rate_hz
        if (told.get("encoding"), told.get("sampleRate")) != wanted:
            raise Malformed(f"media format is not {wanted[0]} at {wanted[1]} Hz")
        self._stream = text(start, "streamId")
        return Started(self._stream, text(start, "callId"), text(start, "accountId", ""), self._format)

    def audio(self, frame: bytes | memoryview) -> bytes:
        return self._head + binascii.b2a_base64(frame, newline=False) + b'"}}'

    def mark(self, name: str) -> Message | None:
        return packed(event="checkpoint", streamId=self._stream, name=name)

    def clear(self) -> Message | None:
        return packed(event="clearAudio", streamId=self._stream)

    def key(self, digit: str) -> Message | None:
        return packed(event="sendDTMF", dtmf=digit)
