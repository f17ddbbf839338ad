"""A call in a terminal: the same as its page, in letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from telbridge.ops.verdict import judge
from telbridge.ops.view import words
from telbridge.ops.view.timeline import Span, Timeline, cut_words, timeline, title
from telbridge.ops.waterfall import Wait

COLOURS: Final[Mapping[str, str]] = {
    "uplink": "bright_black",
    "end_of_turn": "yellow",
    "first_audio": "red",
    "tools": "magenta",
    "downlink": "cyan",
    "wire": "bright_black",
}
_MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "cut": ("✕", "red"),
    "bad": ("▲", "red"),
    "key": ("■", "yellow"),
    "dialplan": ("●", "magenta"),
    "agent": ("●", "green"),
    "call": ("●", "bright_black"),
    "line": ("●", "bright_black"),
}
_LANE: Final = 8
"""Columns of the lanes' names."""
BAR: Final = 40
SLOW_MS: Final = (1500.0, 2500.0)
"""Turn gaps that stand out among live calls."""
POOR_MOS: Final = (-3.6, -3.1)
"""The same of MOS, where less is worse: "some users dissatisfied", "many" (ITU-T G.107 annex B)."""


def call_text(record: Mapping[str, Any], width: int) -> RenderableType:
    """All of a call; `width` columns of the terminal."""
    record = _harmless(record)
    line = timeline(record)
    return Group(
        _verdict(record),
        _pairs(words.facts(record)),
        Rule("time-line", align="left", style="bright_black"),
        *_lanes(line, max(20, width - _LANE)),
        Rule("turns", align="left", style="bright_black"),
        *_turns(record, line),
        Rule("measured", align="left", style="bright_black"),
        _pairs(words.quality(record)),
        *_events(record),
    )


def _verdict(record: Mapping[str, Any]) -> Panel:
    verdict = judge(record)
    fine = verdict.kind == "fine"
    where = f" at {words.place(verdict.at_ms)}" if verdict.at_ms is not None else ""
    subtitle = "fine" if fine else f"{verdict.whose.value}{where}"
    return Panel(
        Text(verdict.sentence, style="bold"),
        title=escape(f"call {record['call_id']}"),
        title_align="left",
        subtitle=subtitle,
        subtitle_align="left",
        border_style="green" if fine else "red",
    )


