"""Asterisk's end of a chan_websocket: a second reading of chan_websocket.c."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder
from telbridge.caller.streams.dialects import Audio, Clear, Mark, Message, Order, Told

FORMATS: Final = {"ulaw": PCMU_8K, "alaw": PCMA_8K, "slin": AudioFormat(Encoding.PCM16, 8_000)} | {
    f"slin{rate_hz // 1000}": AudioFormat(Encoding.PCM16, rate_hz)
    for rate_hz in (12_000, 16_000, 24_000, 32_000, 44_100, 48_000)
}
CONTROLS: Final = ("json", "plain-text")
MOST_TEXT, MOST_BINARY = 128, 65_500


def chan_websocket(url: str, variables: Mapping[str, str]) -> tuple[str, ChanWebSocketDialect]:
    """`asterisk-ws://HOST:PORT/asterisk/media?format=slin16&control=plain-text`: what to connect to, and what
    to speak there. ValueError for what is none."""
    parts = urlsplit(url.removeprefix("asterisk-"))
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    codec, control = query.pop("format", "ulaw"), query.pop("control", "json")
    if codec not in FORMATS or control not in CONTROLS or query:
        known = f"format: {', '.join(FORMATS)}; control: {', '.join(CONTROLS)}"
        raise ValueError(f"{url!r}: expected asterisk-ws://HOST:PORT/asterisk/media ({known})")
    address = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return address, ChanWebSocketDialect(codec, variables, is_json=control == "json")


class ChanWebSocketDialect:
    """Implements `telbridge.caller.streams.dialects.Dialect`."""

    def __init__(self, codec: str, variables: Mapping[str, str], *, is_json: bool) -> None:
        self._codec, self._form, self._json = codec, FORMATS[codec], is_json
        self._variables = variables
        self._channel = f"{secrets.randbelow(10**9)}.1"
        self._to_wire, self._from_wire = Transcoder(PCMU_8K, self._form), Transcoder(self._form, PCMU_8K)
        self._frame = self._form.bytes_for_ms(20)

    def opening(self) -> list[Message]:
        start = {
            "connection_id": "telbridge",
            "channel": "WebSocket/telbridge/0x7f0e3c00",
            "channel_id": self._channel,
            "format": self._codec,
            "optimal_frame_size": self._frame,
            "ptime": 20,
        }
        if self._json:
            return [json.dumps({"event": "MEDIA_START", **start, "channel_variables": dict(self._variables)})]
        return [" ".join(("MEDIA_START", *(f"{name}:{value}" for name, value in start.items())))]

    def media(self, payload: bytes) -> Message:
        return self._to_wire.convert(payload)

    def digit(self, digit: str) -> Message:
        return self._event("DTMF_END", f"digit:{digit} channel_id:{self._channel}", digit=digit)

    def mark(self, name: str) -> Message:
        return self._event("MEDIA_MARK_PROCESSED", name, correlation_id=name)

    def cleared(self, marks: list[str]) -> list[Message]:
        """They vanish unanswered."""
        return []

    def stop(self) -> Message | None:
        """Asterisk only closes."""
        return None

    def receive(self, message: Message) -> Order:
        if isinstance(message, bytes):
            return self._audio(message)
        if len(message.encode()) > MOST_TEXT:
            raise ValueError(f"text of more than {MOST_TEXT} octets is ignored")
        command, correlation_id = self._command(message)
        match command:
            case "MARK_MEDIA":
                return Mark(correlation_id)
            case "FLUSH_MEDIA":
                return Clear()
            case "ANSWER" | "HANGUP" | "CONTINUE_MEDIA" | "REPORT_QUEUE_DRAINED" | "GET_STATUS":
                return Told(command)
            case _:
                raise ValueError(f"{command} command unknown")

    def _audio(self, message: bytes) -> Order:
        if len(message) > MOST_BINARY:
            raise ValueError("message too big: Asterisk hangs up")
        tail = len(message) % self._frame
        if tail:
            raise ValueError(f"{tail} octets more than whole frames are dropped")
        return Audio(self._from_wire.convert(message))

    def _command(self, message: str) -> tuple[str, str]:
        if not self._json:
            command, _, rest = message.strip().partition(" ")
            return command, rest
        fields: dict[str, Any] = json.loads(message)
        return str(fields["command"]), str(fields.get("correlation_id", ""))

    def _event(self, name: str, plain: str, **fields: str) -> str:
        if self._json:
            return json.dumps({"event": name, "channel_id": self._channel, **fields}, separators=(",", ":"))
        return f"{name} {plain}"
