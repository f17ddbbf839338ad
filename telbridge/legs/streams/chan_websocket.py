"""Asterisk's chan_websocket, sub-protocol `media` (chan_websocket.c; docs.asterisk.org, «WebSocket Channel
Driver»): Asterisk connects to us, from 20.16, 22.6 and 23.0 on.

Audio is the bare samples of one codec in binary messages. Asterisk queues what we send and plays it in real
time, whole frames of 20 ms only, as ours are: its bulk mode (START_MEDIA_BUFFERING) is not needed. Control
messages are text, either words (`DTMF_END digit:5 channel_id:17`) or JSON (`f(json)` in the dial string, from
20.18, 22.8 and 23.2 on); only the latter tells the channel's variables. We answer in the form that it began
with; what is longer than 128 octets would be ignored.

Marks that stand in the queue when it is flushed vanish unanswered, and versions before 20.18 and 22.8 know
none at all: our own clock serves them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from telbridge.audio.formats import (
    PCM_8K,
    PCM_16K,
    PCM_24K,
    PCM_48K,
    PCMA_8K,
    PCMU_8K,
    AudioFormat,
    Encoding,
)
from telbridge.legs.streams.payload import Malformed, json_object, text, texts, whole_samples
from telbridge.legs.streams.peer import (
    DIGITS,
    Complained,
    Fault,
    Flow,
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
)

SUB_PROTOCOL: Final = "media"
FORMATS: Final = {
    "ulaw": PCMU_8K,
    "alaw": PCMA_8K,
    "slin": PCM_8K,
    "slin12": AudioFormat(Encoding.PCM16, 12_000),
    "slin16": PCM_16K,
    "slin24": PCM_24K,
    "slin32": AudioFormat(Encoding.PCM16, 32_000),
    "slin44": AudioFormat(Encoding.PCM16, 44_100),
    "slin48": PCM_48K,
}
"""By Asterisk's names; others cannot be cut into frames, or are no telephony."""
FRAME_MS: Final = 20

CHAN_WEBSOCKET: Final = PeerTraits(
    name="chan_websocket",
    title="Asterisk chan_websocket",
    formats=tuple(FORMATS.values()),
    messages="binary",
    authentication="token: as password (Basic), bearer token or last part of the path; or none from loopback",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="sends `HANGUP`, then closes; after `Dial(…,g)` Asterisk's dialplan goes on",
    sends_always=False,
)


class ChanWebSocketPeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = CHAN_WEBSOCKET
    audio_is_text: Final = False
    answers_marks: Final = True
    wants_silence: Final = True
    """It would send nothing to the caller meanwhile (from 20.19 and 22.9 on), and some telephones hang up."""
    lost: Final = 0

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._json = False

    def receive(self, message: Message) -> Happening:
        try:
            if isinstance(message, bytes):
                if self._format is None:
                    raise Malformed("audio before MEDIA_START")
                return whole_samples(message, self._format) or Ignored("audio of no length")
            event, fields = _event(message)
            if event == "MEDIA_START":
                return self._start(fields, is_json=message.startswith("{"))
            if self._format is None:
                raise Malformed(f"{event[:40]} before MEDIA_START")
            return _happening(event, fields)
        except Malformed as fault:
            return Fault(str(fault))

    def _start(self, fields: Mapping[str, Any], *, is_json: bool) -> Started:
        if self._format is not None:
            raise Malformed("MEDIA_START twice")
        codec, channel = text(fields, "format"), text(fields, "channel_id")
        form = FORMATS.get(codec)
        if form is None:
            raise Malformed(f"no codec {codec[:20]}: write c(ulaw) or c(slin16) into Dial()")
        if _number(fields, "optimal_frame_size") != form.bytes_for_ms(FRAME_MS):
            raise Malformed("no frames of 20 ms: leave p out of Dial()")
        self._format, self._json = form, is_json
        # `__NAME` is how a variable is stored that is inherited again and again.
        variables = texts(fields.get("channel_variables"))
        return Started(
            stream_id=channel,
            call_id=channel,
            account="",
            format=form,
            parameters={name.lstrip("_"): value for name, value in variables.items()},
        )

    def audio(self, frame: bytes | memoryview) -> bytes:
        return bytes(frame)

    def greeting(self) -> Message | None:
        return None

    def answer(self) -> Message:
        """For a channel that was dialled with `n`; where it is answered already, this changes nothing."""
        return self._command("ANSWER")

    def mark(self, name: str) -> Message | None:
        return self._command("MARK_MEDIA", name)

    def clear(self) -> Message | None:
        return self._command("FLUSH_MEDIA")

    def key(self, digit: str) -> Message | None:
        return None

    def goodbye(self, reason: str) -> Message | None:
        return self._command("HANGUP")

    def _command(self, command: str, correlation_id: str = "") -> str:
        if not self._json:
            return f"{command} {correlation_id}".rstrip()
        fields = {"command": command}
        if correlation_id:
            fields["correlation_id"] = correlation_id
        return json.dumps(fields, separators=(",", ":"))


def _event(message: str) -> tuple[str, Mapping[str, Any]]:
    """Name and fields, from either form. Malformed for JSON that is none."""
    if message.startswith("{"):
        fields = json_object(message)
        return text(fields, "event"), fields
    event, _, rest = message.partition(" ")
    pairs = [word.partition(":") for word in rest.split(" ")]
    return event, {"correlation_id": rest, **{name: value for name, colon, value in pairs if colon}}


def _happening(event: str, fields: Mapping[str, Any]) -> Happening:
    match event:
        case "DTMF_END":
            digit = text(fields, "digit")
            return Key(digit) if digit in DIGITS else Ignored("DTMF_END of no key")
        case "MEDIA_MARK_PROCESSED":
            return MarkPlayed(text(fields, "correlation_id"))
        case "MEDIA_XOFF" | "MEDIA_XON":
            return Flow(event == "MEDIA_XOFF")
        case "STATUS":
            return Flow(fields.get("queue_full") in (True, "true"))
        case "ERROR":
            return Complained(text(fields, "error_text", ""))
        case _:
            return Ignored(event[:40])


def _number(fields: Mapping[str, Any], key: str) -> int:
    """-1 where there is none."""
    value = fields.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        value = int(value)
    return value if isinstance(value, int) else -1
