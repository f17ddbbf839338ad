"""A call as spans: a pure map from its summary, and from what was asked of others meanwhile, to names, times
and attributes. Nothing in it is a telephone number, a key, or anything that was said.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from telbridge.call.events import Ending
from telbridge.call.journal import Happening
from telbridge.call.summary import CallSummary, SessionSetup
from telbridge.call.turns import ToolTime, Turn
from telbridge.ops.trace_context import TraceContext

Attribute = str | int | float | bool
FAILURES: Final = frozenset(
    {
        Ending.AGENT_UNREACHABLE,
        Ending.AGENT_REFUSED,
        Ending.AGENT_LOST,
        Ending.MEDIA_TIMEOUT,
        Ending.LEG_FAILED,
        Ending.INTERNAL_ERROR,
    }
)
"""Endings that make a call's span an error."""
OTHER: Final = "other"
_BEGINNINGS: Final = {"transfer_requested": "transfer", "session_lost": "session.reconnect"}
_ENDS: Final = {
    "transfer_answered": "transfer",
    "transfer_failed": "transfer",
    "session_back": "session.reconnect",
}
_ASKED: Final = frozenset({"webhook", "http", "python"})
_SPANS: Final = {*_BEGINNINGS, *_ENDS, *_ASKED}
"""Happenings that are spans, and so no events of the call's."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An event of a span."""

    name: str
    at_ns: int
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times are nanoseconds since 1970."""

    name: str
    span_id: int
    parent_id: int | None
    """None: the call's own, whose parent is whoever began the trace."""
    start_ns: int
    end_ns: int
    attributes: dict[str, Attribute] = field(default_factory=dict)
    moments: tuple[Moment, ...] = ()
    error: str | None = None
    """What went wrong, in words of ours."""
    asks: bool = False
    """Somebody else was asked: of kind CLIENT."""


class CallTrace:
    """What a call's trace needs while it runs: its ids, for those that are asked; and how long they took."""

    def __init__(
        self, context: TraceContext, parent: TraceContext | None, *, clock: Callable[[], int], wall_ns: int
    ) -> None:
        """`context`: of the call's own span; `parent`: what the call came with. `clock`: monotonic;
        `wall_ns`: now, since 1970."""
        self.context, self.parent = context, parent
        self._clock = clock
        self._offset_ns = wall_ns - clock()
        self.started_ns: Final = wall_ns
        self.asked: Final[list[Span]] = []

    @property
    def trace_id(self) -> str:
        """As people and tools write it."""
        return f"{self.context.trace_id:032x}"

    def now_ns(self) -> int:
        """Since 1970, by a clock that never jumps."""
        return self._clock() + self._offset_ns

    def ask(self, name: str, **attributes: Attribute) -> Request:
        """Somebody is asked now; the answer is told to what is returned."""
        return Request(self, name, attributes)


class Request:
    """One question to somebody else."""

    def __init__(self, trace: CallTrace, name: str, attributes: dict[str, Attribute]) -> None:
        self._trace, self._name, self._attributes = trace, name, attributes
        self._span_id, self._start_ns = new_id(), trace.now_ns()

    @property
    def traceparent(self) -> str:
        """For the one who is asked."""
        return replace(self._trace.context, span_id=self._span_id).header

    def over(self, error: str | None = None) -> None:
        """The answer is there; or none will come, and why."""
        trace = self._trace
        if trace.context.sampled:
            span = Span(
                self._name,
                self._span_id,
                trace.context.span_id,
                self._start_ns,
                trace.now_ns(),
                self._attributes,
                error=error,
                asks=True,
            )
            trace.asked.append(span)


def new_id() -> int:
    """Of a span: 8 octets, not all of them zero."""
    return secrets.randbits(64) or 1


def spans_of(summary: CallSummary, trace: CallTrace, tools: Collection[str]) -> Iterator[Span]:
    """The call's own span first. `tools`: names of the dialplan's; others are an agent's invention."""
    return _Call(summary, trace, tools).spans()


