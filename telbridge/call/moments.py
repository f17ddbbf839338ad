"""The few moments that decide what happens to a call next; each comes once, or never."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from telbridge.call.events import Ending, LegEnded, SessionEnd

T = TypeVar("T")


class Moments:
    """One call's, as futures that `comes` sets and `first` waits for."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: Final[asyncio.Future[None]] = loop.create_future()
        """The agent is configured."""
        self.answered: Final[asyncio.Future[None]] = loop.create_future()
        self.over: Final[asyncio.Future[LegEnded]] = loop.create_future()
        """Nobody is on the line any more."""
        self.broken: Final[asyncio.Future[SessionEnd]] = loop.create_future()
        """We end it, whatever its two sides would do."""
        self.session_over: Final[asyncio.Future[SessionEnd]] = loop.create_future()
        self.end_asked: Final[asyncio.Future[None]] = loop.create_future()
        """The worker drains and its deadline passed."""
        self.last_said: Final[asyncio.Future[None]] = loop.create_future()
        """The last words have been heard, or cut."""

    def break_off(self, ending: Ending, detail: str) -> None:
        """The first reason stands."""
        comes(self.broken, SessionEnd(ending, detail))

    @property
    def ends(self) -> tuple[asyncio.Future[Any], ...]:
        """Each is the end of the conversation."""
        return self.session_over, self.broken, self.over, self.end_asked

    @property
    def failed(self) -> bool:
        return self.session_over.done() or self.broken.done()

    @property
    def refused_by_dialplan(self) -> bool:
        return self.broken.done() and self.broken.result().ending is Ending.DIALPLAN_HUNG_UP

    def verdict(self) -> SessionEnd:
        """The side that ended first, the leg before the session: nobody is there to hear the rest."""
        if self.over.done():
            ended = self.over.result()
            return SessionEnd(ended.ending, ended.detail)
        if self.broken.done():
            return self.broken.result()
        if self.session_over.done():
            return self.session_over.result()
        return SessionEnd(Ending.DRAINED)


def comes(moment: asyncio.Future[T], what: T) -> None:
    """Unless it came before."""
    if not moment.done():
        moment.set_result(what)


async def first(*waits: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Until one of them is done. They are left as they are."""
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
