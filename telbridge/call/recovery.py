"""What the caller hears from the call itself, in the agent's place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from telbridge.call.downlink import Downlink

FILLER_AFTER_S: Final = 0.3
"""A session that is back sooner was hardly missed."""
FILL_AGAIN_S: Final = 2.5
"""Silence after a filler before it is said again."""


class Recovery:
    """A broken session is being got back: what has come is still played, then a filler is heard."""

    def __init__(
        self,
        downlink: Downlink,
        filler: bytes,
        loop: asyncio.AbstractEventLoop,
        nobody_hears: Callable[[], bool],
    ) -> None:
        """`nobody_hears`: on hold, or not answered yet: a filler would be stale when it is heard."""
        self._nobody_hears = nobody_hears
        self._downlink, self._filler, self._loop = downlink, filler, loop
        self._timer: asyncio.TimerHandle | None = None
        self._missed = False
        self.losses = 0
        self.lost_now = False

    def lost(self, *, in_reply: bool) -> None:
        """`in_reply`: the agent owed an answer, or had not yet sent all of it."""
        self.losses += 1
        self.lost_now = True
        self._missed = in_reply
        self.stop()
        self._timer = self._loop.call_later(FILLER_AFTER_S, self._fill)

    def back(self) -> bool:
        """Whether the caller noticed, so that the agent should go on where it was."""
        self.lost_now = False
        self.stop()
        missed, self._missed = self._missed, False
        return missed

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fill(self) -> None:
        self._timer = None
        if self._nobody_hears():
            self._timer = self._loop.call_later(FILLER_AFTER_S, self._fill)
            return
        if queued_ms := self._downlink.playout.queued_ms:
            self._timer = self._loop.call_later(queued_ms / 1000, self._fill)
            return
        self._missed = True
        self._downlink.say(self._filler)
        wait_s = self._downlink.playout.queued_ms / 1000 + FILL_AGAIN_S
        self._timer = self._loop.call_later(wait_s, self._fill)
