"""Telnyx's TeXML webhooks: who signed them, what they tell, and the TeXML that connects a call to our stream.
Pure.

Telnyx signs «TIMESTAMP|BODY», the raw body, with Ed25519 (RFC 8032) and tells the public key in its portal
(Telnyx: «Webhook signing»). `CallSid` is the call control id that the stream names (so in the sample of
Telnyx's page «TeXML call completed»). Calls of Call Control applications, which are answered by REST, are not
served.

A synchronous stream (`<Connect>`) is waited for before the next verb (Telnyx: «Streams»). Unconfirmed, for
lack of a live call: that closing our end counts as its stop; that `action` tells how a dial went, and the
number's `statusCallback` how it gets on, by Twilio's names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.carrier import (
    CLOCK_SKEW_S,
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
from telbridge.legs.streams.telnyx import ENCODINGS, TELNYX, TelnyxPeer
from telbridge.legs.streams.verbs import ENDED, Verbs, redirect

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE: Final = "telnyx-signature-ed25519"
TIMESTAMP: Final = "telnyx-timestamp"
HANDED_ON: Final = ("Direction", "ForwardedFrom", "CallerId", "ShakenStirAttestation", "ShakenStirValidated")
SIP_HEADER: Final = "SipHeader_"


class Telnyx(Verbs):
    """Implements `telbridge.legs.streams.carrier.Following`."""

    traits: Final = TELNYX
    RINGS_S = (5, 120)
    """Telnyx: «Dial», `timeout`."""

    def __init__(self, public_keys: Sequence[str], format: AudioFormat, *, big_endian: bool = True) -> None:
        """`public_keys`: base64, as the portal shows them. ValueError for one that is none."""
        self._keys = [_public_key(key) for key in public_keys]
        self.format: Final = format
        self._big_endian = big_endian

    def verify(self, asked: Asked, now_s: float) -> str:
        if not self._keys:
            raise NotVerified("no public key is configured")
        given, stamp = asked.headers.get(SIGNATURE, ""), asked.headers.get(TIMESTAMP, "")
        if not given or not stamp:
            raise NotVerified("not signed")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
            raise NotVerified("the time of its signature is none")
        message = stamp.encode() + b"|" + asked.body
        self._check(given, message)
        if abs(now_s - int(stamp)) > CLOCK_SKEW_S:
            raise NotVerified("its signature has expired")
        # Not by the signature: its base64 may be written in several ways.
        return hashlib.sha256(message).hexdigest()

    def _check(self, given: str, message: bytes) -> None:
        from cryptography.exceptions import InvalidSignature

        try:
            signature = base64.b64decode(given, validate=True)
        except (ValueError, binascii.Error):
            raise NotVerified("wrong signature") from None
        for key in self._keys:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                continue
            return
        raise NotVerified("wrong signature")

    def arrival(self, asked: Asked) -> Arrival:
        form = asked.form()
        if not (call := first(form, "CallSid")):
            raise Unreadable("no CallSid")
        facts = known(form, HANDED_ON, SIP_HEADER)
        return Arrival(call, "", first(form, "From"), first(form, "To"), facts)

    def connect(self, arrival: Arrival, url: str, after: str = "") -> Answer:
        codec = ENCODINGS[self.format.encoding]
        stream = {
            "url": url,
            "track": "inbound_track",
            "codec": codec,
            "bidirectionalMode": "rtp",
            "bidirectionalCodec": codec,
            "bidirectionalSamplingRate": str(self.format.rate_hz),
        }
        verbs = element("Connect", {}, element("Stream", stream))
        return document(verbs + (redirect(after) if after else ""))

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        form = asked.form()
        status = first(form, "CallStatus")
        return (first(form, "CallSid"), status) if status in ENDED else None

    def peer(self) -> TelnyxPeer:
        return TelnyxPeer(self.format, big_endian=self._big_endian)


def _public_key(text: str) -> Ed25519PublicKey:
    # Here, not above: the library takes 40 ms to load, and most servers have no Telnyx.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        raise ValueError("is no Ed25519 public key: copy it from the portal (44 characters)") from None
