"""Plivo's webhooks: who signed them, what they tell, and the XML that connects a call to our stream. Pure.

X-Plivo-Signature-V3 (Plivo: «Signature validation»; the algorithm as in its Python SDK, which judges
ours in the tests): base64 of HMAC-SHA256, by the auth token, over URL, parameters and a nonce. The header may
hold several, by commas; `-Ma-V3` is by the main account's token. Whether the upgrade of a stream is signed is
unconfirmed: there the ticket alone counts.

With `keepCallAlive` the elements behind `<Stream>` are run once it has ended (Plivo: «Audio streaming»); what
a dial tells is on its pages «Dial» and «Dial status reporting». Unconfirmed, for lack of a live call: that
closing our end is such an end; that `<User>` takes any SIP address, not only those of Plivo's own endpoints.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.carrier import (
    MAX_FIELDS,
    XML,
    Answer,
    Arrival,
    Asked,
    DialEnded,
    Form,
    NotVerified,
    Unreadable,
    document,
    e164,
    element,
    escaped,
    first,
    known,
)
from telbridge.legs.streams.plivo import ENCODINGS, PLIVO, PlivoPeer
from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish
from telbridge.legs.streams.verbs import hang_up, redirect

SIGNATURES: Final = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
NONCE: Final = "x-plivo-signature-v3-nonce"
HANDED_ON: Final = ("Direction", "ForwardedFrom", "CallerName")
SIP_HEADER: Final = "X-PH-"
"""All that Plivo hands on are named so."""
ENDED: Final = frozenset({"completed", "busy", "failed", "timeout", "no-answer", "cancel"})
"""Values of CallStatus after which a call is over."""
TALKED: Final = "completed"
"""The value of DialStatus for which somebody took the call."""
_FAILURES: Final = {"busy": 486, "no-answer": 408, "timeout": 408, "cancel": 487, "failed": 503}
"""SIP status for the others."""


class Plivo:
    """Implements `telbridge.legs.streams.carrier.Following`."""

    traits: Final = PLIVO

    def __init__(self, auth_tokens: Sequence[str], format: AudioFormat) -> None:
        self._tokens = auth_tokens
        self.format: Final = format

    def verify(self, asked: Asked, now_s: float) -> str:
        if not self._tokens:
            raise NotVerified("no auth token is configured")
        nonce = asked.headers.get(NONCE, "")
        given = [each for name in SIGNATURES for each in asked.headers.get(name, "").split(",") if each]
        if not nonce or not given:
            raise NotVerified("not signed")
        form = {} if asked.method == "GET" else asked.form()
        for token in self._tokens:
            right = signature(token, asked.method, asked.url, form, nonce).encode()
            if any(hmac.compare_digest(right, each.strip().encode()) for each in given):
                return nonce
        raise NotVerified("wrong signature")

    def arrival(self, asked: Asked) -> Arrival:
        form = asked.form()
        if not (call := first(form, "CallUUID")):
            raise Unreadable("no CallUUID")
        facts = known(form, HANDED_ON, SIP_HEADER, keep=True)
        return Arrival(call, "", e164(first(form, "From")), e164(first(form, "To")), facts)

    def connect(self, arrival: Arrival, url: str, after: str = "") -> Answer:
        stream = {
            "bidirectional": "true",
            "keepCallAlive": "true",
            "audioTrack": "inbound",
            "contentType": f"{ENCODINGS[self.format.encoding]};rate={self.format.rate_hz}",
        }
        verbs = element("Stream", stream, escaped(url))
        return document(verbs + (redirect(after) if after else ""))

    def asks(self, asked: Asked) -> tuple[str, DialEnded | None]:
        form = asked.form()
        if not (call := first(form, "CallUUID")):
            raise Unreadable("no CallUUID")
        if not (status := first(form, "DialStatus")):
            return call, None
        own = first(form, "CallStatus")
        code = _FAILURES.get(status, 503)
        return call, DialEnded(status == TALKED, code, f"dial {status[:20]}", own if own in ENDED else "")

    def dial(self, wish: Wish, after: str, progress: str) -> Answer:
        match wish.to:
            case PhoneNumber(number):
                callee = element("Number", {}, escaped(number))
            case SipAddress(uri):
                callee = element("User", {}, escaped(uri))
            case OtherWebhook(url):
                return document(redirect(url))
        attributes = {
            "timeout": str(max(1, math.ceil(wish.timeout_s))),
            "action": after,
            "callbackUrl": progress,
        }
        return document(element("Dial", attributes, callee))

    def answered(self, asked: Asked) -> bool | None:
        """Plivo does not tell that it rings."""
        return True if first(asked.form(), "DialAction") in ("answer", "connected") else None

    def hang_up(self) -> Answer:
        return Answer(hang_up(), XML)

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        form = asked.form()
        status = first(form, "CallStatus")
        return (first(form, "CallUUID"), status) if status in ENDED else None

    def peer(self) -> PlivoPeer:
        return PlivoPeer(self.format)


def signature(token: str, method: str, url: str, form: Form, nonce: str) -> str:
    """What Plivo sends for this request. The query's parameters count sorted, those of a body glued behind;
    between the two stand `?`, even without a query, and a full stop where there is one. Unreadable."""
    parts = urlsplit(url)
    try:
        asked = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Unreadable("too many parameters") from None
    query = "&".join(f"{name}={value}" for name in sorted(asked) for value in sorted(asked[name]))
    text = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if method == "GET" or not form:
        text += f"?{query}" if query else ""
    else:
        text += f"?{query}." if query else "?"
        text += "".join(name + value for name in sorted(form) for value in sorted(form[name]))
    digest = hmac.new(token.encode(), f"{text}.{nonce}".encode("utf-8", "replace"), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
