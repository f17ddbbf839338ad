"""The carriers that `telbridge call` can be, with the keys of the environment."""

from __future__ import annotations

from collections.abc import Mapping

from telbridge.caller.streams.carriers import CarrierSide
from telbridge.caller.streams.plivo import PlivoSide
from telbridge.caller.streams.signalwire import SignalWireSide
from telbridge.caller.streams.telnyx import TelnyxSide
from telbridge.caller.streams.vonage import VonageSide


def sides_of(environ: Mapping[str, str]) -> dict[str, CarrierSide]:
    """By the name before `+ws://`. Where a key is missing nothing is signed, and a bridge refuses it."""
    return {
        "telnyx": TelnyxSide(environ.get("TELNYX_PRIVATE_KEY", "")),
        "plivo": PlivoSide(environ.get("PLIVO_AUTH_TOKEN", "")),
        "signalwire": SignalWireSide(environ.get("SIGNALWIRE_SIGNING_KEY", "")),
        "vonage": VonageSide(environ.get("VONAGE_SIGNATURE_SECRET", "")),
    }
