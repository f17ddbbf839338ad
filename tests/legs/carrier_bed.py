"""The stream bed with the keys of every carrier, and telephones of theirs."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from telbridge.caller.streams.sides import sides_of
from tests.legs.stream_bed import StreamBed, stream_bed

KINDS: Final = ("telnyx", "plivo", "signalwire", "vonage")
SEED: Final = base64.b64encode(bytes(range(32))).decode()
PUBLIC_KEY: Final = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
"""Of SEED (Ed25519)."""
KEYS: Final = {
    "TELNYX_PUBLIC_KEY": PUBLIC_KEY,
    "PLIVO_AUTH_TOKEN": "plivo-test-token",
    "SIGNALWIRE_SIGNING_KEY": "PSKtest",
    "VONAGE_SIGNATURE_SECRET": "vonage-test-secret-of-some-length",
}
CALLERS: Final = {**KEYS, "TELNYX_PRIVATE_KEY": SEED}


@asynccontextmanager
async def carrier_bed(**settings: Any) -> AsyncIterator[StreamBed]:
    """`settings`: sections, and `environ` in the place of all keys."""
    settings.setdefault("environ", KEYS)
    async with stream_bed(**settings) as bed:
        bed.phone.sides.update(sides_of(CALLERS))
        yield bed


def url_of(bed: StreamBed, kind: str) -> str:
    return f"{kind}+ws://127.0.0.1:{bed.port}/{kind}/stream"
