"""The list of them all."""

from __future__ import annotations

from typing import Final

from telbridge.legs.ari.traits import ARI
from telbridge.legs.streams.audiosocket import AUDIOSOCKET
from telbridge.legs.streams.chan_websocket import CHAN_WEBSOCKET
from telbridge.legs.streams.generic import GENERIC
from telbridge.legs.streams.peer import PeerTraits
from telbridge.legs.streams.plivo import PLIVO
from telbridge.legs.streams.signalwire import SIGNALWIRE
from telbridge.legs.streams.telnyx import TELNYX
from telbridge.legs.streams.twilio import TWILIO
from telbridge.legs.streams.vonage import VONAGE

PEERS: Final[tuple[PeerTraits, ...]] = (
    TWILIO,
    TELNYX,
    PLIVO,
    SIGNALWIRE,
    VONAGE,
    CHAN_WEBSOCKET,
    AUDIOSOCKET,
    ARI,
    GENERIC,
)
