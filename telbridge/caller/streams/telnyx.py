"""Telnyx, as it turns to a bridge: TeXML webhooks signed with Ed25519, streams in RTP mode."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.caller.streams.carriers import Coder, Request, exactly, form_request, object_of, xml_stream
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Mark, Message, Order
from telbridge.caller.streams.line import Kind
from telbridge.caller.streams.twiml import TWILIO, read_verbs
from telbridge.caller.streams.webhook import Refusal, new_sid

_CODECS: Final = {
    ("PCMU", "8000"): PCMU_8K,
    ("PCMA", "8000"): PCMA_8K,
    ("L16", "8000"): PCM_8K,
    ("L16", "16000"): PCM_16K,
    ("L16", "24000"): PCM_24K,
}
_NAMES: Final = {form: name for (name, _), form in _CODECS.items()}
_STREAM: Final = frozenset({"codec", "bidirectionalMode", "bidirectionalCodec", "bidirectionalSamplingRate"})
_ATTRIBUTES: Final = {**TWILIO, "Stream": TWILIO["Stream"] | _STREAM}
_LONGEST_MS: Final = 30_000
"""Of one media message; the shortest is 20 ms."""


class TelnyxSide:
    """Implements `telbridge.caller.streams.carriers.Following`."""

    kind: Final = Kind(
        partial(read_verbs, attributes=_ATTRIBUTES, most_s=120), new_id=partial(new_sid, "v3:")
    )

    def __init__(
        self,
        private_key: str,
        *,
        leg: AudioFormat | None = None,
        big_endian: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`private_key`: an Ed25519 seed in base64; "" signs nothing. `leg`: codec of the telephone's side,
        where it is not what was asked for."""
        self._key, self._leg, self._big_endian, self._clock = private_key, leg, big_endian, clock

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        return self.signed(url, self.facts(call, caller, called))

    def facts(self, call: str, caller: str, called: str) -> dict[str, str]:
        facts = {"Direction": "inbound", "From": caller, "To": called, "CallStatus": "ringing"}
        return {"AccountSid": "61bf923e", "CallSid": call, **facts}

    def status(self, url: str, call: str, status: str) -> Request:
        form = {"AccountSid": "61bf923e", "CallSid": call, "CallStatus": status}
        return self.signed(url, {**form, "CallbackSource": "call-progress-events", "Timestamp": "now"})

    def signed(self, url: str, form: Mapping[str, str]) -> Request:
        request, stamp = form_request(url, form, {}), str(int(self._clock()))
        if not self._key:
            return request
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(self._key, validate=True))
        except ValueError:
            raise ValueError("TELNYX_PRIVATE_KEY is no Ed25519 seed: 32 octets in base64") from None
        signature = base64.b64encode(key.sign(stamp.encode() + b"|" + request.body)).decode()
        headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": stamp}
        return Request(url, {**request.headers, **headers}, request.body)

    def connected(self, answer: str, call: str, caller: str, called: str) -> tuple[str, Dialect]:
        stream = xml_stream(answer, "./Connect/Stream")
        if stream.get("bidirectionalMode") != "rtp":
            raise Refusal("without bidirectionalMode rtp the bridge would not be heard")
        asked = stream.get("bidirectionalCodec", ""), stream.get("bidirectionalSamplingRate", "8000")
        if asked not in _CODECS or stream.get("codec") != asked[0]:
            raise Refusal(f"no such codec: {' '.join(asked)}")
        if stream.get("track", "inbound_track") != "inbound_track":
            raise Refusal("the bridge would hear itself")
        down, big_endian = _CODECS[asked], self._big_endian
        coders = Coder(self._leg or down, big_endian=big_endian), Coder(down, big_endian=big_endian)
        return stream.get("url", ""), TelnyxDialect(call, caller, called, *coders)


class TelnyxDialect:
    """Telnyx media streaming over WebSockets."""

    def __init__(self, call: str, caller: str, called: str, up: Coder, down: Coder) -> None:
        self._call, self._caller, self._called, self._up, self._down = call, caller, called, up, down
        self._stream = new_sid("")
        self._sequence = self._chunk = 0

    def opening(self) -> list[Message]:
        form = {"encoding": _NAMES[self._up.wire], "sample_rate": self._up.wire.rate_hz, "channels": 1}
        start = {
            "user_id": "user",
            "call_control_id": self._call,
            "call_session_id": "session",
            "from": self._caller,
            "to": self._called,
            "tags": [],
            "media_format": form,
        }
        return [json.dumps({"event": "connected", "version": "1.0.0"}), self._numbered("start", start=start)]

    def media(self, payload: bytes) -> Message:
        self._chunk += 1
        audio = base64.b64encode(self._up.sent(payload)).decode()
        told = {"chunk": str(self._chunk), "timestamp": str(self._chunk * 20)}
        return self._numbered("media", media={"track": "inbound", **told, "payload": audio})

    def digit(self, digit: str) -> Message:
        return self._numbered("dtmf", occurred_at="2026-01-01T00:00:00Z", dtmf={"digit": digit})

    def mark(self, name: str) -> Message:
        return self._numbered("mark", mark={"name": name})

    def cleared(self, marks: list[str]) -> list[Message]:
        return [self.mark(name) for name in marks]

    def stop(self) -> Message:
        return self._numbered("stop", stop={"user_id": "user", "call_control_id": self._call})

    def receive(self, message: Message) -> Order:
        fields = object_of(message)
        match fields.get("event"):
            case "media":
                exactly(fields, "event", "media")
                exactly(fields["media"], "payload")
                audio = base64.b64decode(fields["media"]["payload"], validate=True)
                if not 20 <= self._down.wire.ms_in(len(audio)) <= _LONGEST_MS:
                    raise ValueError(f"100004 invalid_media: {len(audio)} octets")
                return Audio(self._down.heard(audio))
            case "mark":
                exactly(fields, "event", "mark")
                return Mark(str(fields["mark"]["name"]))
            case "clear":
                exactly(fields, "event")
                return Clear()
            case other:
                raise ValueError(f"100003 malformed_frame: {other!r}")

    def _numbered(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        head = {"event": event, "sequence_number": str(self._sequence), "stream_id": self._stream}
        return json.dumps({**head, **fields}, separators=(",", ":"))
