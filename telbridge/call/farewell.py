"""How we end a call: last words, the agent's or our own, or an apology; then we hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from telbridge.call.downlink import Downlink
from telbridge.call.events import Ending, SessionEnd
from telbridge.call.means import Means
from telbridge.call.moments import Moments, first
from telbridge.call.ports import Leg
from telbridge.call.stage import Stage
from telbridge.call.utterances import LAST_WORDS
from telbridge.call.way import Way

LAST_WORDS_MS: Final = 4_000
"""After the session was lost, speech already queued goes on for at most so long before the apology."""
GOODBYE_MS: Final = 60_000
"""An agent that hung up in good order is heard to its end, within reason."""
DRAINED_MS: Final = 1_000
"""The worker's own deadline has passed: what was being said is cut short."""
_LAST_WORDS_MS: Final = {Ending.AGENT_HUNG_UP: GOODBYE_MS, Ending.DRAINED: DRAINED_MS}
RETRY_AFTER_S: Final = 5
HANG_UP_S: Final = 5.0
"""For the leg to confirm its end."""
REFUSALS: Final = {"normal": 480, "busy": 486, "unavailable": 480, "rejected": 603}
"""SIP status for a cause, while the phone still rings (RFC 3261 §21)."""


class Farewell:
    """`part` once, when the conversation is over."""

    def __init__(
        self,
        leg: Leg,
        way: Way,
        downlink: Downlink,
        stage: Stage,
        means: Means,
        moments: Moments,
        apology: bytes,
        *,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`apology`: in the leg's format; b"" for none."""
        self._leg, self._way, self._downlink = leg, way, downlink
        self._stage, self._means, self._moments = stage, means, moments
        self._apology, self._clock, self._log = apology, clock, log

    async def part(self, end: SessionEnd, *, accepted: bool) -> None:
        """`accepted`: our 200 is out."""
        moments = self._moments
        if moments.over.done():
            return
        if not accepted and end.ending in (Ending.DRAINED, Ending.DIALPLAN_HUNG_UP):
            self._refuse(end)
            return
        if self._way.answered_ns is None:
            await first(moments.answered, moments.over, timeout_s=HANG_UP_S)
        if end.ending is Ending.DIALPLAN_HUNG_UP:
            await self._say_last_words()
            await self._hang_up(end)
            return
        await self._played_out(_LAST_WORDS_MS.get(end.ending, LAST_WORDS_MS))
        if end.ending is not Ending.AGENT_HUNG_UP and self._apology:
            self._log.warning("apology", ending=end.ending.value, detail=end.detail[:200])
            await self._apologise()
        await self._hang_up(end)

    async def _hang_up(self, end: SessionEnd) -> None:
        self._downlink.narration.ended(end)
        self._leg.hang_up()
        await first(self._moments.over, timeout_s=HANG_UP_S)

    def _refuse(self, end: SessionEnd) -> None:
        self._downlink.narration.ended(end)
        if end.ending is Ending.DRAINED:
            self._leg.reject(503, retry_after_s=RETRY_AFTER_S)
        else:
            self._leg.reject(REFUSALS.get(end.detail, 480))

    async def _say_last_words(self) -> None:
        """Through the agent where it can, else by ourselves; in place of whatever is being said."""
        last_words = self._means.last_words
        if not last_words:
            return
        moments = self._moments
        self._way.flush(self._clock())
        session = self._way.session
        if session is not None and moments.ready.done() and not moments.session_over.done():
            session.interrupt()
            self._way.note_talking()
        self._stage.say_last(LAST_WORDS, last_words)
        await first(moments.last_said, moments.over, moments.session_over, timeout_s=GOODBYE_MS / 1000)

    async def _apologise(self) -> None:
        """Behind an emptied queue; nothing that the agent still sends may cut it or follow it."""
        self._way.deaf = True
        self._downlink.flush(self._clock())
        self._downlink.say(self._apology)
        await self._played_out(self._downlink.audible.queued_ms + 1000)

    async def _played_out(self, limit_ms: int) -> None:
        if self._downlink.audible.idle:
            return
        self._downlink.drained.clear()
        drained = asyncio.create_task(self._downlink.drained.wait())
        try:
            await first(drained, self._moments.over, timeout_s=limit_ms / 1000)
        finally:
            drained.cancel()
