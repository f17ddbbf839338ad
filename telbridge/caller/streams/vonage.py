"""Vonage, as it turns to a bridge: webhooks with a JWT, NCCO, WebSockets with binary audio."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K
from telbridge.caller.streams.carriers import Coder, Request, exactly, object_of
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Mark, Message, Order
from telbridge.caller.streams.line import Kind
from telbridge.caller.streams.twiml import Dial, End, Redirect, Stream, Verb, address
from telbridge.caller.streams.webhook import Refusal

_CODECS: Final = {
    "audio/l16;rate=8000": PCM_8K,
    "audio/l16;rate=16000": PCM_16K,
    "audio/l16;rate=24000": PCM_24K,
}
_KEY_MS: Final = 260
_CONNECT: Final = frozenset(
    {"action", "endpoint", "from", "timeout", "limit", "eventType", "eventUrl", "eventMethod"}
)
_NOTIFY: Final = frozenset({"action", "payload", "eventUrl", "eventMethod"})
_CLOSED: Final = "disconnected"
"""The `status` of a stream that the bridge has closed."""
_RINGS_S: Final = 60
"""Without a `timeout`."""
_STATUS: Final = {"no-answer": "timeout", "answered": "completed", "in-progress": "answered"}
"""By Vonage's names, where they differ."""
_HEADERS: Final = 512
"""Octets of an endpoint's `headers`, at most."""


def read_ncco(text: str) -> list[Verb]:
    """All actions of a document, and of a `connect` who is asked after it. Refusal for what is none."""
    if not text:
        return []
    try:
        actions = json.loads(text)
        return [verb for action in actions for verb in _verbs(action, text)] or [End("hangup")]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"the answer is no NCCO: {error!r}") from None


def _verbs(action: Mapping[str, Any], document: str) -> list[Verb]:
    kind = action["action"]
    if kind not in ("connect", "notify") or set(action) - (_CONNECT if kind == "connect" else _NOTIFY):
        raise Refusal(f"{sorted(action)} is no action that is known here")
    events = _event_url(action)
    if kind == "notify":
        if not isinstance(action["payload"], dict) or not events:
            raise Refusal("notify without payload and eventUrl")
        return [Redirect(events, action["payload"])]
    (endpoint,) = action["endpoint"]
    if endpoint["type"] == "websocket":
        stream = Stream(str(endpoint["uri"]), {}, document)
        return [stream, Redirect(events, {"status": _CLOSED})] if _asks(action) else [stream]
    return [_dial(action, endpoint, events)]


def _event_url(action: Mapping[str, Any]) -> str:
    """ "" without one."""
    urls = action.get("eventUrl", [])
    if not isinstance(urls, list) or len(urls) > 1:
        raise Refusal("eventUrl is an array of one address")
    return address(urls[0]) if urls else ""


def _asks(action: Mapping[str, Any]) -> bool:
    return bool(action.get("eventType") == "synchronous" and action.get("eventUrl"))


def _dial(action: Mapping[str, Any], endpoint: Mapping[str, Any], events: str) -> Dial:
    match endpoint["type"]:
        case "phone":
            exactly(endpoint, "type", "number")
            if not (endpoint["number"].isdigit() and endpoint["number"][0] != "0"):
                raise Refusal(f"{endpoint['number']!r} is not in E.164 format")
            to = f"+{endpoint['number']}"
        case "sip":
            exactly(endpoint, "type", "uri")
            to = endpoint["uri"]
            if not to.startswith(("sip:", "sips:")):
                raise Refusal(f"{to!r} is no SIP address")
        case other:
            raise Refusal(f"no such endpoint: {other}")
    timeout_s, caller_id = int(action.get("timeout", _RINGS_S)), action.get("from", "")
    if timeout_s < 1 or (caller_id and not caller_id.isdigit()):
        raise Refusal(f"timeout {timeout_s}, from {caller_id!r}")
    return Dial(to, timeout_s, events if _asks(action) else "", events, ("ringing", "answered"), caller_id)


def _dial_ended(_verb: Dial, child: str, status: str, _talk_s: float) -> dict[str, str]:
    return {"uuid": child, "status": _STATUS.get(status, status)}


def _dial_progress(verb: Dial, _call: str, child: str, status: str) -> dict[str, str]:
    return {"uuid": child, "status": _STATUS.get(status, status), "to": verb.to.removeprefix("+")}


