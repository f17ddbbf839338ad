"""What carriers say on their streams, and how they are told. Pure; a second reading of each protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Message = str | bytes


@dataclass(frozen=True, slots=True)
class Audio:
    """Speech for the caller."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """To be returned when all before it was played."""

    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Throw away what is buffered."""


@dataclass(frozen=True, slots=True)
class Told:
    """Anything else."""

    what: str


@dataclass(frozen=True, slots=True)
class Pressed:
    """Keys towards the caller."""

    digits: str


Order = Audio | Mark | Clear | Told | Pressed


class Dialect(Protocol):
    """One stream. `receive`: ValueError with a reason where the bridge breaks the protocol."""

    def opening(self) -> list[Message]: ...

    def media(self, payload: bytes) -> Message:
        """20 ms of the caller."""

    def digit(self, digit: str) -> Message: ...

    def mark(self, name: str) -> Message:
        """A mark comes back."""

    def cleared(self, marks: list[str]) -> list[Message]:
        """What is said to a clear that threw away these marks."""

    def stop(self) -> Message | None:
        """None: this carrier just closes."""

    def receive(self, message: Message) -> Order: ...


class TwilioDialect:
    """Twilio Media Streams, bidirectional."""

    def __init__(self, stream: str, call: str, account: str, parameters: Mapping[str, str]) -> None:
        self._stream, self._call, self._account, self._parameters = stream, call, account, parameters
        self._sequence = self._chunk = 0

    def opening(self) -> list[Message]:
        connected = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "streamSid": self._stream,
            "accountSid": self._account,
            "callSid": self._call,
            "tracks": ["inbound"],
            "customParameters": dict(self._parameters),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        return [connected, self._numbered("start", start=start)]

    def media(self, payload: bytes) -> Message:
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(self._chunk * 20),
            "payload": base64.b64encode(payload).decode(),
        }
        return self._numbered("media", media=media)

    def digit(self, digit: str) -> Message:
        return self._numbered("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> Message:
        return self._numbered("mark", mark={"name": name})

    def cleared(self, marks: list[str]) -> list[Message]:
        return [self.mark(name) for name in marks]

    def stop(self) -> Message:
        return self._numbered("stop", stop={"accountSid": self._account, "callSid": self._call})

    def receive(self, message: Message) -> Order:
        """Twilio is exact: an unknown event, a field too many or too few, a wrong streamSid is its 31951."""
        if isinstance(message, bytes):
            raise ValueError("31950: binary message")
        fields = json.loads(message)
        event = fields.get("event")
        wanted = {"event", "streamSid"} | ({event} if event in ("media", "mark") else set())
        if event not in ("media", "mark", "clear") or set(fields) != wanted:
            raise ValueError(f"31951: invalid message ({', '.join(sorted(map(str, fields)))})")
        if fields["streamSid"] != self._stream:
            raise ValueError("31951: another streamSid")
        if event == "media":
            return Audio(base64.b64decode(_only(fields["media"], "payload"), validate=True))
        return Mark(_only(fields["mark"], "name")) if event == "mark" else Clear()

    def _numbered(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        message = {"event": event, "sequenceNumber": str(self._sequence), **fields, "streamSid": self._stream}
        return json.dumps(message, separators=(",", ":"))


class GenericDialect:
    """The generic protocol of docs/media-streams.md, μ-law in binary messages."""

    def __init__(self, call: str, parameters: Mapping[str, str]) -> None:
        self._call, self._parameters = call, parameters

    def opening(self) -> list[Message]:
        form = {"encoding": "pcmu", "rate_hz": 8000}
        start = {"call_id": self._call, "format": form, "audio": "binary", "marks": True}
        known = {key: value for key, value in self._parameters.items() if key in ("from", "to")}
        return [_typed("start", **start, **known, parameters=dict(self._parameters))]

    def media(self, payload: bytes) -> Message:
        return payload

    def digit(self, digit: str) -> Message:
        return _typed("dtmf", digit=digit)

    def mark(self, name: str) -> Message:
        return _typed("mark", mark=name)

    def cleared(self, marks: list[str]) -> list[Message]:
        return [self.mark(name) for name in marks]

    def stop(self) -> Message:
        return _typed("stop")

    def receive(self, message: Message) -> Order:
        if isinstance(message, bytes):
            return Audio(message)
        fields = json.loads(message)
        match fields.get("type"):
            case "audio":
                return Audio(base64.b64decode(_only(fields, "audio", "type"), validate=True))
            case "mark":
                return Mark(_only(fields, "mark", "type"))
            case "clear":
                return Clear()
            case "started" | "stop":
                return Told(f"{fields['type']} {fields.get('reason', '')}".strip())
            case other:
                raise ValueError(f"unknown message {other!r}")


def _only(fields: Mapping[str, Any], key: str, *besides: str) -> str:
    """The one text in there; ValueError if there is anything else."""
    if set(fields) - set(besides) != {key} or not isinstance(fields[key], str):
        raise ValueError(f"31951: {sorted(fields)} instead of {key!r}")
    text: str = fields[key]
    return text


def _typed(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))
