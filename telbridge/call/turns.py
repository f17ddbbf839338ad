"""Turns and barge-ins with their clock points; pure book-keeping, every time is passed in.

A turn is the unit in which latency is told: the caller speaks, the agent answers. The first turn is the
greeting: nobody spoke before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from telbridge.call.events import ReplyId
from telbridge.call.playout import Heard


@dataclass(slots=True)
class Interruption:
    """A barge-in: `stop_ms` is from the API's event to the last agent frame handed to the leg."""

    at_ms: float
    stop_ms: float | None = None
    heard_ms: int = 0
    discarded_ms: int = 0


@dataclass(slots=True)
class Turn:
    """Times are ms since the call arrived; None where the point was never reached."""

    caller_started_ms: float | None = None
    caller_stopped_ms: float | None = None
    """When the API told that the caller's turn is over."""
    agent_first_audio_ms: float | None = None
    """First audio of the answer received from the API."""
    agent_first_frame_ms: float | None = None
    """First frame of the answer handed to the leg."""
    caller_text: str = ""
    agent_text: str = ""
    interruption: Interruption | None = None
    server_latency_ms: dict[str, float] = field(default_factory=dict)
    """What the API says of its own share, by its own names."""
    replies: list[ReplyId] = field(default_factory=list)

    @property
    def gap_ms(self) -> float | None:
        """From the end of the caller's turn to the first frame of the answer; None where the agent did not
        wait for the end."""
        if self.caller_stopped_ms is None or self.agent_first_frame_ms is None:
            return None
        gap_ms = self.agent_first_frame_ms - self.caller_stopped_ms
        return gap_ms if gap_ms >= 0 else None


class TurnBook:
    """The turns of one call, in order."""

    def __init__(self, started_ns: int) -> None:
        self._started_ns = started_ns
        self.turns: list[Turn] = [Turn()]
        self._stopping: Interruption | None = None
        self._said: dict[int, dict[ReplyId, str]] = {}

    def _ms(self, at_ns: int) -> float:
        return (at_ns - self._started_ns) / 1e6

    @property
    def current(self) -> Turn:
        return self.turns[-1]

    def caller_started(self, at_ns: int) -> None:
        """A new turn, unless the caller goes on before anything was answered."""
        if self.current.replies:
            self.turns.append(Turn())
        if self.current.caller_started_ms is None:
            self.current.caller_started_ms = self._ms(at_ns)

    def caller_stopped(self, at_ns: int) -> None:
        self.current.caller_stopped_ms = self._ms(at_ns)

    def caller_said(self, text: str) -> None:
        """Of the turn that ended last, whose answer may have begun; a cough never gets a transcript."""
        ended = next((turn for turn in reversed(self.turns) if turn.caller_stopped_ms is not None), None)
        turn = ended if ended is not None and not ended.caller_text else self.current
        turn.caller_text = f"{turn.caller_text} {text}".strip()

    def agent_audio(self, reply: ReplyId, at_ns: int) -> None:
        """Call once for the first audio of each reply."""
        self.current.replies.append(reply)
        if self.current.agent_first_audio_ms is None:
            self.current.agent_first_audio_ms = self._ms(at_ns)

    def agent_said(self, reply: ReplyId, text: str) -> None:
        """All that the reply has said so far: it replaces what was told of it before."""
        turn = next((turn for turn in reversed(self.turns) if reply in turn.replies), self.current)
        said = self._said.setdefault(id(turn), {})
        said[reply] = text
        turn.agent_text = " ".join(said.values())

    def server_latency(self, figures_ms: Mapping[str, float]) -> None:
        """Of the turn that is being answered."""
        self.current.server_latency_ms.update(figures_ms)

    def agent_frame(self, reply: ReplyId, at_ns: int) -> None:
        """Call once for the first frame of each reply that reaches the leg."""
        for turn in reversed(self.turns):
            if reply in turn.replies:
                if turn.agent_first_frame_ms is None:
                    turn.agent_first_frame_ms = self._ms(at_ns)
                return

    def interrupted(self, heard: Sequence[Heard], at_ns: int) -> None:
        """The agent was heard and has been flushed: the turn that it answered was cut."""
        for turn in reversed(self.turns):
            if any(fate.reply in turn.replies for fate in heard):
                turn.interruption = self._stopping = Interruption(
                    at_ms=self._ms(at_ns),
                    heard_ms=sum(fate.heard_ms for fate in heard),
                    discarded_ms=sum(fate.discarded_ms for fate in heard),
                )
                return

    def silent(self, at_ns: int) -> None:
        """The last agent frame after a flush was handed to the leg."""
        if self._stopping is not None:
            self._stopping.stop_ms = self._ms(at_ns) - self._stopping.at_ms
            self._stopping = None
