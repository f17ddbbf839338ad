"""A call for people's eyes: what stands on its time-line, as a page and in a terminal."""

from __future__ import annotations

from html.parser import HTMLParser
from io import StringIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from telbridge.ops.view import words
from telbridge.ops.view.call_page import call_page
from telbridge.ops.view.html import tag
from telbridge.ops.view.terminal import call_text, top_text
from telbridge.ops.view.timeline import timeline
from tests.records.made import answered, cut, greeting, record

VOICES = {"caller": [[3000.0, 4000.0], [4200.0, 5000.0]], "agent": [[970.0, 2500.0], [5606.0, 9000.0]]}
EVENTS = [
    {"at_ms": 900.0, "kind": "answered"},
    {"at_ms": 4000.0, "kind": "key", "method": "rfc4733"},
    {"at_ms": 6000.0, "kind": "loss", "packets": "12", "way": "from the caller"},
    {"at_ms": 6500.0, "kind": "greeting_done"},
]
TURNS = [greeting(), answered(5000.0, more={"interruption": cut(9000.0), "caller_text": "No <b>thanks</b>."})]
FULL = record(voices=VOICES, events=EVENTS, turns=TURNS)


class Reader(HTMLParser):
    """The text and the elements of a page; every element is closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in ("meta", "input"):
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, name: str, class_: str) -> int:
        return sum(1 for found, attrs in self.elements if (found, attrs.get("class")) == (name, class_))


def printed(what: RenderableType, width: int = 100) -> str:
    out = StringIO()
    Console(file=out, width=width, highlight=False).print(what)
    return out.getvalue()


# ---------------------------------------------------------------- the time-line


def test_both_voices_stand_with_their_words_where_they_were_heard() -> None:
    line = timeline(FULL)
    assert [(span.from_ms, span.to_ms, span.text) for span in line.caller] == [
        (3000.0, 4000.0, "No <b>thanks</b>."),
        (4200.0, 5000.0, ""),
    ]
    assert [(span.from_ms, span.text) for span in line.agent] == [(970.0, "Hello."), (5606.0, "Good.")]


def test_waits_keys_interruptions_and_losses_are_marked_with_their_times() -> None:
    line = timeline(FULL)
    assert [(number, wait.from_ms, wait.ms) for number, wait in line.waits] == [(2, 5000.0, 606.0)]
    assert [(mark.at_ms, mark.kind) for mark in line.marks] == [
        (900.0, "call"),
        (4000.0, "key"),
        (6000.0, "bad"),
        (9000.0, "cut"),
    ]
    assert line.marks[2].title == "packets lost: 12, from the caller"


# ---------------------------------------------------------------- the page


def test_the_page_draws_each_stretch_each_part_and_each_mark() -> None:
    sessions = [{"agent": "deepgram", "asked_ms": 5.0, "connect_ms": 120.4, "configure_ms": None}]
    page = Reader(call_page({**FULL, "sessions": sessions}))
    assert "deepgram: connect, configure120 ms, –" in page.text
    assert page.count("rect", "caller") == page.count("rect", "agent") == 2
    assert [page.count("rect", f"p-{part}") for part in ("uplink", "end_of_turn", "first_audio")] == [1, 1, 1]
    assert (page.count("rect", "m-key"), page.count("path", "m-cut"), page.count("path", "m-bad")) == (
        1,
        1,
        1,
    )
    assert "Nothing stands out: the caller waited 606 ms" in page.text
    assert "the caller cut in; 600 ms heard, 900 ms thrown away, silent after 20 ms" in page.text


def test_on_the_page_the_voices_are_as_long_as_they_were() -> None:
    page = Reader(call_page(FULL))
    widths = [float(attrs["width"] or 0) for name, attrs in page.elements if attrs.get("class") == "agent"]
    assert round(widths[1] / widths[0], 1) == round((9000 - 5606) / (2500 - 970), 1)


@settings(max_examples=20)
@given(st.text(max_size=40))
def test_nothing_that_a_caller_says_or_sends_becomes_a_part_of_the_page(said: str) -> None:
    hostile = f"</title></svg><script>alert(1)</script>\"'>{said}"
    turns = [answered(5000.0, more={"caller_text": hostile, "agent_text": hostile})]
    more: dict[str, Any] = dict.fromkeys(("caller", "called", "peer", "signalling_id", "detail"), hostile)
    page = Reader(call_page(record(f"c1{hostile}", turns=turns, voices=VOICES, tags=[hostile], **more)))
    assert "script" not in [name for name, _ in page.elements]


def test_a_live_call_has_a_page_too() -> None:
    figures = {"turns": 1, "gap_ms": 606.0, "mos": 4.36}
    page = Reader(call_page({**FULL, "ending": "", "ended_at": None, "live": figures}, live=True))
    assert "On the phone for 0:30" in page.text
    assert "1 turn, waited 606 ms last, MOS 4.4" in page.text
    assert page.count("rect", "caller") == 2, "its time-line, as far as it has come"
    assert "lasts" in page.text and "lasted" not in page.text


def test_a_call_of_hours_and_one_of_nothing_are_drawn() -> None:
    assert Reader(call_page(record(duration_ms=4 * 3600_000, voices=VOICES)))
    assert Reader(call_page(record(duration_ms=0, turns=[], events=[], answered_ms=None)))


def test_attributes_and_text_are_escaped_once() -> None:
    element = tag("a", "<&>", tag("b", "x"), href='"<', class_="c", data_label=None)
    assert element == '<a href="&quot;&lt;" class="c">&lt;&amp;&gt;<b>x</b></a>'


# ---------------------------------------------------------------- the terminal


def test_the_terminal_shows_verdict_voices_waits_and_events() -> None:
    shown = printed(call_text(FULL, 100))
    assert "Nothing stands out" in shown
    (voice,) = [line for line in shown.splitlines() if line.startswith("caller") and "█" in line]
    (events,) = [line for line in shown.splitlines() if line.startswith("events") and "✕" in line]
    assert voice.count("█") in range(4, 8)  # 1.8 of 30 s in 92 columns
    assert "■" in events
    assert "end-of-turn decision 300 ms" in shown


def test_no_header_of_a_caller_steers_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J[red]"
    assert "\x1b" not in printed(call_text(record(f"c{hostile}", caller=hostile, detail=hostile), 80))
    live = {**record(caller=hostile), "live": {}}
    assert "\x1b" not in printed(top_text([live]))


def test_top_lists_the_longest_call_first_with_gap_and_mos() -> None:
    figures = {"turns": 3, "interruptions": 1, "gap_ms": 730.0, "mos": 4.21}
    calls = [record("short", duration_ms=5000), {**record("long", duration_ms=65_000), "live": figures}]
    lines = printed(top_text(calls)).splitlines()
    (long,) = [line for line in lines if "long" in line]
    assert long.split()[-6:] == ["1:05", "3", "1", "730", "ms", "4.2"]
    narrow = printed(top_text([{**calls[1], "agent": "openai_realtime"}]), width=80)
    assert calls[1]["caller"] in narrow and "730 ms  4.2" in narrow
    assert lines.index(long) < next(index for index, line in enumerate(lines) if "short" in line)


def test_times_are_told_as_people_say_them() -> None:
    assert [words.length(ms) for ms in (None, 240.4, 3210.0, 245_000.0)] == ["–", "240 ms", "3.2 s", "4:05"]
    assert [words.place(ms) for ms in (0.0, 59_960.0, 64_240.0, 3_600_000.0)] == [
        "0:00.0",
        "1:00.0",
        "1:04.2",
        "1:00:00.0",
    ]
