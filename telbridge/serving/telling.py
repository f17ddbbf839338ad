"""What a worker tells its supervisor: JSON lines on its stdout."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from telbridge.call.call import Call
from telbridge.call.events import CallFacts, Ending
from telbridge.dialplan.plan import Plan
from telbridge.ops.exemplars import Told
from telbridge.ops.records import Privacy, record_of, record_without_a_call, worse_mos
from telbridge.serving.live import pieces

FIGURES_S: Final = 3.0
"""Between two looks at a live call."""


def say(**message: Any) -> None:
    """One line to the supervisor."""
    print(json.dumps(message), flush=True)


class Telling:
    """Of a worker's calls."""

    def __init__(self, calls: Mapping[str, Call], privacy: Privacy) -> None:
        """`calls`: the live ones, by their ids."""
        self._calls, self._privacy = calls, privacy
        self._counts = 0, 0
        self._figures: dict[str, dict[str, Any]] = {}
        """As they were told last."""

    def count(self, calls: int, streams: int) -> None:
        """For the dispatcher, which sees neither the calls that were there before it nor those of streams."""
        if (calls, streams) != self._counts:
            self._counts = calls, streams
            say(event="calls", calls=calls, streams=streams)

    def started(self, facts: CallFacts, plan: Plan, agent: str) -> None:
        """As the record that stays, should this process die before it writes a better one."""
        record = record_without_a_call(facts, Ending.INTERNAL_ERROR, "", self._privacy)
        begun = {**record, "agent": agent, "dialplan": plan.name, "dialplan_version": plan.version}
        say(event="call_started", record=begun)

    def ended(self, record: Mapping[str, Any], worst: Sequence[Told]) -> None:
        """`worst`: for the supervisor's page of metrics."""
        exemplar = {name: record[name] for name in ("call_id", "trace_id") if name in record}
        say(event="call_ended", call_id=record["call_id"], exemplar=exemplar, worst=worst)

    def show(self, call_id: str) -> None:
        """A call that somebody looks at, as its record would be now."""
        if (call := self._calls.get(call_id)) is not None:
            record = record_of(call.so_far(), self._privacy, datetime.now(UTC))
            for part, last in pieces(json.dumps(record)):
                say(event="call_now", call_id=call_id, part=part, last=last)

    async def figures(self) -> None:
        """Of each call now and then, if they are new; one after the other, so that the loop is never held up
        for long."""
        while True:
            self._figures = {
                call_id: told for call_id, told in self._figures.items() if call_id in self._calls
            }
            for call_id in list(self._calls):
                self._figures_of(call_id)
                await asyncio.sleep(FIGURES_S / max(1, len(self._calls)))
            if not self._calls:
                await asyncio.sleep(FIGURES_S)

    def _figures_of(self, call_id: str) -> None:
        call = self._calls.get(call_id)
        if call is None:
            return
        quality = call.look_at_line()
        mos = worse_mos(quality) if quality else None
        figures = {**call.figures(), "mos": mos}
        if figures != self._figures.get(call_id):
            self._figures[call_id] = figures
            say(event="call_figures", call_id=call_id, figures=figures)
