"""Telnyx's own package judges the signatures that our simulated Telnyx makes and our ingress verifies."""

from __future__ import annotations

import pytest

from telbridge.audio.formats import PCMU_8K
from telbridge.caller.streams.telnyx import TelnyxSide
from telbridge.legs.streams.carrier import Asked
from telbridge.legs.streams.telnyx_webhook import Telnyx
from tests.legs.carrier_bed import PUBLIC_KEY, SEED

verification = pytest.importorskip(
    "telnyx.lib.webhook_verification", reason="telnyx is not installed: make interop"
)


def test_telnyxs_package_takes_our_signatures_as_our_ingress_does() -> None:
    request = TelnyxSide(SEED).voice("https://voice.example.com/telnyx/voice", "v3:c", "+1", "+2")
    verification.verify_webhook_signature(request.body, dict(request.headers), PUBLIC_KEY)
    with pytest.raises(verification.WebhookVerificationError):
        verification.verify_webhook_signature(request.body + b"&x=1", dict(request.headers), PUBLIC_KEY)
    headers = {name.lower(): value for name, value in request.headers.items()}
    stamp = float(headers["telnyx-timestamp"])
    assert Telnyx([PUBLIC_KEY], PCMU_8K).verify(Asked("POST", request.url, headers, request.body), stamp)
