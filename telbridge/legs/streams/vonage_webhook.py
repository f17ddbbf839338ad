"""Vonage's Voice webhooks: who signed them, what they tell, and the NCCO that connects a call to our stream.
Pure.

A signed webhook carries a JWT (RFC 7519, HS256) by the account's signature secret in `Authorization`; its
claim `payload_hash` is SHA-256, in hex, of the body; of a GET, of its parameters as a compact JSON object in
their order (Vonage: «How do I verify that the Voice API webhook request and its payload…»). The application
has to ask for signatures (`signed_callbacks`). Unconfirmed, for lack of a live call: how the parameters of a
GET are written in what is hashed; so POST is the better choice for the answer URL.

`eventType: synchronous` makes Vonage ask the event URL when a `connect` has ended: when we have closed the
stream (`disconnected`), or who was called does not come; another NCCO may be the answer, without one the old
goes on, which ends the call where nothing is left (Vonage: «WebSockets», fallback options; «NCCO reference»,
connect). All states of that leg come to the same URL, those that ask nothing too. Unconfirmed, likewise: that
this is so for numbers and SIP addresses as the page has it for WebSockets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.carrier import (
    CLOCK_SKEW_S,
    MAX_HEADERS,
    Answer,
    Arrival,
    Asked,
    DialEnded,
    DialGoesOn,
    NotVerified,
    Unreadable,
    e164,
    plain,
)
from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish
from telbridge.legs.streams.vonage import CONTENT_TYPES, VONAGE, VonagePeer

HANDED_ON: Final = ("conversation_uuid", "region_url", "from_user")
SIP_HEADER: Final = "SipHeader_"
ENDED: Final = frozenset({"completed", "busy", "cancelled", "timeout", "failed", "rejected", "unanswered"})
"""Values of `status` after which a call is over."""
STREAM_ENDED: Final = frozenset(
    {"disconnected", "failed", "unanswered", "timeout", "rejected", "busy", "cancelled"}
)
"""Values of a stream's `status` after which there is none."""
_PROGRESS: Final = {"ringing": False, "answered": True, "completed": True}
"""Values of the `status` of who is called, for whom it is or was an answer."""
_FAILURES: Final = {
    "busy": 486,
    "timeout": 408,
    "unanswered": 480,
    "rejected": 403,
    "cancelled": 487,
    "failed": 503,
}
"""The others, as SIP status."""
DIAL: Final = "dial"
"""A parameter of the address that is asked of a dial: its events do not tell that they are."""
JSON: Final = "application/json"
MAX_TOKEN: Final = 4_096


