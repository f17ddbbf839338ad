"""Plivo, as it turns to a bridge: webhooks signed by V3, audio streams."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from telbridge.audio.formats import PCM_8K, PCM_16K, PCMU_8K
from telbridge.caller.streams.carriers import Coder, Request, exactly, form_request, object_of, xml_stream
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Mark, Message, Order, Pressed
from telbridge.caller.streams.line import Kind
from telbridge.caller.streams.twiml import (
    Attributes,
    Dial,
    Stream,
    Verb,
    address,
    elements_of,
    plain_verb,
)
from telbridge.caller.streams.webhook import Refusal

_CODECS: Final = {
    "audio/x-mulaw;rate=8000": PCMU_8K,
    "audio/x-l16;rate=8000": PCM_8K,
    "audio/x-l16;rate=16000": PCM_16K,
}
_STREAM: Final = frozenset(
    {"bidirectional", "keepCallAlive", "audioTrack", "contentType", "streamTimeout", "extraHeaders"}
)
_DIAL: Final = frozenset({"action", "method", "timeout", "timeLimit", "callerId", "callbackUrl", "redirect"})
_ATTRIBUTES: Final[Attributes] = {
    "Stream": _STREAM,
    "Dial": _DIAL,
    "Number": frozenset({"sendDigits"}),
    "User": frozenset({"sendDigits", "sipHeaders"}),
    "Redirect": frozenset({"method"}),
    "Hangup": frozenset({"reason", "schedule"}),
}
_KEYS: Final = frozenset("0123456789*#ABCD")


def read_verbs(text: str) -> list[Verb]:
    """All elements of a document. Refusal for what Plivo does not know."""
    return [_verb(element, text) for element in elements_of(text, _ATTRIBUTES)]


def _verb(element: ET.Element, document: str) -> Verb:
    match element.tag:
        case "Stream":
            return Stream((element.text or "").strip(), {}, document)
        case "Dial":
            return _dial(element)
        case _:
            return plain_verb(element)


def _dial(element: ET.Element) -> Dial:
    if len(element) != 1 or element[0].tag not in ("Number", "User"):
        raise Refusal("a Dial with one callee is all that is known here")
    to = (element[0].text or "").strip()
    if (element[0].tag == "User") != to.startswith(("sip:", "sips:")) or not to:
        raise Refusal(f"{to!r} cannot be dialled as a {element[0].tag}")
    if (timeout_s := int(element.get("timeout", "60"))) < 1:
        raise Refusal(f"timeout {timeout_s}")
    action, progress = (element.get(name, "") for name in ("action", "callbackUrl"))
    return Dial(to, timeout_s, action and address(action), progress and address(progress), ("answered",))


def _dial_ended(_verb: Dial, child: str, status: str, _talk_s: float) -> dict[str, str]:
    """What `action` is told."""
    talked = status == "answered"
    return {
        "DialStatus": "completed" if talked else status,
        "DialRingStatus": str(status != "failed").lower(),
        "DialBLegUUID": child if talked else "",
    }


def _dial_progress(verb: Dial, call: str, child: str, _status: str) -> dict[str, str]:
    """What `callbackUrl` is told of an answer."""
    legs = {"DialALegUUID": call, "DialBLegUUID": child, "DialBLegTo": verb.to, "DialBLegStatus": "answer"}
    return {"Event": "DialAnswer", "DialAction": "answer", **legs}


class PlivoSide:
    """Implements `telbridge.caller.streams.carriers.Following`."""

    kind: Final = Kind(read_verbs, "CallUUID", lambda: str(uuid.uuid4()), _dial_ended, _dial_progress)

    def __init__(self, auth_token: str) -> None:
        """`auth_token`: "" signs nothing."""
        self._token = auth_token

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        return self.signed(url, {**self.facts(call, caller, called), "Event": "StartApp"})

    def facts(self, call: str, caller: str, called: str) -> dict[str, str]:
        numbers = {"From": caller.removeprefix("+"), "To": called.removeprefix("+")}
        return {
            "CallUUID": call,
            **numbers,
            "CallStatus": "ringing",
            "Direction": "inbound",
            "CallerName": "",
        }

    def status(self, url: str, call: str, status: str) -> Request:
        return self.signed(url, {"CallUUID": call, "CallStatus": status, "Event": "Hangup"})

    def signed(self, url: str, form: Mapping[str, str]) -> Request:
        if not self._token:
            return form_request(url, form, {})
        nonce = secrets.token_hex(10)
        headers = {
            "X-Plivo-Signature-V3": f"b3RoZXI=,{sign(self._token, url, form, nonce)}",
            "X-Plivo-Signature-V3-Nonce": nonce,
        }
        return form_request(url, form, headers)

    def connected(self, answer: str, call: str, caller: str, called: str) -> tuple[str, Dialect]:
        stream = xml_stream(answer, "./Stream")
        if (stream.get("bidirectional"), stream.get("keepCallAlive")) != ("true", "true"):
            raise Refusal("the call would end at once")
        asked = stream.get("contentType", "audio/x-l16;rate=8000")
        if asked not in _CODECS:
            raise Refusal(f"no such contentType: {asked}")
        return (stream.text or "").strip(), PlivoDialect(call, asked, Coder(_CODECS[asked]))


def sign(token: str, url: str, form: Mapping[str, str], nonce: str) -> str:
    """X-Plivo-Signature-V3 of a posted form."""
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, True)))
    text = f"{parts.scheme}://{parts.netloc}{parts.path}?{query}{'.' if query else ''}"
    text += "".join(f"{name}{value}" for name, value in sorted(form.items()))
    return base64.b64encode(hmac.digest(token.encode(), f"{text}.{nonce}".encode(), hashlib.sha256)).decode()


class PlivoDialect:
    """Plivo audio streaming, bidirectional."""

    def __init__(self, call: str, content_type: str, coder: Coder) -> None:
        self._call, self._coder = call, coder
        self._encoding = content_type.partition(";")[0]
        self._stream = str(uuid.uuid4())
        self._sequence = self._chunk = 0

    def opening(self) -> list[Message]:
        form = {"encoding": self._encoding, "sampleRate": self._coder.wire.rate_hz}
        start = {"callId": self._call, "streamId": self._stream, "accountId": "MA1", "tracks": ["inbound"]}
        return [self._numbered("start", start={**start, "mediaFormat": form}, extra_headers="{}")]

    def media(self, payload: bytes) -> Message:
        self._chunk += 1
        audio = base64.b64encode(self._coder.sent(payload)).decode()
        told = {"track": "inbound", "timestamp": _now_ms(), "chunk": self._chunk, "payload": audio}
        return self._numbered("media", streamId=self._stream, media=told, extra_headers="{}")

    def digit(self, digit: str) -> Message:
        told = {"track": "inbound", "digit": digit, "timestamp": _now_ms()}
        return self._numbered("dtmf", streamId=self._stream, dtmf=told)

    def mark(self, name: str) -> Message:
        return self._numbered("playedStream", streamId=self._stream, name=name)

    def cleared(self, marks: list[str]) -> list[Message]:
        """What was not played is not answered."""
        return [self._numbered("clearedAudio", streamId=self._stream)]

    def stop(self) -> Message | None:
        return None

    def receive(self, message: Message) -> Order:
        fields = object_of(message)
        match fields.get("event"):
            case "playAudio":
                return self._play(fields)
            case "checkpoint":
                self._mine(fields, "name")
                return Mark(str(fields["name"]))
            case "clearAudio":
                self._mine(fields)
                return Clear()
            case "sendDTMF":
                exactly(fields, "event", "dtmf")
                if not fields["dtmf"] or not _KEYS.issuperset(fields["dtmf"]):
                    raise ValueError("sendDTMF of no keys")
                return Pressed(fields["dtmf"])
            case other:
                raise ValueError(f"unknown event {other!r}")

    def _play(self, fields: dict[str, Any]) -> Order:
        if set(fields) - {"streamId"} != {"event", "media"}:
            raise ValueError(f"playAudio with {', '.join(sorted(fields))}")
        media = fields["media"]
        exactly(media, "contentType", "sampleRate", "payload")
        if (media["contentType"], media["sampleRate"]) != (self._encoding, self._coder.wire.rate_hz):
            raise ValueError("playAudio in another format than the stream's")
        return Audio(self._coder.heard(base64.b64decode(media["payload"], validate=True)))

    def _mine(self, fields: dict[str, Any], *besides: str) -> None:
        exactly(fields, "event", "streamId", *besides)
        if fields["streamId"] != self._stream:
            raise ValueError("another streamId")

    def _numbered(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        return json.dumps({"event": event, "sequenceNumber": self._sequence, **fields}, separators=(",", ":"))


def _now_ms() -> str:
    return str(time.time_ns() // 1_000_000)