def _pairs(pairs: Iterator[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(value))
    return table


# -------------------------------------------------------------------- time-line


def _lanes(line: Timeline, columns: int) -> Iterator[Text]:
    scale = columns / max(1.0, line.length_ms)
    yield _lane("", [(column, mark, "bright_black") for column, mark in _axis(line, columns)], columns)
    yield _lane("caller", _voice(line.caller, "blue", scale, columns), columns)
    yield _lane("agent", _voice(line.agent, "green", scale, columns), columns)
    waited = [
        (column, "▄", COLOURS.get(part.name, "white"))
        for _, wait in line.waits
        for part, from_ms, to_ms in wait.stretches()
        if to_ms > from_ms
        for column in _columns(from_ms, to_ms, scale, columns)
    ]
    yield _lane("waits", waited, columns)
    marks = [(min(columns - 1, int(mark.at_ms * scale)), *_MARKS[mark.kind]) for mark in line.marks]
    yield _lane("events", marks, columns)


def _lane(name: str, cells: Sequence[tuple[int, str, str]], columns: int) -> Text:
    """`cells`: column, letter, style; a later one covers an earlier one."""
    letters: list[tuple[str, str]] = [(" ", "")] * columns
    for column, letter, style in cells:
        letters[column] = (letter, style)
    text = Text(f"{name:<{_LANE}}", style="bright_black", no_wrap=True)
    for letter, style in letters:
        text.append(letter, style=style or "default")
    return text


def _axis(line: Timeline, columns: int) -> Iterator[tuple[int, str]]:
    """A time every twelve columns or so."""
    for start in range(0, columns - 8, 12):
        shown = words.clock(start / columns * line.length_ms)
        yield from enumerate(shown, start)


def _voice(spans: Sequence[Span], colour: str, scale: float, columns: int) -> list[tuple[int, str, str]]:
    return [
        (column, "█", colour)
        for span in spans
        for column in _columns(span.from_ms, span.to_ms, scale, columns)
    ]


def _columns(from_ms: float, to_ms: float, scale: float, columns: int) -> range:
    """At least one."""
    first = min(columns - 1, int(from_ms * scale))
    return range(first, min(columns, max(first + 1, round(to_ms * scale))))


# -------------------------------------------------------------------- turns and events


def _turns(record: Mapping[str, Any], line: Timeline) -> Iterator[RenderableType]:
    found = dict(line.waits)
    longest = max((wait.ms for wait in found.values()), default=0.0)
    for number, turn in enumerate(record.get("turns") or (), 1):
        yield from _turn(number, turn, found.get(number), longest)


def _turn(
    number: int, turn: Mapping[str, Any], wait: Wait | None, longest_ms: float
) -> Iterator[RenderableType]:
    began = turn.get("caller_started_ms") or turn.get("agent_first_frame_ms")
    yield Text(
        f"turn {number}" + (f"  {words.place(began)}" if began is not None else ""), style="bright_black"
    )
    if turn.get("caller_text"):
        yield _said("caller", "blue", turn["caller_text"])
    if wait is not None:
        yield Padding(_bar(wait, longest_ms), (0, 0, 0, 2))
    if turn.get("agent_text"):
        yield _said("agent", "green", turn["agent_text"])
    if (cut := turn.get("interruption")) is not None:
        yield Text(f"  ✕ {cut_words(cut)}", style="red")


def _said(who: str, colour: str, text: str) -> Padding:
    return Padding(Text.assemble((f"{who}: ", colour), text), (0, 0, 0, 2))


def _bar(wait: Wait, longest_ms: float) -> Text:
    """As long as its share of the longest wait of the call."""
    text = Text()
    for part in wait.parts:
        text.append("▄" * round(part.ms / max(1.0, longest_ms) * BAR), style=COLOURS.get(part.name, "white"))
    text.append(f" {words.length(wait.ms)}", style="bold")
    shown = ", ".join(f"{part.title} {words.length(part.ms)}" for part in wait.parts if part.ms >= 1)
    text.append(f"  {shown}", style="bright_black")
    return text


def _events(record: Mapping[str, Any]) -> Iterator[RenderableType]:
    events = record.get("events") or ()
    if events:
        yield Rule("events", align="left", style="bright_black")
        yield _pairs((words.place(event["at_ms"]), title(event)) for event in events)


def _harmless(value: Any) -> Any:
    """Callers choose what stands in their headers: nothing of it may steer a terminal."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else "·" for c in value)
    if isinstance(value, Mapping):
        return {_harmless(key): _harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(inner) for inner in value]
    return value


# -------------------------------------------------------------------- live calls


def top_text(calls: Sequence[Mapping[str, Any]]) -> Table:
    """The live calls, the longest first."""
    title = "1 live call" if len(calls) == 1 else f"{len(calls)} live calls"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("call", no_wrap=True)
    table.add_column("caller", no_wrap=True)
    for name in ("called", "agent", "dialplan"):  # A narrow terminal takes it from these.
        table.add_column(name, overflow="ellipsis")
    for name in ("lasts", "turns", "cuts", "gap", "MOS"):
        table.add_column(name, no_wrap=True, justify="right")
    for call in sorted(map(_harmless, calls), key=lambda call: -float(call["duration_ms"])):
        figures = call.get("live") or {}
        mos, gap_ms = figures.get("mos"), figures.get("gap_ms")
        table.add_row(
            *(Text(str(call[name])) for name in ("call_id", "caller", "called", "agent", "dialplan")),
            words.clock(call["duration_ms"]),
            str(figures.get("turns", 0)),
            str(figures.get("interruptions", 0)),
            _coloured(words.length(gap_ms), gap_ms, SLOW_MS),
            _coloured("–" if mos is None else f"{mos:.1f}", None if mos is None else -mos, POOR_MOS),
        )
    return table


def _coloured(shown: str, figure: float | None, limits: tuple[float, float]) -> Text:
    """Yellow from the first limit on, red from the second."""
    orange, red = limits
    if figure is None or figure < orange:
        return Text(shown)
    return Text(shown, style="red" if figure >= red else "yellow")
