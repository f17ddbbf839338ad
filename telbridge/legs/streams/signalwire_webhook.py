"""SignalWire's cXML webhooks: who signed them, what they tell, and the XML that connects a call to our
stream. Pure.

Signed as Twilio's are, by the project's signing key, in X-SignalWire-Signature or, on calls of the
Compatibility API, X-Twilio-Signature. The signature tells no time: that it comes twice is known only while it
is remembered. Whether the upgrade of a stream is signed is unconfirmed: there the ticket alone counts.
"""

from __future__ import annotations

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
from telbridge.legs.streams.twilio_signature import signed_url
from telbridge.legs.streams.twilio_webhook import ENDED, HANDED_ON, SIP_HEADER

SIGNATURES: Final = ("x-signalwire-signature", "x-twilio-signature")
FACTS: Final = tuple(name for name in HANDED_ON if name not in ("From", "To"))


class SignalWire:
    """Implements `telbridge.legs.streams.carrier.Carrier`."""

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
        if signed_url(self._keys, given, asked.url, form) is None:
            raise NotVerified("wrong signature")
        return given

    def arrival(self, asked: Asked) -> Arrival:
        form = asked.form()
        call, account = first(form, "CallSid"), first(form, "AccountSid")
        if not call or not account:
            raise Unreadable("no CallSid or AccountSid")
        facts = known(form, FACTS, SIP_HEADER)
        return Arrival(call, account, first(form, "From"), first(form, "To"), facts)

    def connect(self, arrival: Arrival, url: str) -> Answer:
        stream = element("Stream", {"url": url, "codec": CODECS[self.format]})
        return document(element("Connect", {}, stream))

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        form = asked.form()
        status = first(form, "CallStatus")
        return (first(form, "CallSid"), status) if status in ENDED else None

    def peer(self) -> SignalWirePeer:
        return SignalWirePeer(self.format)
