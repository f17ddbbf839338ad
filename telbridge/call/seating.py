"""Who sits in the agent's seat: how the first one comes to it, and how another takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from telbridge.call.downlink import Downlink
from telbridge.call.events import Ending, SessionEnd
from telbridge.call.moments import Moments, comes, first
from telbridge.call.observer import Observer
from telbridge.call.ports import Agents, Leg, Session, SessionImpossible
from telbridge.call.record import Record
from telbridge.call.seat import Seat
from telbridge.call.turns import TurnBook
from telbridge.call.way import Way
from telbridge.dialplan.orders import SwitchAgent
from telbridge.dialplan.plan import Plan

SWITCH_S: Final = 15.0
REPLIES_APART: Final = 1_000_000
"""Between the reply ids of one agent and the next."""


class Seating:
    """One call's. A session that ends in its seat ends the call."""

    def __init__(
        self,
        leg: Leg,
        agents: Agents,
        plan: Plan,
        way: Way,
        turns: TurnBook,
        downlink: Downlink,
        moments: Moments,
        record: Record,
        *,
        clock: Callable[[], int],
        observer: Observer,
        log: Any,
    ) -> None:
        self._leg, self._agents, self._plan, self._way = leg, agents, plan, way
        self._turns, self._downlink, self._moments, self._record = turns, downlink, moments, record
        self._clock, self._observer, self._log = clock, observer, log

    def seat(self, session: Session) -> None:
        """The call's first agent."""
        self._way.seat = self._take(session, self._turns.agent)

    async def switch(self, order: SwitchAgent) -> str | None:
        """The new agent is connected beside the old one and takes its seat when it is ready; why not."""
        way, over = self._way, self._moments.over
        old = way.seat
        if old is None:
            return "there is no agent yet"
        try:
            session = self._agents.open(
                order.wanted,
                said=old.session.said if order.handover else (),
                replies_from=max(way.heard_from, default=0) + REPLIES_APART,
            )
        except SessionImpossible as why:
            return str(why)
        agent = order.wanted.agent or self._plan.default_agent
        seat = self._take(session, agent)
        arrived = asyncio.ensure_future(seat.ready.wait())
        await first(seat.task, arrived, over, timeout_s=SWITCH_S)
        arrived.cancel()
        if not seat.ready.is_set() or seat.task.done() or way.deaf or over.done():
            seat.note_connected()
            seat.setup.gave_up_ms = self._record.now_ms()
            await seat.leave()
            return "the new agent did not come"
        if old.reply is not None:
            way.complete(old.reply)
        way.seat, self._turns.agent = seat, agent
        self._downlink.utterances.lost()
        await old.leave()
        return None

    def _take(self, session: Session, agent: str) -> Seat:
        asked_ns = self._clock()
        seat = Seat(
            session,
            self._leg.format,
            self._way.on_event,
            agent=agent,
            asked_ns=asked_ns,
            setup=self._record.asked_for(agent, asked_ns),
            observer=self._observer,
        )
        seat.task.add_done_callback(lambda _: self._on_over(seat))
        return seat

    def _on_over(self, seat: Seat) -> None:
        """An exception here is a bug of ours: the log gets its traceback, the caller an apology."""
        if seat is not self._way.seat or self._moments.session_over.done():
            return
        try:
            end = seat.end()
        except Exception as error:  # noqa: BLE001 - the wall between a session and its call
            self._log.error("session_bug", exc_info=error)
            end = SessionEnd(Ending.INTERNAL_ERROR, type(error).__name__)
        comes(self._moments.session_over, end)
