"""A call's time-line as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from telbridge.ops.view import words
from telbridge.ops.view.html import Html, tag
from telbridge.ops.view.timeline import Mark, Span, Timeline

PX_PER_S: Final = 26.0
LEAST_PX, MOST_PX = 1040.0, 30_000.0
MARGIN_PX: Final = 14.0
"""So that what stands at either end is seen whole."""
LETTER_PX: Final = 5.9
CALLER_Y, AGENT_Y, VOICE_H = 26, 66, 32
WAIT_Y, WAIT_H = 106, 14
MARKS_Y: Final = 140
HEIGHT: Final = 156
LANES: Final = (
    ("caller", CALLER_Y + 8),
    ("agent", AGENT_Y + 8),
    ("waits", WAIT_Y - 2),
    ("events", MARKS_Y - 9),
)
_TICKS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_TICK_PX: Final = 70
_SHAPES: Final = {"key": "square", "cut": "cross", "bad": "triangle"}


def drawing(line: Timeline) -> Html:
    """The lanes' names, and the time-line that scrolls beside them."""
    names = tag(
        "div",
        *(tag("span", name, style=f"top:{y}px") for name, y in LANES),
        class_="lanes",
        style=f"height:{HEIGHT}px",
    )
    return tag("div", names, tag("div", _svg(line), class_="scroll", tabindex="0"), class_="timeline")


def _svg(line: Timeline) -> Html:
    scale = _Scale(line.length_ms)
    return tag(
        "svg",
        *_axis(scale),
        *_voice(line.caller, "caller", CALLER_Y, scale),
        *_voice(line.agent, "agent", AGENT_Y, scale),
        *_cuts(line.marks, scale),
        *_waits(line, scale),
        *(_mark(mark, scale) for mark in line.marks),
        width=f"{scale.width:.0f}",
        height=HEIGHT,
        viewBox=f"0 0 {scale.width:.0f} {HEIGHT}",
        role="img",
        aria_label="time-line of both voices",
    )


class _Scale:
    def __init__(self, length_ms: float) -> None:
        self.length_ms = max(1.0, length_ms)
        inner = min(max(LEAST_PX, PX_PER_S * self.length_ms / 1000), MOST_PX)
        self.px_per_ms = inner / self.length_ms
        self.width = inner + 2 * MARGIN_PX

    def x(self, at_ms: float) -> float:
        return round(MARGIN_PX + at_ms * self.px_per_ms, 1)

    def px(self, ms: float) -> float:
        return round(max(1.5, ms * self.px_per_ms), 1)


def _axis(scale: _Scale) -> Iterator[Html]:
    step_s = next((step for step in _TICKS_S if step * 1000 * scale.px_per_ms >= _TICK_PX), _TICKS_S[-1])
    for at_s in range(0, int(scale.length_ms / 1000) + 1, step_s):
        x = scale.x(at_s * 1000)
        yield tag("line", class_="grid", x1=x, x2=x, y1=16, y2=HEIGHT)
        yield tag("text", words.clock(at_s * 1000), x=x, y=11, text_anchor="middle")


def _voice(spans: Sequence[Span], who: str, y: int, scale: _Scale) -> Iterator[Html]:
    for span in spans:
        x, width = scale.x(span.from_ms), scale.px(span.to_ms - span.from_ms)
        where = f"{words.place(span.from_ms)} to {words.place(span.to_ms)}"
        title = tag("title", f"{who}, {where}{': ' if span.text else ''}{span.text}")
        yield tag("rect", title, class_=who, x=x, y=y, width=width, height=VOICE_H, rx=3)
        if shown := _fitting(span.text, width - 10):
            yield tag("text", shown, class_="words", x=x + 5, y=y + 20, pointer_events="none")


def _fitting(words_: str, width_px: float) -> str:
    letters = int(width_px / LETTER_PX)
    if letters < 4 or not words_:
        return ""
    return words_ if len(words_) <= letters else words_[: letters - 1].rstrip() + "…"


def _waits(line: Timeline, scale: _Scale) -> Iterator[Html]:
    for number, wait in line.waits:
        title = f"turn {number}: the caller waited {words.length(wait.ms)}"
        for part, from_ms, to_ms in wait.stretches():
            if to_ms > from_ms:
                yield tag(
                    "rect",
                    tag("title", f"{title}; {part.title} {words.length(part.ms)}"),
                    class_=f"p-{part.name}",
                    x=scale.x(from_ms),
                    y=WAIT_Y,
                    width=scale.px(to_ms - from_ms),
                    height=WAIT_H,
                )


def _cuts(marks: Sequence[Mark], scale: _Scale) -> Iterator[Html]:
    for mark in marks:
        if mark.kind == "cut":
            x = scale.x(mark.at_ms)
            yield tag("line", class_="cut-line", x1=x, x2=x, y1=CALLER_Y - 4, y2=AGENT_Y + VOICE_H + 4)


def _mark(mark: Mark, scale: _Scale) -> Html:
    x, y, kind = scale.x(mark.at_ms), MARKS_Y, f"m-{mark.kind}"
    title = tag("title", f"{words.place(mark.at_ms)} {mark.title}")
    match _SHAPES.get(mark.kind):
        case "square":
            return tag("rect", title, class_=kind, x=x - 5, y=y - 5, width=10, height=10, rx=2)
        case "cross":
            return tag("path", title, class_=kind, d=_polygon(x, y, _CROSS))
        case "triangle":
            return tag("path", title, class_=kind, d=_polygon(x, y, _TRIANGLE))
        case _:
            return tag("circle", title, class_=kind, cx=x, cy=y, r=4.5)


_TRIANGLE: Final = ((0, -6), (6, 5), (-6, 5))
_CROSS: Final = (
    (-6, -4), (-4, -6), (0, -2), (4, -6), (6, -4), (2, 0), (6, 4), (4, 6), (0, 2), (-4, 6), (-6, 4), (-2, 0)
)  # fmt: skip


def _polygon(x: float, y: float, points: Sequence[tuple[int, int]]) -> str:
    return "M" + "L".join(f"{x + dx:g} {y + dy:g}" for dx, dy in points) + "Z"


def legend(line: Timeline) -> Html:
    """What the colours and shapes mean, of those that are there."""
    parts = {part.name: part.title for _, wait in line.waits for part in wait.parts if part.ms >= 1}
    entries = [("caller", "caller"), ("agent", "agent, or words of our own")]
    entries += [(name.replace("_", "-"), title) for name, title in parts.items()]
    kinds = {mark.kind for mark in line.marks}
    swatches = (tag("span", title, style=f"--swatch:var(--{colour})") for colour, title in entries)
    shapes = (
        tag("b", tag("i", shape, style=f"color:var(--{colour})"), f" {title}")
        for kind, colour, shape, title in _KINDS
        if kind in kinds
    )
    return tag("div", *swatches, *shapes, class_="legend")


_KINDS: Final = (
    ("call", "soft", "●", "call"),
    ("line", "soft", "●", "line"),
    ("agent", "agent", "●", "agent API"),
    ("dialplan", "dialplan", "●", "dialplan"),
    ("key", "key", "■", "key"),
    ("cut", "bad", "✕", "interruption"),
    ("bad", "bad", "▲", "trouble"),
)
