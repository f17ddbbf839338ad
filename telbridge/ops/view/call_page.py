"""One call as a page: what was worst, both voices, each turn, and all that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from telbridge.ops.verdict import judge, waits
from telbridge.ops.view import words
from telbridge.ops.view.drawing import drawing, legend
from telbridge.ops.view.html import Html, definitions, page, tag
from telbridge.ops.view.timeline import cut_words, timeline, title
from telbridge.ops.waterfall import Wait


def call_page(record: Mapping[str, Any], *, live: bool = False) -> Html:
    """`live`: the call still goes on; the page shows it as far as it has come, and keeps up with it."""
    call_id = str(record["call_id"])
    return page(
        f"Call {call_id}",
        tag(
            "nav",
            tag("a", "Calls", href="/calls"),
            " / ",
            tag("span", call_id, class_="mono"),
            " · ",
            tag("a", "JSON", href=f"/calls/{quote(call_id, safe='')}?format=json"),
        ),
        tag("div", *_head(record, live=live), *_body(record), id="live" if live else None),
        script=live,
    )


def _head(record: Mapping[str, Any], *, live: bool) -> Iterator[Html]:
    if live:
        yield tag("h1", f"On the phone for {words.clock(record['duration_ms'])}")
        yield tag("span", "live", class_="badge fine")
        yield tag("span", f" {', '.join(_now(record))}", class_="soft")
        return
    verdict = judge(record)
    yield tag("h1", verdict.sentence)
    if verdict.kind == "fine":
        yield tag("span", "fine", class_="badge fine")
    else:
        yield tag("span", verdict.whose.value, class_="badge")
        if verdict.at_ms is not None:
            yield tag("span", f" at {words.place(verdict.at_ms)}", class_="soft")


def _now(record: Mapping[str, Any]) -> Iterator[str]:
    """What a worker tells of each live call all the time."""
    figures = record.get("live") or {}
    if (turns := figures.get("turns")) is not None:
        yield f"{turns} turns" if turns != 1 else "1 turn"
    if figures.get("gap_ms") is not None:
        yield f"waited {words.length(figures['gap_ms'])} last"
    if figures.get("mos") is not None:
        yield f"MOS {figures['mos']:.1f}"


def _body(record: Mapping[str, Any]) -> Iterator[Html]:
    line = timeline(record)
    yield tag("section", tag("h2", "Time-line"), drawing(line), legend(line))
    yield _facts(record)
    if record.get("recording"):
        source = f"/calls/{quote(str(record['call_id']), safe='')}/recording"
        player = tag("audio", controls="", preload="metadata", src=source)
        yield tag("section", tag("h2", "Recording: caller left, agent right"), player)
    if record.get("turns"):
        yield tag("section", tag("h2", "Turns"), tag("ol", *_turns(record), class_="turns"))
    yield tag("section", tag("h2", "Measured"), definitions(words.quality(record)))
    if record.get("events"):
        yield tag(
            "section", tag("h2", "Events"), tag("table", tag("tbody", *_events(record)), class_="events")
        )


def _facts(record: Mapping[str, Any]) -> Html:
    return tag("section", tag("h2", "The call"), definitions(words.facts(record)))


def _turns(record: Mapping[str, Any]) -> Iterator[Html]:
    found = dict(waits(record))
    longest = max((wait.ms for wait in found.values()), default=0.0)
    for number, turn in enumerate(record["turns"], 1):
        yield tag("li", *_turn(number, turn, found.get(number), longest))


def _turn(number: int, turn: Mapping[str, Any], wait: Wait | None, longest_ms: float) -> Iterator[Html]:
    began = next(
        (turn[key] for key in ("caller_started_ms", "agent_first_frame_ms") if turn.get(key) is not None),
        None,
    )
    shown = f"turn {number}" + (f" · {words.place(began)}" if began is not None else "")
    waited = f"waited {words.length(wait.ms)}" if wait is not None else ""
    yield tag("header", tag("span", shown), tag("span", waited))
    if turn.get("caller_text"):
        yield tag("p", turn["caller_text"], class_="said")
    if wait is not None:
        yield from _waterfall(wait, longest_ms)
    if turn.get("agent_text"):
        yield tag("p", turn["agent_text"], class_="answered")
    for remark in _remarks(turn):
        yield tag("p", remark, class_="cut")
    if notes := list(_notes(turn)):
        yield tag("p", "; ".join(notes), class_="soft")


def _waterfall(wait: Wait, longest_ms: float) -> Iterator[Html]:
    share = 100 / max(longest_ms, 1.0)
    parts = [part for part in wait.parts if part.ms > 0]
    yield tag(
        "div",
        *(
            tag("i", class_=f"p-{part.name}", style=f"width:{part.ms * share:.2f}%", title=part.title)
            for part in parts
        ),
        class_="wait",
    )
    shown = (tag("span", part.title, " ", tag("b", words.length(part.ms))) for part in parts)
    yield tag("div", *shown, class_="parts")


def _remarks(turn: Mapping[str, Any]) -> Iterator[str]:
    if (cut := turn.get("interruption")) is not None:
        yield "✕ " + cut_words(cut)
    if over_ms := turn.get("agent_over_caller_ms"):
        yield f"✕ the agent began while the caller spoke, who went on for {words.length(over_ms)}"
    if missed := turn.get("missed_interruptions"):
        yield f"✕ {missed} interruptions by the caller that nobody noticed"


def _notes(turn: Mapping[str, Any]) -> Iterator[str]:
    for tool in turn.get("tools") or ():
        yield f"tool {tool['name']} {words.length(tool.get('took_ms'))}"
    for name, ms in (turn.get("server_latency_ms") or {}).items():
        yield f"the API says {name} {words.length(ms)}"


def _events(record: Mapping[str, Any]) -> Iterator[Html]:
    for event in record["events"]:
        yield tag("tr", tag("td", words.place(event["at_ms"]), class_="mono"), tag("td", title(event)))
    if record.get("events_dropped"):
        yield tag("tr", tag("td", "…"), tag("td", f"{record['events_dropped']} more were not kept"))
