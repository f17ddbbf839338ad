"""SignalWire, as it turns to a bridge: cXML webhooks signed as Twilio's are, and its streams."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from telbridge.audio.formats import PCM_16K, PCM_24K, PCMU_8K
from telbridge.caller.streams.carriers import Coder, Request, exactly, form_request, object_of, xml_stream
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Mark, Message, Order, Pressed
from telbridge.caller.streams.line import Kind
from telbridge.caller.streams.twiml import TWILIO, read_verbs
from telbridge.caller.streams.webhook import Refusal, sign

_CODECS: Final = {"PCMU@8000h": PCMU_8K, "L16@16000h": PCM_16K, "L16@24000h": PCM_24K}
_KEY_MS: Final = 120
_STREAM: Final = frozenset({"codec", "realtime", "authBearerToken"})
_ATTRIBUTES: Final = {**TWILIO, "Stream": TWILIO["Stream"] | _STREAM}


class SignalWireSide:
    """Implements `telbridge.caller.streams.carriers.Following`."""

    kind: Final = Kind(partial(read_verbs, attributes=_ATTRIBUTES), new_id=lambda: str(uuid.uuid4()))

    def __init__(self, signing_key: str, project: str = "b08dacad-0000-4000-8000-000000000001") -> None:
        """`signing_key`: "" signs nothing."""
        self._key, self._project = signing_key, project

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        return self.signed(url, self.facts(call, caller, called))

    def facts(self, call: str, caller: str, called: str) -> dict[str, str]:
        facts = {"CallStatus": "ringing", "Direction": "inbound", "CallerName": ""}
        return {**self._ids(call), "From": caller, "To": called, **facts}

    def status(self, url: str, call: str, status: str) -> Request:
        return self.signed(url, {**self._ids(call), "CallStatus": status})

    def _ids(self, call: str) -> dict[str, str]:
        return {"AccountSid": self._project, "CallSid": call, "ApiVersion": "2010-04-01"}

    def signed(self, url: str, form: Mapping[str, str]) -> Request:
        headers = {"X-SignalWire-Signature": sign(self._key, url, form)} if self._key else {}
        return form_request(url, form, headers)

    def connected(self, answer: str, call: str, caller: str, called: str) -> tuple[str, Dialect]:
        stream = xml_stream(answer, "./Connect/Stream")
        url, codec = stream.get("url", ""), stream.get("codec", "PCMU@8000h")
        if urlsplit(url).query:
            raise Refusal("invalid_url: it has a query")
        if codec not in _CODECS:
            raise Refusal(f"codec_error: {codec}")
        return url, SignalWireDialect(call, self._project, Coder(_CODECS[codec]))


class SignalWireDialect:
    """SignalWire cXML streams, bidirectional."""

    def __init__(self, call: str, account: str, coder: Coder) -> None:
        self._call, self._account, self._coder = call, account, coder
        self._stream = str(uuid.uuid4())
        self._sequence = self._chunk = 0

    def opening(self) -> list[Message]:
        wire = self._coder.wire
        encoding = "audio/x-mulaw" if wire == PCMU_8K else "audio/x-L16"
        start = {
            "streamSid": self._stream,
            "accountSid": self._account,
            "callSid": self._call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": wire.rate_hz, "channels": 1},
        }
        connected = json.dumps({"event": "connected", "protocol": "Call", "version": "0.2.0"})
        return [connected, self._numbered("start", start=start, streamSid=self._stream)]

    def media(self, payload: bytes) -> Message:
        self._chunk += 1
        audio = base64.b64encode(self._coder.sent(payload)).decode()
        told = {"track": "inbound", "chunk": str(self._chunk), "timestamp": str(self._chunk * 20)}
        return self._numbered("media", media={**told, "payload": audio})

    def digit(self, digit: str) -> Message:
        told = {"track": "inbound_track", "digit": digit, "duration": _KEY_MS}
        return self._numbered("dtmf", streamSid=self._stream, dtmf=told)

    def mark(self, name: str) -> Message:
        return self._numbered("mark", streamSid=self._stream, mark={"name": name})

    def cleared(self, marks: list[str]) -> list[Message]:
        return [self.mark(name) for name in marks]

    def stop(self) -> Message:
        return self._numbered("stop")

    def receive(self, message: Message) -> Order:
        fields = object_of(message)
        event = fields.get("event")
        if event not in ("media", "mark", "clear", "dtmf"):
            raise ValueError(f"unknown event {event!r}")
        exactly(fields, "event", "streamSid", *([] if event == "clear" else [event]))
        if fields["streamSid"] != self._stream:
            raise ValueError("another streamSid")
        match event:
            case "media":
                exactly(fields["media"], "payload")
                return Audio(self._coder.heard(base64.b64decode(fields["media"]["payload"], validate=True)))
            case "mark":
                exactly(fields["mark"], "name")
                return Mark(str(fields["mark"]["name"]))
            case "dtmf":
                exactly(fields["dtmf"], "digit")
                return Pressed(str(fields["dtmf"]["digit"]))
            case _:
                return Clear()

    def _numbered(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequenceNumber": str(self._sequence), **fields}, separators=(",", ":")
        )
