"""The actor that joins one leg and one session: its life, from the first ring to the summary.

It lives on the event loop and holds no queue but the playout: audio passes in plain calls (`way`), events
change its state (`leg_events`, `agent_events`), and `run` waits for the few moments that decide what happens
next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from telbridge.audio.speech import SpeechMeter
from telbridge.call.agent_events import AgentEvents
from telbridge.call.director import Director, Script
from telbridge.call.downlink import Downlink
from telbridge.call.events import Ending, LegQuality, SessionEnd
from telbridge.call.farewell import HANG_UP_S, Farewell
from telbridge.call.goodbye import Goodbye
from telbridge.call.greeter import Greeter
from telbridge.call.journal import OF_TURNS
from telbridge.call.leg_events import LegEvents
from telbridge.call.means import Means
from telbridge.call.moments import Moments, comes, first
from telbridge.call.observer import NOBODY, Observer
from telbridge.call.owed import Owed
from telbridge.call.ports import Agents, Leg, Outside, SessionImpossible
from telbridge.call.record import Record
from telbridge.call.recovery import Recovery
from telbridge.call.seating import Seating
from telbridge.call.session_events import SessionEvents
from telbridge.call.stage import Stage
from telbridge.call.summary import CallSummary
from telbridge.call.taping import Tape, Taping
from telbridge.call.turns import TurnBook
from telbridge.call.utterances import GREETING, LAST_WORDS
from telbridge.call.way import Way

LOOKUP_S: Final = 10.0
"""What `on.ringing` asks other servers may keep the agent waiting for so long; the phone rings meanwhile."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What this call is to be; resolved before it starts."""

    script: Script
    greeting_is_default: bool
    """Nobody chose the greeting: one of the agent's own goes before it."""
    apology: bytes
    """Spoken by ourselves when the agent cannot be; in the leg's format."""
    filler: bytes
    """Spoken by ourselves while a lost session is being got back; in the leg's format."""
    reply_timeout_s: float
    """An agent that owes an answer and stays silent so long counts as lost."""
    observer: Observer = NOBODY
    """Is told what the metrics want to know."""
    tape: Tape | None = None
    """Where the call is recorded, if it may be at all."""
    asks_first: bool = False
    """It is recorded only once the caller has agreed."""


