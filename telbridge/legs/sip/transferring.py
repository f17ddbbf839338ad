"""The transfers of a leg with their clock: asks for them, gives them up, tells how they went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from telbridge.call.events import LegEvent
from telbridge.legs.sip.refer import Transfer, progress, refer_to

NOT_CONNECTED = 0
BAD_TARGET = 400


class CannotRefer(Exception):
    """The library does not send it."""


class Transferring:
    """`send(refer_to)` sends REFER, CannotRefer if it cannot; `done()` ends the leg, outside any callback."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        send: Callable[[str], None],
        emit: Callable[[LegEvent], None],
        done: Callable[[], None],
        log: Any,
    ) -> None:
        self._loop, self._clock, self._log = loop, clock, log
        self._send, self._emit, self._done = send, emit, done
        self._transfer = Transfer()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def succeeded(self) -> bool:
        return self._transfer.done

    def begin(self, target: str, peer_host: str, timeout_s: float) -> None:
        """One at a time: while one is pending, another is not begun."""
        if self._transfer.pending or self._transfer.done:
            self._log.warning("sip_transfer_ignored", why="another one is pending")
            return
        try:
            where = refer_to(target, peer_host)
        except ValueError as error:
            self._tell(self._transfer.refused(BAD_TARGET, self._clock(), str(error)))
            return
        self._transfer.begin()
        self._timer = self._loop.call_later(timeout_s, self._expire)
        try:
            self._send(where)
        except CannotRefer as error:
            self._tell(self._transfer.refused(NOT_CONNECTED, self._clock(), str(error)))

    def answered(self, status: int, response: str) -> None:
        """The final response to our REFER."""
        self._tell(self._transfer.refer_answered(status, response, self._clock()))

    def notified(self, notify: str) -> None:
        """A NOTIFY of this dialog."""
        if news := progress(notify):
            self._tell(self._transfer.notified(news, self._clock()))

    def peer_hung_up(self) -> None:
        """Perhaps because the transfer went well: see `succeeded`."""
        self._tell(self._transfer.peer_hung_up(self._clock()))

    def stop(self) -> None:
        """The leg is over: no event follows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._tell(self._transfer.expired(self._clock()))

    def _tell(self, events: list[LegEvent]) -> None:
        for event in events:
            self._emit(event)
        if not self._transfer.pending:
            self.stop()
        if events and self._transfer.done:
            self._loop.call_soon(self._done)
