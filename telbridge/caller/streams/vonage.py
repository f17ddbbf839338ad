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
from telbridge.caller.streams.webhook import Refusal

_CODECS: Final = {
    "audio/l16;rate=8000": PCM_8K,
    "audio/l16;rate=16000": PCM_16K,
    "audio/l16;rate=24000": PCM_24K,
}
_KEY_MS: Final = 260
_HEADERS: Final = 512
"""Octets of an endpoint's `headers`, at most."""


class VonageSide:
    """Implements `telbridge.caller.streams.carriers.CarrierSide`."""

    def __init__(self, signature_secret: str, *, clock: Callable[[], float] = time.time) -> None:
        """`signature_secret`: "" signs nothing."""
        self._secret, self._clock = signature_secret, clock

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        numbers = {"from": caller.removeprefix("+"), "to": called.removeprefix("+")}
        return self._signed(url, {**numbers, "uuid": call, "conversation_uuid": f"CON-{uuid.uuid4()}"})

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