class Call:
    """One call. `run` once."""

    def __init__(
        self,
        leg: Leg,
        agents: Agents,
        plan: CallPlan,
        outside: Outside,
        *,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._leg, self._agents, self._clock, self._log = leg, agents, clock, log
        script, observer, started_ns, tell = plan.script, plan.observer, clock(), self._tell
        loop = asyncio.get_running_loop()
        meter = SpeechMeter(leg.format)
        turns = TurnBook(started_ns, meter, script.agent, observer.turn_over)
        moments = Moments()
        taping = Taping(plan.tape, asks_first=plan.asks_first, started_ns=started_ns, later=loop.call_later)
        downlink = Downlink(leg, turns, taping, tell=tell, said=self._on_said, clock=clock)
        timeout_s = plan.reply_timeout_s
        silent = partial(moments.break_off, Ending.AGENT_LOST, f"no answer for {timeout_s:g} s")
        hung_up = partial(moments.break_off, Ending.AGENT_HUNG_UP, "by its tool")
        owed, goodbye = Owed(timeout_s, silent), Goodbye(timeout_s, hung_up)
        way = Way(leg, downlink, taping, meter, turns, moments, owed, goodbye, clock=clock)
        recovery = Recovery(downlink, plan.filler, loop, way.agent_unheard)
        record = Record(
            leg, script, way, downlink, turns, meter, recovery, started_ns=started_ns, clock=clock, log=log
        )
        greeter = Greeter(downlink.utterances, outside, is_default=plan.greeting_is_default)
        seating = Seating(
            leg,
            agents,
            script.plan,
            way,
            turns,
            downlink,
            moments,
            record,
            clock=clock,
            observer=observer,
            log=log,
        )
        means = Means(
            leg,
            way,
            downlink,
            taping,
            moments,
            greeter,
            seating,
            owed,
            goodbye,
            recovery,
            said=self._on_said,
            clock=clock,
        )
        stage = Stage(means, leg, outside, record, clock=clock, observer=observer, log=log)
        stage.director = director = Director(script, stage.perform, clock=clock)
        of_session = SessionEvents(
            way, downlink, turns, moments, greeter, owed, recovery, record, tell=tell, log=log
        )
        way.on_news = AgentEvents(
            way, downlink, turns, director, moments, owed, goodbye, of_session, record, tell=tell, log=log
        ).take
        self._leg_events = LegEvents(
            way, taping, stage, means, director, moments, owed, record, tell=tell, observer=observer
        )
        self._farewell = Farewell(
            leg, way, downlink, stage, means, moments, plan.apology, clock=clock, log=log
        )
        self._way, self._downlink, self._taping, self._moments = way, downlink, taping, moments
        self._owed, self._goodbye, self._recovery, self._record = owed, goodbye, recovery, record
        self._greeter, self._seating, self._stage, self._director = greeter, seating, stage, director

    # ------------------------------------------------------------ for those who watch it

    def look_at_line(self) -> LegQuality | None:
        """See `Record.look_at_line`."""
        return self._record.look_at_line()

    def figures(self) -> dict[str, Any]:
        """See `Record.figures`."""
        return self._record.figures()

    def so_far(self) -> CallSummary:
        """See `Record.so_far`."""
        return self._record.so_far()

    # ------------------------------------------------------------ life

    def end(self) -> None:
        """Ask the call to end: the worker drains and its deadline passed."""
        comes(self._moments.end_asked, None)

    async def run(self) -> CallSummary:
        """From the first ring to the summary; both sides are ended, whatever fails first."""
        self._leg.attach(self._way, self._leg_events.take)
        self._leg.ring()
        try:
            end = await self._live()
            self._director.ended(end.ending.value)
            return self._record.whole(end)
        finally:
            self._way.deaf = True
            self._owed.nothing()
            self._recovery.stop()
            self._goodbye.wait()
            self._director.ended(Ending.INTERNAL_ERROR.value)
            self._leg.hang_up()
            self._taping.end(self._clock())
            if self._way.seat is not None:
                await self._way.seat.leave()
            await self._stage.close()
            await first(self._moments.over, timeout_s=HANG_UP_S)

    async def _live(self) -> SessionEnd:
        """Ring, answer, talk, part; returns why it ended."""
        moments, accepted = self._moments, False
        await self._open()
        await first(moments.ready, *moments.ends)
        if not moments.over.done() and not moments.end_asked.done() and not moments.refused_by_dialplan:
            self._leg.answer()
            accepted = True
            if not moments.failed:
                await first(moments.answered, *moments.ends)
            if not moments.failed and moments.answered.done() and not moments.over.done():
                self._log.info("answered", ms=round(self._record.now_ms()))
                await first(*moments.ends)
        end = moments.verdict()
        self._way.talking = False
        self._owed.nothing()
        self._recovery.stop()
        await self._farewell.part(end, accepted=accepted)
        return end

    async def _open(self) -> None:
        """Look up what the dialplan wants to know of the caller, then ask for the agent."""
        self._tell("ringing")
        moments = self._moments
        known = asyncio.ensure_future(self._director.prepared.wait())
        await first(known, moments.over, moments.broken, moments.end_asked, timeout_s=LOOKUP_S)
        known.cancel()
        if moments.over.done() or moments.broken.done() or moments.end_asked.done():
            return
        opening = self._director.opening()
        try:
            session = self._agents.open(opening.wanted)
        except SessionImpossible as why:
            moments.break_off(Ending.AGENT_REFUSED, str(why))
            return
        self._greeter.choose(opening)
        self._greeter.ask(session)
        self._seating.seat(session)

    # ------------------------------------------------------------ what happens, told to all who care

    def _tell(self, event: str, /, **facts: str) -> None:
        """By its name in a dialplan."""
        if event not in OF_TURNS:
            self._record.note(event, **facts)
        if not self._way.deaf:
            self._downlink.narration.happened(event, facts)
            self._director.happened(event, **facts)

    def _on_said(self, token: int) -> None:
        """Words that were asked for are over."""
        if token == GREETING:
            self._tell("greeting_done")
        elif token == LAST_WORDS:
            comes(self._moments.last_said, None)
        elif not self._way.deaf:
            self._director.done(token)