class VonageSide:
    """Implements `telbridge.caller.streams.carriers.Following`."""

    kind: Final = Kind(read_ncco, "uuid", lambda: str(uuid.uuid4()), _dial_ended, _dial_progress)

    def __init__(self, signature_secret: str, *, clock: Callable[[], float] = time.time) -> None:
        """`signature_secret`: "" signs nothing."""
        self._secret, self._clock = signature_secret, clock

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        return self._signed(url, self.facts(call, caller, called))

    def facts(self, call: str, caller: str, called: str) -> dict[str, str]:
        numbers = {"from": caller.removeprefix("+"), "to": called.removeprefix("+")}
        return {**numbers, "uuid": call, "conversation_uuid": f"CON-{call}"}

    def signed(self, url: str, form: Mapping[str, str]) -> Request:
        """An event. The stream has a leg of its own, and says what the NCCO had it say."""
        event: dict[str, Any] = {name: form[name] for name in form if name != "CallStatus"}
        if event.get("status") == _CLOSED:
            event |= {"uuid": str(uuid.uuid4()), "headers": {"uuid": event["uuid"]}}
        return self._signed(url, event)

    def status(self, url: str, call: str, status: str) -> Request:
        return self._signed(url, {"uuid": call, "status": status, "direction": "inbound"})

    def _signed(self, url: str, fields: Mapping[str, Any]) -> Request:
        body = json.dumps(fields, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            claims = {
                "iat": int(self._clock()),
                "jti": str(uuid.uuid4()),
                "iss": "Vonage",
                "payload_hash": hashlib.sha256(body).hexdigest(),
                "api_key": "00000000",
                "application_id": str(uuid.uuid4()),
            }
            headers["Authorization"] = f"Bearer {token(self._secret, claims)}"
        return Request(url, headers, body)

    def connected(self, answer: str, call: str, caller: str, called: str) -> tuple[str, Dialect]:
        try:
            (action,) = json.loads(answer)
            (endpoint,) = action["endpoint"]
            asked = endpoint["content-type"]
            headers, url = endpoint.get("headers", {}), str(endpoint["uri"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(f"the answer is no NCCO that connects a WebSocket: {error!r}") from None
        if (action["action"], endpoint["type"]) != ("connect", "websocket"):
            raise Refusal(f"the NCCO connects no WebSocket: {action['action']}")
        if asked not in _CODECS:
            raise Refusal(f"no such content-type: {asked}")
        if len(json.dumps(headers)) > _HEADERS:
            raise Refusal("its headers are too long")
        return url, VonageDialect(asked, headers, Coder(_CODECS[asked]))


def token(secret: str, claims: Mapping[str, Any]) -> str:
    """A JWT (HS256)."""
    parts = [_encoded(json.dumps(each).encode()) for each in ({"typ": "JWT", "alg": "HS256"}, claims)]
    signed = ".".join(parts)
    return f"{signed}.{_encoded(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class VonageDialect:
    """Vonage Voice WebSockets."""

    def __init__(self, content_type: str, headers: Mapping[str, Any], coder: Coder) -> None:
        self._content_type, self._headers, self._coder = content_type, headers, coder

    def opening(self) -> list[Message]:
        return [_event("connected", **{"content-type": self._content_type}, **self._headers)]

    def media(self, payload: bytes) -> Message:
        return self._coder.sent(payload)

    def digit(self, digit: str) -> Message:
        return _event("dtmf", digit=digit, duration=_KEY_MS)

    def mark(self, name: str) -> Message:
        return _event("notify", payload={"id": name})

    def cleared(self, marks: list[str]) -> list[Message]:
        """Notifications that were waiting are dropped."""
        return [_event("cleared")]

    def stop(self) -> Message | None:
        return None

    def receive(self, message: Message) -> Order:
        if isinstance(message, bytes):
            if len(message) != self._coder.frame_octets:
                raise ValueError(f"{len(message)} octets instead of {self._coder.frame_octets}: garbled")
            return Audio(self._coder.heard(message))
        fields = object_of(message)
        if fields.get("action") == "clear":
            exactly(fields, "action")
            return Clear()
        if fields.get("action") == "notify":
            exactly(fields, "action", "payload")
            exactly(fields["payload"], "id")
            return Mark(str(fields["payload"]["id"]))
        raise ValueError(f"unknown action {fields.get('action')!r}")


def _event(kind: str, **fields: Any) -> str:
    return json.dumps({"event": f"websocket:{kind}", **fields}, separators=(",", ":"))
