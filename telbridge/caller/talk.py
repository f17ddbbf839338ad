"""What a conversation needs of a call, whatever carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from telbridge.caller.rtp import Packet
from telbridge.caller.sender import Played


class Sound(Protocol):
    """What is heard, and the clock by which it is heard."""

    @property
    def on_packet(self) -> list[Callable[[Packet], None]]:
        """Called with each 20 ms of the other side's G.711."""

    @property
    def on_tick(self) -> list[Callable[[int], None]]:
        """Called every 20 ms with the time."""


class Talk(Protocol):
    """An answered call."""

    @property
    def media(self) -> Sound: ...

    def play(self, pcm: bytes) -> asyncio.Future[Played]:
        """Say linear 16-bit 8 kHz audio; done when its last 20 ms have left."""

    def dtmf(self, digits: str) -> asyncio.Future[Played]:
        """Press keys. ValueError for what is none."""

    async def wait_ended(self) -> object: ...
