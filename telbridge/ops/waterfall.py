"""Where a turn's time went: the caller's wait, cut into parts, each somebody's. Pure, from the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class Whose(Enum):
    """On whose side something went wrong; the words are those of lists and filters."""

    AGENT = "agent"
    """The agent API, or the network to it."""
    LINE = "line"
    """The telephone network, or the caller's end of it."""
    BRIDGE = "telbridge"
    DIALPLAN = "dialplan"
    """What the dialplan asks of other servers, and their tools."""
    OPERATOR = "operator"
    """Settings, and whoever stops the server."""
    NOBODY = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of the caller's wait. `name` is that of the record."""

    name: str
    ms: float
    whose: Whose

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)


@dataclass(frozen=True, slots=True)
class Wait:
    """The caller's wait in one turn: the parts follow each other from `from_ms`, ms since the call arrived,
    and fill it."""

    from_ms: float
    parts: tuple[Part, ...]

    @property
    def ms(self) -> float:
        return sum(part.ms for part in self.parts)

    @property
    def longest(self) -> Part:
        return max(self.parts, key=lambda part: part.ms)

    def stretches(self) -> Iterator[tuple[Part, float, float]]:
        """Each part with its begin and end, ms since the call arrived."""
        at_ms = self.from_ms
        for part in self.parts:
            yield part, at_ms, at_ms + part.ms
            at_ms += part.ms


TITLES: Final[Mapping[str, str]] = {
    "uplink": "uplink",
    "end_of_turn": "end-of-turn decision",
    "first_audio": "the agent's first audio",
    "tools": "tools",
    "downlink": "downlink queue",
    "wire": "wire",
}
_WHOSE: Final[Mapping[str, Whose]] = {
    "uplink": Whose.BRIDGE,
    "end_of_turn": Whose.AGENT,
    "first_audio": Whose.AGENT,
    "tools": Whose.DIALPLAN,
    "downlink": Whose.BRIDGE,
    "wire": Whose.BRIDGE,
}


def wait_of(turn: Mapping[str, Any]) -> Wait | None:
    """None for a turn in which nobody waited, or that was never answered."""
    parts = turn.get("parts_ms")
    if not parts or turn.get("voice_ended_ms") is None:
        return None
    from_ms = float(turn["voice_ended_ms"])
    found = tuple(_split(from_ms, list(parts.items()), turn.get("tools") or ()))
    return Wait(from_ms, found)


def _split(
    from_ms: float, parts: Sequence[tuple[str, float]], tools: Sequence[Mapping[str, Any]]
) -> Iterator[Part]:
    """While a tool works, the agent cannot answer: that time is not the agent's."""
    at_ms = from_ms
    for name, ms in parts:
        tool_ms = _busy(tools, at_ms, at_ms + ms) if name == "first_audio" else 0.0
        if tool_ms:
            yield Part("tools", tool_ms, _WHOSE["tools"])
        yield Part(name, ms - tool_ms, _WHOSE.get(name, Whose.NOBODY))
        at_ms += ms


def _busy(tools: Sequence[Mapping[str, Any]], from_ms: float, to_ms: float) -> float:
    """How much of that time tools were at work, two at once counted once."""
    busy, at_ms = 0.0, from_ms
    for tool in sorted(tools, key=lambda tool: float(tool["asked_ms"])):
        took_ms = tool.get("took_ms")
        began = max(at_ms, float(tool["asked_ms"]))
        ended = to_ms if took_ms is None else min(to_ms, float(tool["asked_ms"]) + float(took_ms))
        if ended > began:
            busy += ended - began
            at_ms = ended
    return busy
