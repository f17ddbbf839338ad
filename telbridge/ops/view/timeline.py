"""What stands where on a call's time-line. Pure, from the record; terminal and page draw the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from telbridge.ops.verdict import waits
from telbridge.ops.waterfall import Wait


@dataclass(frozen=True, slots=True)
class Span:
    """Somebody speaks. Times in all of these are ms since the call arrived."""

    from_ms: float
    to_ms: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something happens. `kind` groups marks that look alike: call, key, cut, agent, dialplan, line, bad."""

    at_ms: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Of one call, from its arrival."""

    length_ms: float
    caller: Sequence[Span]
    agent: Sequence[Span]
    waits: Sequence[tuple[int, Wait]]
    """With the number of the turn, from 1."""
    marks: Sequence[Mark]


TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "answered": ("call", "answered"),
    "agent_ready": ("agent", "agent ready"),
    "key": ("key", "key pressed"),
    "hold": ("line", "put on hold"),
    "resume": ("line", "taken back from hold"),
    "media_lost": ("bad", "no audio comes from the caller"),
    "media_back": ("line", "audio comes again"),
    "loss": ("bad", "packets lost"),
    "session_lost": ("bad", "connection to the agent lost"),
    "session_back": ("agent", "connection to the agent is back"),
    "updated": ("agent", "session updated"),
    "update_refused": ("bad", "update refused"),
    "update": ("dialplan", "update of the session"),
    "switch_agent": ("dialplan", "switch of the agent"),
    "say": ("dialplan", "say"),
    "play": ("dialplan", "play"),
    "music": ("dialplan", "music"),
    "send_dtmf": ("dialplan", "keys sent"),
    "webhook": ("dialplan", "webhook"),
    "http": ("dialplan", "HTTP request"),
    "python": ("dialplan", "function"),
    "tool_result": ("dialplan", "tool result"),
    "hang_up": ("dialplan", "hang-up"),
    "transfer_requested": ("dialplan", "transfer"),
    "transfer_ringing": ("line", "transfer rings"),
    "transfer_answered": ("line", "transfer answered"),
    "transfer_failed": ("bad", "transfer failed"),
    "failed": ("bad", "action failed"),
}
"""Events that have a mark; the rest is in the list of events."""


def timeline(record: Mapping[str, Any]) -> Timeline:
    """Of a call that is over, or as far as it has come."""
    events, turns = record.get("events") or (), record.get("turns") or ()
    length_ms = float(record.get("duration_ms") or 0)
    voices = record.get("voices") or {"caller": (), "agent": ()}
    marks = sorted([*_marks(events), *_cuts(turns)], key=lambda mark: mark.at_ms)
    return Timeline(
        length_ms,
        _with_words(voices["caller"], turns, "caller_text", _caller_spoke),
        _with_words(voices["agent"], turns, "agent_text", _agent_spoke),
        waits(record),
        marks,
    )


def title(event: Mapping[str, Any]) -> str:
    """An event in words, with what is known of it."""
    kind = str(event.get("kind"))
    _, words = TITLES.get(kind, ("", kind.replace("_", " ")))
    facts = [f"{value}" for name, value in event.items() if name not in ("kind", "at_ms") and value]
    return f"{words}: {', '.join(facts)}" if facts else words


def _marks(events: Sequence[Mapping[str, Any]]) -> Iterator[Mark]:
    for event in events:
        if (known := TITLES.get(str(event.get("kind")))) is not None:
            yield Mark(float(event["at_ms"]), known[0], title(event))


def _cuts(turns: Sequence[Mapping[str, Any]]) -> Iterator[Mark]:
    for number, turn in enumerate(turns, 1):
        if (cut := turn.get("interruption")) is not None:
            yield Mark(float(cut["at_ms"]), "cut", f"turn {number}: {cut_words(cut)}")


def cut_words(cut: Mapping[str, Any]) -> str:
    """An interruption in words."""
    words = f"the caller cut in; {cut['heard_ms']} ms heard, {cut['discarded_ms']} ms thrown away"
    if cut.get("stop_ms") is not None:
        words += f", silent after {cut['stop_ms']:.0f} ms"
    if cut.get("talk_over_ms") is not None:
        words += f", both heard for {cut['talk_over_ms']:.0f} ms"
    return words + ("; nobody had said anything" if cut.get("false") else "")


Stretch = tuple[float, float]


def _with_words(
    stretches: Sequence[Sequence[float]],
    turns: Sequence[Mapping[str, Any]],
    text: str,
    spoke: Callable[[Mapping[str, Any]], Stretch | None],
) -> list[Span]:
    """A turn's words stand at the longest stretch of speech in its time, or the one nearest to it."""
    spans = [Span(from_ms, to_ms) for from_ms, to_ms in stretches]
    for turn in turns:
        time = spoke(turn)
        if time is None or not turn.get(text) or not spans:
            continue
        index = max(range(len(spans)), key=lambda index: _fitness(spans[index], time))
        span = spans[index]
        spans[index] = Span(span.from_ms, span.to_ms, f"{span.text} {turn[text]}".strip())
    return spans


def _caller_spoke(turn: Mapping[str, Any]) -> Stretch | None:
    ended, began = (
        (turn.get("voice_ended_ms") or turn.get("caller_stopped_ms")),
        turn.get("caller_started_ms"),
    )
    if ended is None:
        ended = began
    return None if ended is None else (min(began if began is not None else ended, ended), ended)


def _agent_spoke(turn: Mapping[str, Any]) -> Stretch | None:
    began = turn.get("agent_first_frame_ms")
    return None if began is None else (began, began)


def _fitness(span: Span, time: Stretch) -> float:
    from_ms, to_ms = time
    apart_ms = max(span.from_ms - to_ms, from_ms - span.to_ms, 0.0)
    return -apart_ms if apart_ms else span.to_ms - span.from_ms
