"""The generic WebSocket protocol of our own, for whatever has no leg of its own. docs/media-streams.md is its
reference.

The peer opens with `start`, which names the format. Audio then goes as raw samples in binary messages, or as
base64 in JSON, as `start` says; both are understood at any time.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, Final

from telbridge.audio.formats import (
    PCM_8K,
    PCM_16K,
    PCM_24K,
    PCM_48K,
    PCMA_8K,
    PCMU_8K,
    AudioFormat,
)
from telbridge.legs.streams.payload import Malformed, audio_of, json_object, table, text, texts, whole_samples
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

GENERIC: Final = PeerTraits(
    name="generic",
    title="Generic WebSocket",
    formats=(PCMU_8K, PCMA_8K, PCM_8K, PCM_16K, PCM_24K, PCM_48K),
    messages="binary, or JSON with base64",
    authentication="bearer token, or none from loopback",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="sends `stop` with the reason, then closes",
)
_FORMATS: Final = {(form.encoding.value, form.rate_hz): form for form in GENERIC.formats}
_MAX_KEY_MS: Final = 60_000


class GenericPeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`."""

    traits: Final = GENERIC
    lost: Final = 0

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._stopped = False
        self.answers_marks = True
        self.audio_is_text = self.wants_silence = False

    def receive(self, message: Message) -> Happening:
        try:
            if isinstance(message, bytes):
                return whole_samples(message, self._streaming("binary message"))
            return self._receive(json_object(message))
        except Malformed as fault:
            return Fault(str(fault))

    def _streaming(self, what: str) -> AudioFormat:
        if self._format is None or self._stopped:
            raise Malformed(f"{what} {'before `start`' if self._format is None else 'after `stop`'}")
        return self._format

    def _receive(self, fields: Any) -> Happening:
        kind = text(fields, "type")
        if kind == "start":
            return self._start(fields)
        form = self._streaming(f"`{kind[:40]}`")
        match kind:
            case "audio":
                return audio_of(fields.get("audio"), form)
            case "dtmf":
                digit = text(fields, "digit")
                return Key(digit, _key_ms(fields)) if digit in DIGITS else Ignored("dtmf of no key")
            case "mark":
                return MarkPlayed(text(fields, "mark"))
            case "stop":
                self._stopped = True
                return Stopped(text(fields, "reason", ""))
            case _:
                return Ignored(kind[:40])

    def _start(self, fields: Any) -> Started:
        if self._format is not None:
            raise Malformed("`start` twice")
        wanted = table(fields, "format")
        rate_hz = wanted.get("rate_hz")
        form = _FORMATS.get((text(wanted, "encoding"), rate_hz)) if isinstance(rate_hz, int) else None
        if form is None:
            known = ", ".join(map(str, GENERIC.formats))
            raise Malformed(f"no such format; known: {known}")
        way = text(fields, "audio", "binary")
        if way not in ("binary", "json"):
            raise Malformed('`audio` is neither "binary" nor "json"')
        self._format, self.audio_is_text = form, way == "json"
        self.answers_marks = fields.get("marks", True) is True
        self.wants_silence = fields.get("silence") is True
        parameters = texts(fields.get("parameters"))
        parameters |= {key: text(fields, key) for key in ("from", "to") if key in fields}
        call_id = text(fields, "call_id", "")
        return Started(call_id, call_id, "", form, parameters)

    def audio(self, frame: bytes | memoryview) -> bytes:
        if self.audio_is_text:
            return b'{"type":"audio","audio":"' + binascii.b2a_base64(frame, newline=False) + b'"}'
        return bytes(frame)

    def greeting(self) -> Message | None:
        return _message("started")

    def mark(self, name: str) -> Message | None:
        return _message("mark", mark=name) if self.answers_marks else None

    def clear(self) -> Message | None:
        return _message("clear")

    def key(self, digit: str) -> Message | None:
        return None

    def goodbye(self, reason: str) -> Message | None:
        return _message("stop", reason=reason)


def _key_ms(fields: Any) -> int:
    value = fields.get("duration_ms", 0)
    return min(value, _MAX_KEY_MS) if isinstance(value, int) and value > 0 else 0


def _message(kind: str, **fields: str) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))
