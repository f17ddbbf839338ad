"""The list of them all."""

from __future__ import annotations

from typing import Final

from telbridge.legs.streams.audiosocket import AUDIOSOCKET
from telbridge.legs.streams.chan_websocket import CHAN_WEBSOCKET
from telbridge.legs.streams.generic import GENERIC
from telbridge.legs.streams.peer import PeerTraits
from telbridge.legs.streams.twilio import TWILIO

PEERS: Final[tuple[PeerTraits, ...]] = (TWILIO, CHAN_WEBSOCKET, AUDIOSOCKET, GENERIC)
