"""SignalWire's cXML webhooks: who signed them, what they tell, and the XML that connects a call to our
stream. Pure.

Signed by the project's signing key, in X-SignalWire-Signature or, on calls of the Compatibility API,
X-Twilio-Signature; either as Twilio's are, or in hex over URL and raw body. SignalWire's own package knows
both (`RequestValidator`); which one cXML sends is unconfirmed, as is whether a stream's upgrade is signed:
there the ticket alone counts. The signature tells no time: that it comes twice is known only while it is
remembered.

SignalWire's pages of Connect and Stream do not say that the verb behind `<Connect>` is run once we have
closed the stream, as Twilio's do: unconfirmed, for lack of a live call. If it were not, the call would end
there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.carrier import (
    Answer,
    Arrival,
    Asked,
    NotVerified,
    Unreadable,
    document,
    element,
    first,
    known,
)
from telbridge.legs.streams.signalwire import CODECS, SIGNALWIRE, SignalWirePeer
from telbridge.legs.streams.twilio_signature import signed_url, url_variants
from telbridge.legs.streams.twilio_webhook import HANDED_ON, SIP_HEADER
from telbridge.legs.streams.verbs import ENDED, Verbs, redirect

SIGNATURES: Final = ("x-signalwire-signature", "x-twilio-signature")
FACTS: Final = tuple(name for name in HANDED_ON if name not in ("From", "To"))


class SignalWire(Verbs):
    """Implements `telbridge.legs.streams.carrier.Following`."""

    traits: Final = SIGNALWIRE

    def __init__(self, signing_keys: Sequence[str], format: AudioFormat) -> None:
        self._keys = signing_keys
        self.format: Final = format

    def verify(self, asked: Asked, now_s: float) -> str:
        if not self._keys:
            raise NotVerified("no signing key is configured")
        given = next((asked.headers[name] for name in SIGNATURES if asked.headers.get(name)), "")
        if not given:
            raise NotVerified("not signed")
        form = {} if asked.method == "GET" else asked.form()
        as_twilio = signed_url(self._keys, given, asked.url, form) is not None
        if not as_twilio and not any(_signs_raw(key, given, asked) for key in self._keys):
            raise NotVerified("wrong signature")
        return given

    def arrival(self, asked: Asked) -> Arrival:
        form = asked.form()
        call, account = first(form, "CallSid"), first(form, "AccountSid")
        if not call or not account:
            raise Unreadable("no CallSid or AccountSid")
        facts = known(form, FACTS, SIP_HEADER)
        return Arrival(call, account, first(form, "From"), first(form, "To"), facts)

    def connect(self, arrival: Arrival, url: str, after: str = "") -> Answer:
        stream = element("Stream", {"url": url, "codec": CODECS[self.format]})
        return document(element("Connect", {}, stream) + (redirect(after) if after else ""))

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        form = asked.form()
        status = first(form, "CallStatus")
        return (first(form, "CallSid"), status) if status in ENDED else None

    def peer(self) -> SignalWirePeer:
        return SignalWirePeer(self.format)


def _signs_raw(key: str, given: str, asked: Asked) -> bool:
    """Over the URL, with its port or without, and the body as it came."""
    urls = (variant.encode("utf-8", "replace") for variant in url_variants(asked.url))
    right = [hmac.new(key.encode(), url + asked.body, hashlib.sha1).hexdigest().encode() for url in urls]
    return any(hmac.compare_digest(each, given.encode("utf-8", "replace")) for each in right)