def call_without_summary(trace: CallTrace) -> Iterator[Span]:
    """No dialplan wanted it, or a bug of ours ended it."""
    yield Span("call", trace.context.span_id, None, trace.started_ns, trace.now_ns(), error="no call")
    yield from trace.asked


class _Call:
    def __init__(self, summary: CallSummary, trace: CallTrace, tools: Collection[str]) -> None:
        self._summary, self._trace, self._tools = summary, trace, tools
        self._end_ms = summary.duration_ms

    def spans(self) -> Iterator[Span]:
        yield self._root()
        for setup in self._summary.sessions:
            yield from self._session(setup)
        for number, turn in enumerate(self._summary.turns, 1):
            if turn != Turn(turn.agent):
                yield from self._turn(number, turn)
        yield from self._pairs()
        yield from self._trace.asked

    # ------------------------------------------------------------ the call

    def _root(self) -> Span:
        summary = self._summary
        facts = summary.facts
        attributes: dict[str, Attribute] = {
            "telbridge.call_id": facts.call_id,
            "telbridge.ingress": facts.ingress,
            "telbridge.codec": str(facts.wire_format),
            "telbridge.agent": summary.agent,
            "telbridge.dialplan": summary.dialplan,
            "telbridge.dialplan_version": summary.dialplan_version,
            "telbridge.ending": summary.ending.value,
            "telbridge.turns": sum(1 for turn in summary.turns if turn.replies),
            "telbridge.interruptions": sum(1 for turn in summary.turns if turn.interruption),
            "telbridge.underruns": summary.playout.underruns,
            "telbridge.session_losses": summary.session_losses,
        }
        if facts.trunk:
            attributes["telbridge.trunk"] = facts.trunk
        if summary.quality is not None:
            attributes["telbridge.rtp_lost"] = summary.quality.rx_lost
        return Span(
            "call",
            self._trace.context.span_id,
            None,
            self._at(0.0),
            self._at(self._end_ms),
            attributes,
            tuple(self._moments()),
            error=summary.ending.value if summary.ending in FAILURES else None,
        )

    def _moments(self) -> Iterator[Moment]:
        """Kinds and times; of their facts only how a key came, and what was lost."""
        for event in self._summary.events:
            if event.kind not in _SPANS:
                known = {"key": ("method",), "loss": ("packets", "way")}.get(event.kind, ())
                facts: dict[str, Attribute] = {name: event.facts[name] for name in known}
                yield Moment(event.kind, self._at(event.at_ms), facts)

    # ------------------------------------------------------------ the agent

    def _session(self, setup: SessionSetup) -> Iterator[Span]:
        of: dict[str, Attribute] = {"telbridge.agent": setup.agent}
        gave_up_ms = self._end_ms if setup.gave_up_ms is None else setup.gave_up_ms
        if setup.connect_ms is None:
            yield self._child("session.connect", setup.asked_ms, gave_up_ms, of, error="no connection")
            return
        connected_ms = setup.asked_ms + setup.connect_ms
        yield self._child("session.connect", setup.asked_ms, connected_ms, of)
        if setup.configure_ms is None:
            yield self._child("session.configure", connected_ms, gave_up_ms, of, error="not acknowledged")
        else:
            yield self._child("session.configure", connected_ms, connected_ms + setup.configure_ms, of)

    def _turn(self, number: int, turn: Turn) -> Iterator[Span]:
        """From the caller's first sign, or the agent's where nobody spoke before, to the answer's end."""
        known = [point for point in _points(turn) if point is not None]
        if not known:
            return
        attributes: dict[str, Attribute] = {"telbridge.turn": number, "telbridge.agent": turn.agent}
        if turn.gap_ms is not None:
            attributes["telbridge.turn_gap_ms"] = round(turn.gap_ms, 1)
        for figure, length_ms in turn.server_latency_ms.items():
            attributes[f"telbridge.server_latency.{figure}_ms"] = round(length_ms, 1)
        moments: tuple[Moment, ...] = ()
        if (cut := turn.interruption) is not None:
            facts: dict[str, Attribute] = {"by": cut.by, "heard_ms": cut.heard_ms}
            moments = (Moment("interrupted", self._at(cut.at_ms), facts),)
        end_ms = max(*known, self._heard_until(turn), *_ends(turn))
        span = self._child("turn", min(known), end_ms, attributes)
        yield replace(span, moments=moments)
        at_ms = turn.voice_ended_ms
        for part, length_ms in turn.parts_ms.items():
            assert at_ms is not None
            yield self._child(f"turn.{part}", at_ms, at_ms + length_ms, {}, of=span)
            at_ms += length_ms
        for tool in turn.tools:
            yield self._tool(tool, span)

    def _heard_until(self, turn: Turn) -> float:
        """The end of the speech that begins with the answer, before the caller's next words."""
        began_ms = turn.agent_on_wire_ms
        if began_ms is None:
            return 0.0
        following = (other.caller_started_ms for other in self._summary.turns)
        next_ms = min((ms for ms in following if ms is not None and ms > began_ms), default=self._end_ms)
        stretches = (end for start, end in self._summary.agent_speech if start < next_ms and end >= began_ms)
        return max(stretches, default=began_ms)

    def _tool(self, tool: ToolTime, turn: Span) -> Span:
        name = tool.name if tool.name in self._tools else OTHER
        lost = tool.took_ms is None
        end_ms = self._end_ms if tool.took_ms is None else tool.asked_ms + tool.took_ms
        error = "no result" if lost else None
        return self._child("tool", tool.asked_ms, end_ms, {"gen_ai.tool.name": name}, of=turn, error=error)

    # ------------------------------------------------------------ what begins and ends in the journal

    def _pairs(self) -> Iterator[Span]:
        begun: dict[str, Happening] = {}
        for event in self._summary.events:
            if name := _BEGINNINGS.get(event.kind):
                begun.setdefault(name, event)
            elif (name := _ENDS.get(event.kind)) and (beginning := begun.pop(name, None)) is not None:
                yield self._pair(name, beginning, event)
        for name, beginning in begun.items():
            yield self._pair(name, beginning, None)

    def _pair(self, name: str, beginning: Happening, end: Happening | None) -> Span:
        error = None
        if end is None:
            transferred = name == "transfer" and self._summary.ending is Ending.TRANSFERRED
            error = None if transferred else "the call was over before"
        elif end.kind == "transfer_failed":
            error = f"status {end.facts.get('cause', '')}"
        return self._child(name, beginning.at_ms, self._end_ms if end is None else end.at_ms, {}, error=error)

    # ------------------------------------------------------------ small parts

    def _child(
        self,
        name: str,
        start_ms: float,
        end_ms: float,
        attributes: dict[str, Attribute],
        *,
        of: Span | None = None,
        error: str | None = None,
    ) -> Span:
        parent_id = self._trace.context.span_id if of is None else of.span_id
        start_ns = self._at(start_ms)
        end_ns = max(start_ns, self._at(end_ms))
        return Span(name, new_id(), parent_id, start_ns, end_ns, attributes, error=error)

    def _at(self, at_ms: float) -> int:
        return self._trace.started_ns + round(at_ms * 1e6)


def _points(turn: Turn) -> tuple[float | None, ...]:
    return (
        turn.caller_started_ms,
        turn.voice_ended_ms,
        turn.caller_stopped_ms,
        turn.agent_first_audio_ms,
        turn.agent_on_wire_ms,
        *(tool.asked_ms for tool in turn.tools),
    )


def _ends(turn: Turn) -> Iterator[float]:
    for tool in turn.tools:
        yield tool.asked_ms + (tool.took_ms or 0.0)
    if (cut := turn.interruption) is not None:
        yield cut.at_ms + (cut.stop_ms or 0.0)