class Vonage:
    """Implements `telbridge.legs.streams.carrier.Following`."""

    traits: Final = VONAGE

    def __init__(
        self, signature_secrets: Sequence[str], format: AudioFormat, caller_id: str | None = None
    ) -> None:
        """`caller_id`: who is called sees it, one of the account's numbers."""
        self._secrets, self._caller_id = signature_secrets, caller_id
        self.format: Final = format

    def verify(self, asked: Asked, now_s: float) -> str:
        if not self._secrets:
            raise NotVerified("no signature secret is configured")
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotVerified("not signed")
        claims = claims_of(token, self._secrets)
        issued_s = claims.get("iat")
        if not isinstance(issued_s, int | float) or abs(now_s - issued_s) > CLOCK_SKEW_S:
            raise NotVerified("its signature has expired")
        expires_s = claims.get("exp", issued_s + CLOCK_SKEW_S)
        if not isinstance(expires_s, int | float) or now_s > expires_s:
            raise NotVerified("its signature has expired")
        payload_hash = claims.get("payload_hash")
        if payload_hash is not None and plain(payload_hash).lower() not in _hashes(asked):
            raise NotVerified("the payload is not the one that was signed")
        # By this id, not by the token: base64 may be written in several ways.
        return plain(claims.get("jti")) or token.rpartition(".")[0]

    def arrival(self, asked: Asked) -> Arrival:
        fields = asked.fields()
        if not (call := plain(fields.get("uuid"))):
            raise Unreadable("no uuid")
        headers = {name: plain(fields.get(name)) for name in HANDED_ON}
        for name in [name for name in fields if name.startswith(SIP_HEADER)][:MAX_HEADERS]:
            headers[plain(name.removeprefix(SIP_HEADER))] = plain(fields[name])
        facts = {name: value for name, value in headers.items() if value}
        caller, called = e164(plain(fields.get("from"))), e164(plain(fields.get("to")))
        return Arrival(call, "", caller, called, facts)

    def connect(self, arrival: Arrival, url: str, after: str = "") -> Answer:
        endpoint = {
            "type": "websocket",
            "uri": url,
            "content-type": CONTENT_TYPES[self.format],
            "headers": {"uuid": arrival.call},
        }
        return _ncco(_connect(endpoint, after))

    def asks(self, asked: Asked) -> tuple[str, DialEnded | DialGoesOn | None]:
        fields = asked.fields()
        if not (status := plain(fields.get("status"))):
            raise Unreadable("no status")
        if DIAL in asked.pairs():
            # Its `uuid` is of the other leg. An end after an answer asks nothing: nothing is left to do.
            code = _FAILURES.get(status)
            return "", DialGoesOn(_PROGRESS.get(status)) if code is None else _not_taken(fields, code)
        headers = fields.get("headers")
        call = plain(headers.get("uuid")) if isinstance(headers, dict) else ""
        return call, None if status in STREAM_ENDED else DialGoesOn(None)

    def dial(self, wish: Wish, after: str, progress: str) -> Answer:
        """`progress` is not asked: `after` hears all."""
        match wish.to:
            case PhoneNumber(number):
                callee = {"type": "phone", "number": number.removeprefix("+")}
            case SipAddress(uri):
                callee = {"type": "sip", "uri": uri}
            case OtherWebhook(url):
                payload = {"event": "transfer"}
                return _ncco({"action": "notify", "payload": payload, "eventUrl": [url]})
        events = f"{after}{'&' if urlsplit(after).query else '?'}{DIAL}=1"
        shown = {} if self._caller_id is None else {"from": self._caller_id.removeprefix("+")}
        return _ncco(_connect(callee, events) | {"timeout": max(1, math.ceil(wish.timeout_s))} | shown)

    def answered(self, asked: Asked) -> bool | None:
        """Vonage tells it to `after`."""
        return None

    def hang_up(self) -> Answer:
        """No NCCO: the old one goes on, and has nothing more to do."""
        return Answer("", JSON)

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        fields = asked.fields()
        status = plain(fields.get("status"))
        return (plain(fields.get("uuid")), status) if status in ENDED else None

    def peer(self) -> VonagePeer:
        return VonagePeer()


def claims_of(token: str, secrets: Sequence[str]) -> Mapping[str, Any]:
    """What a JWT says. NotVerified unless it is signed, by HS256 and one of these secrets."""
    signed, _, given = token.strip().rpartition(".")
    if len(token) > MAX_TOKEN or not given:
        raise NotVerified("its token is none")
    head, _, body = signed.partition(".")
    if _object(head).get("alg") != "HS256":
        raise NotVerified("its token is signed in another way")
    signature = _decoded(given)
    for secret in secrets:
        right = hmac.new(secret.encode(), signed.encode("utf-8", "replace"), hashlib.sha256).digest()
        if hmac.compare_digest(right, signature):
            return _object(body)
    raise NotVerified("wrong signature")


def _connect(endpoint: Mapping[str, Any], events: str) -> dict[str, Any]:
    """The action; `events` is asked what follows it."""
    action: dict[str, Any] = {"action": "connect", "endpoint": [endpoint]}
    if events:
        action |= {"eventType": "synchronous", "eventUrl": [events]}
    return action


def _ncco(action: Mapping[str, Any]) -> Answer:
    return Answer(json.dumps([action]), JSON)


def _not_taken(fields: Mapping[str, Any], code: int) -> DialEnded:
    """`sip_code` is there for some calls."""
    told = fields.get("sip_code")
    if isinstance(told, int) and 300 <= told <= 699:
        code = told
    return DialEnded(False, code, f"dial {plain(fields['status'])[:20]}")


def _hashes(asked: Asked) -> list[str]:
    """Of the body as it came and as compact JSON; of a GET, of its parameters."""
    texts = [_compact(asked.pairs())] if asked.method == "GET" else [asked.body, _compact(asked.fields())]
    return [hashlib.sha256(each).hexdigest() for each in texts]


def _compact(fields: Mapping[str, Any]) -> bytes:
    written = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return written.encode("utf-8", "surrogatepass")


def _object(part: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(_decoded(part))
    except (ValueError, RecursionError):
        raise NotVerified("its token is none") from None
    if not isinstance(fields, dict):
        raise NotVerified("its token is none")
    return fields


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise NotVerified("its token is none") from None
