"""Calls as a page: those that go on, and those that are over, filtered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from telbridge.ops.view import words
from telbridge.ops.view.html import Html, page, tag

FILTERS: Final[Mapping[str, str]] = {
    "caller": "caller",
    "called": "called",
    "agent": "agent",
    "dialplan": "dialplan",
    "ingress": "over",
    "trunk": "trunk",
}
"""Text fields, by the names of the query."""
CHOICES: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "whose": ("whose fault", ("agent", "line", "telbridge", "dialplan", "operator")),
    "ending": ("ended", tuple(ending for ending in words.ENDINGS if ending)),
}


def list_page(
    live: Sequence[Mapping[str, Any]],
    over: Sequence[Mapping[str, Any]],
    asked: Mapping[str, str],
    *,
    older: str | None,
    trouble: str = "",
) -> Html:
    """`live`: records as far as they go, `over`: rows of the store, `asked`: the query, `older`: where the
    next page begins, `trouble`: why the calls that are over cannot be shown."""
    return page(
        "Calls",
        tag("h1", "Calls"),
        tag("section", tag("h2", f"Live · {len(live)}"), *_live(live, asked), id="live"),
        tag("section", _form(asked)),
        tag("section", tag("h2", "Over"), *_over(over, asked, older, trouble)),
        script=True,
    )


def _form(asked: Mapping[str, str]) -> Html:
    fields = [
        tag("label", title, tag("input", name=name, value=asked.get(name, "")))
        for name, title in FILTERS.items()
    ]
    for name, (title, values) in CHOICES.items():
        options = [tag("option", "any", value="")]
        options += [
            tag("option", value, value=value, selected="" if asked.get(name) == value else None)
            for value in values
        ]
        fields.append(tag("label", title, tag("select", *options, name=name)))
    form = tag("form", *fields, tag("button", "Filter"), action="/calls")
    chosen = [f"{name} {asked[name]}" for name in (*FILTERS, *CHOICES) if name in asked]
    shown = f"Filter: {', '.join(chosen)}" if chosen else "Filter"
    return tag("details", tag("summary", shown), form, open="" if chosen else None)


def _live(calls: Sequence[Mapping[str, Any]], asked: Mapping[str, str]) -> Iterator[Html]:
    if not calls:
        yield tag("p", "No such call." if asked else "Nobody is on the phone.", class_="soft")
        return
    names = ("call", "caller", "called", "agent", "dialplan", "lasts", "turns", "waited", "MOS")
    yield _table(names, 5, (_live_row(call) for call in calls))


def _live_row(call: Mapping[str, Any]) -> Html:
    figures = call.get("live") or {}
    mos = figures.get("mos")
    return tag(
        "tr",
        _link(call["call_id"]),
        _cell("caller", words.number(call["caller"])),
        _cell("called", words.number(call["called"])),
        _cell("agent", call["agent"]),
        _cell("dialplan", call["dialplan"]),
        _cell("lasts", words.clock(call["duration_ms"]), figure=True),
        _cell("turns", figures.get("turns", 0), figure=True),
        _cell("waited", words.length(figures.get("gap_ms")), figure=True),
        _cell("MOS", "–" if mos is None else f"{mos:.1f}", figure=True),
    )


def _over(
    calls: Sequence[Mapping[str, Any]], asked: Mapping[str, str], older: str | None, trouble: str
) -> Iterator[Html]:
    if trouble:
        yield tag(
            "p", f"The database does not answer: {trouble}. Records wait on disk meanwhile.", class_="cut"
        )
        return
    if not calls:
        yield tag("p", "No such call." if asked else "None yet.", class_="soft")
        return
    names = ("call", "ended", "caller", "called", "agent", "how", "worst", "lasted", "turns", "longest wait")
    yield _table(names, 7, (_over_row(call) for call in calls))
    if older is not None:
        query = urlencode({**asked, "before": older})
        yield tag("p", tag("a", "older calls", href=f"/calls?{query}"), class_="more")


def _over_row(call: Mapping[str, Any]) -> Html:
    badge = tag("span", call["worst"].replace("_", " "), class_="badge" if call["whose"] else "badge fine")
    whose = f" {call['whose']}" if call["whose"] else ""
    return tag(
        "tr",
        _link(call["call_id"]),
        tag("td", words.day_and_time(call["ended_at"].isoformat().replace("T", " ")).removesuffix(" UTC")),
        _cell("caller", words.number(call["caller"])),
        _cell("called", words.number(call["called"])),
        _cell("agent", call["agent"]),
        _cell("", words.ENDINGS.get(call["ending"], call["ending"])),
        tag("td", badge, tag("small", whose)),
        _cell("lasted", words.length(call["duration_ms"]), figure=True),
        _cell("turns", call["turns"], figure=True),
        _cell("longest wait", words.length(call["worst_gap_ms"]), figure=True),
    )


def _table(names: Sequence[str], figures_from: int, rows: Iterator[Html]) -> Html:
    heads = (
        tag("th", name, class_="figure" if index >= figures_from else None)
        for index, name in enumerate(names)
    )
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="list")


def _link(call_id: str) -> Html:
    return tag("td", tag("a", call_id, href=f"/calls/{quote(call_id, safe='')}"), class_="mono")


def _cell(label: str, value: object, *, figure: bool = False) -> Html:
    return tag("td", value, data_label=label or None, class_="figure" if figure else None)
