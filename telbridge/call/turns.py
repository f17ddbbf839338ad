"""Turns and interruptions with their clock points; pure book-keeping, every time is passed in.

A turn is the unit in which latency is told: the caller speaks, the agent answers. The first turn is the
greeting: nobody spoke before it. Docs: metrics.md has the meaning of each interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from telbridge.call.events import ReplyId
from telbridge.call.journal import Speech
from telbridge.call.playout import Heard

PARTS: Final = ("uplink", "end_of_turn", "first_audio", "downlink", "wire")
"""Of a turn gap, in their order."""
TALKED_OVER_MS: Final = 300.0
"""An agent that begins while the caller goes on for so long has interrupted: less is a smooth change."""
STILL_SPEAKING_NS: Final = 150_000_000
"""Since the last voiced frame came: no end is a pause within a word, nor the way through a jitter buffer."""
MISSED_NS: Final = 1_500_000_000
"""Both are heard for so long, and no event came: an interruption that nobody noticed."""
QUICKER_NS: Final = 60_000_000
"""Speech that begins so long after an API's event may still be what it heard: it looks at shorter pieces."""


@dataclass(slots=True)
class Interruption:
    """What the agent was saying was cut. Times are ms since the call arrived, or lengths."""

    at_ms: float
    """The event that cut it."""
    by: str = "api"
    """Who decided: "api", or "local": a key, a dialplan."""
    onset_ms: float | None = None
    """Both were heard from here on, by our own meter."""
    stop_ms: float | None = None
    """From the event to the last agent frame handed to the leg."""
    heard_ms: int = 0
    discarded_ms: int = 0
    false: bool | None = None
    """Nobody said anything, and the agent spoke again: no transcript came from an API that sends them; of
    others, our own meter heard no voice. None: not known."""

    @property
    def detect_ms(self) -> float | None:
        """From the caller's onset to the event."""
        return None if self.onset_ms is None else max(0.0, self.at_ms - self.onset_ms)

    @property
    def talk_over_ms(self) -> float | None:
        """From the caller's onset to the last agent frame."""
        detect_ms = self.detect_ms
        return None if detect_ms is None or self.stop_ms is None else detect_ms + self.stop_ms


@dataclass(slots=True)
class ToolTime:
    """One tool call: from the API's request to our answer."""

    name: str
    asked_ms: float
    took_ms: float | None = None


@dataclass(slots=True)
class Turn:
    """Times are ms since the call arrived; None where the point was never reached."""

    agent: str = ""
    """The agent API that answered."""
    caller_started_ms: float | None = None
    """When the API told that the caller speaks."""
    voice_ended_ms: float | None = None
    """When the caller's last voiced frame before the answer arrived, by our own meter."""
    uplink_sent_ms: float | None = None
    """When that frame was handed to the session's socket."""
    caller_stopped_ms: float | None = None
    """When the API told that the caller's turn is over."""
    agent_first_audio_ms: float | None = None
    """First audio of the answer received from the API."""
    agent_first_frame_ms: float | None = None
    """The tick of the leg that took the first frame of the answer."""
    agent_on_wire_ms: float | None = None
    """When that frame was handed to the leg, which sends it at once."""
    agent_over_caller_ms: float | None = None
    """The agent began while the caller spoke, who went on for so long: the agent interrupted."""
    missed_interruptions: int = 0
    caller_text: str = ""
    agent_text: str = ""
    interruption: Interruption | None = None
    tools: list[ToolTime] = field(default_factory=list)
    server_latency_ms: dict[str, float] = field(default_factory=dict)
    """What the API says of its own share, by its own names."""
    replies: list[ReplyId] = field(default_factory=list)

    @property
    def gap_ms(self) -> float | None:
        """The turn gap: from the caller's last voiced frame to the first agent frame on the wire. None where
        nobody spoke before, or where the agent did not wait for the end."""
        if self.voice_ended_ms is None or self.agent_on_wire_ms is None or self.agent_over_caller_ms:
            return None
        return self.agent_on_wire_ms - self.voice_ended_ms

    @property
    def parts_ms(self) -> dict[str, float]:
        """The turn gap in its parts (`PARTS`), which add up to it; {} where there is none. A point that was
        never reached, or not in its order, leaves its time to the part behind it."""
        gap_ms = self.gap_ms
        if gap_ms is None or self.voice_ended_ms is None or self.agent_on_wire_ms is None:
            return {}
        ends = (
            self.uplink_sent_ms,
            self.caller_stopped_ms,
            self.agent_first_audio_ms,
            self.agent_first_frame_ms,
            self.agent_on_wire_ms,
        )
        parts: dict[str, float] = {}
        at_ms = self.voice_ended_ms
        for name, end_ms in zip(PARTS, ends, strict=True):
            if end_ms is not None:
                end_ms = min(max(end_ms, at_ms), self.agent_on_wire_ms)
                parts[name] = end_ms - at_ms
                at_ms = end_ms
        return parts


class Voice(Protocol):
    """What is known of the caller's voice (`SpeechMeter`)."""

    @property
    def speaking(self) -> bool: ...

    @property
    def onset_ns(self) -> int | None: ...

    @property
    def last_voiced_ns(self) -> int | None: ...


class TurnBook:
    """The turns of one call, in order."""

    def __init__(
        self, started_ns: int, voice: Voice, agent: str = "", over: Callable[[Turn], None] = lambda turn: None
    ) -> None:
        """`agent`: who answers first. `over`: told of each turn, once, when no more is to come of it."""
        self._started_ns, self._voice, self._over = started_ns, voice, over
        self.agent = agent
        self.turns: list[Turn] = [Turn(agent)]
        self.sent_ns: int | None = None
        """When the last voiced frame of the caller was handed to the session; set by whoever does it."""
        self.first_sound_ms: float | None = None
        """When the caller heard anything for the first time: the agent, or words of our own."""
        self.caller_speech: Final = Speech()
        self.agent_speech: Final = Speech()
        """The agent's, or words of our own."""
        self._stopping: Interruption | None = None
        self._said: dict[int, dict[ReplyId, str]] = {}
        self._tools: dict[str, ToolTime] = {}
        self._early: tuple[ReplyId, int, int] | None = None
        self._told = 0
        self._answered_ns = started_ns
        self._sounding_ns: int | None = None
        self._caller_heard_ns: int | None = None
        self._overlap_ns: int | None = None
        self._begun_over: tuple[Turn, int] | None = None
        self._unexplained: tuple[Interruption, int | None] | None = None
        self._spoke_again: dict[int, float] = {}
        """Of a turn that was cut, by its number: when the agent went on in that very turn."""

    def _ms(self, at_ns: int) -> float:
        return (at_ns - self._started_ns) / 1e6

    @property
    def current(self) -> Turn:
        return self.turns[-1]

    # ------------------------------------------------------------ what the API tells

    def caller_started(self, at_ns: int) -> None:
        """A new turn, unless the caller goes on before anything was answered."""
        self._caller_heard_ns = at_ns
        if self.current.replies:
            self.turns.append(Turn(self.agent))
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
        if self.current.interruption is not None:
            self._spoke_again.setdefault(len(self.turns) - 1, self._ms(at_ns))
        if self.current.agent_first_audio_ms is None:
            self.current.agent = self.agent
            self.current.agent_first_audio_ms = self._ms(at_ns)
        if self._early is not None and self._early[0] == reply:
            self.agent_frame(*self._early)

    def agent_said(self, reply: ReplyId, text: str) -> None:
        """All that the reply has said so far: it replaces what was told of it before."""
        turn = next((turn for turn in reversed(self.turns) if reply in turn.replies), self.current)
        said = self._said.setdefault(id(turn), {})
        said[reply] = text
        turn.agent_text = " ".join(said.values())

    def server_latency(self, figures_ms: Mapping[str, float]) -> None:
        """Of the turn that is being answered."""
        self.current.server_latency_ms.update(figures_ms)

    def tool_called(self, tool_call_id: str, name: str, at_ns: int) -> None:
        tool = self._tools[tool_call_id] = ToolTime(name, self._ms(at_ns))
        self.current.tools.append(tool)

    def tool_answered(self, tool_call_id: str, at_ns: int) -> None:
        if (tool := self._tools.pop(tool_call_id, None)) is not None:
            tool.took_ms = self._ms(at_ns) - tool.asked_ms

    # ------------------------------------------------------------ what the caller hears

    def agent_frame(self, reply: ReplyId, tick_ns: int, on_wire_ns: int) -> None:
        """Call once for the first frame of each reply that reaches the leg. `tick_ns`: the leg took it then;
        `on_wire_ns`: it has been handed over. A leg that sends ahead does so before `agent_audio`."""
        for turn in reversed(self.turns):
            if reply in turn.replies:
                if turn.agent_first_frame_ms is None:
                    self._first_frame(turn, tick_ns, on_wire_ns)
                return
        self._early = reply, tick_ns, on_wire_ns

    def _first_frame(self, turn: Turn, tick_ns: int, on_wire_ns: int) -> None:
        turn.agent_first_frame_ms, turn.agent_on_wire_ms = self._ms(tick_ns), self._ms(on_wire_ns)
        voiced_ns = self._voice.last_voiced_ns
        if voiced_ns is not None and self._answered_ns < voiced_ns <= on_wire_ns:
            turn.voice_ended_ms = self._ms(voiced_ns)
            if self.sent_ns is not None and self.sent_ns >= voiced_ns:
                turn.uplink_sent_ms = self._ms(self.sent_ns)
            if self._voice.speaking and on_wire_ns - voiced_ns < STILL_SPEAKING_NS:
                self._begun_over = (turn, on_wire_ns)
        self._answered_ns = on_wire_ns
        self._tell(self.turns.index(turn))

    def sounds(self, at_ns: int) -> None:
        """The caller hears the agent, or words of our own, after silence."""
        if self.first_sound_ms is None:
            self.first_sound_ms = self._ms(at_ns)
        self._sounding_ns = at_ns
        self.agent_speech.began(self._ms(at_ns))
        if self._voice.speaking:
            self._overlap_ns = at_ns

    def silent(self, at_ns: int) -> None:
        """The last frame with speech was handed to the leg."""
        if self._stopping is not None:
            self._stopping.stop_ms = self._ms(at_ns) - self._stopping.at_ms
            self._stopping = None
        self._end_overlap(at_ns)
        self._sounding_ns = None
        self.agent_speech.ended(self._ms(at_ns))

    def interrupted(self, heard: Sequence[Heard], at_ns: int, by: str = "api") -> None:
        """The agent was heard and has been flushed: the turn that it answered was cut."""
        for turn in reversed(self.turns):
            if any(fate.reply in turn.replies for fate in heard):
                turn.interruption = self._stopping = Interruption(
                    at_ms=self._ms(at_ns),
                    by=by,
                    heard_ms=sum(fate.heard_ms for fate in heard),
                    discarded_ms=sum(fate.discarded_ms for fate in heard),
                )
                self._caller_heard_ns = at_ns
                self._explain(turn.interruption, at_ns)
                return

    # ------------------------------------------------------------ what our own meter tells

    def voice_changed(self) -> None:
        """The caller has begun to speak, or ended."""
        if self._voice.speaking:
            self._voice_began()
        else:
            self._voice_ended()

    def _voice_began(self) -> None:
        onset_ns = self._voice.onset_ns
        assert onset_ns is not None
        self.caller_speech.began(self._ms(onset_ns))
        if self._sounding_ns is not None:
            self._overlap_ns = max(onset_ns, self._sounding_ns)
        if self._unexplained is not None:
            (cut, sounding_ns), self._unexplained = self._unexplained, None
            if onset_ns <= self._started_ns + cut.at_ms * 1e6 + QUICKER_NS:
                self._note_onset(cut, onset_ns, sounding_ns)

    def _voice_ended(self) -> None:
        ended_ns = self._voice.last_voiced_ns
        assert ended_ns is not None
        self.caller_speech.ended(self._ms(ended_ns))
        self._end_overlap(ended_ns)
        if self._begun_over is not None:
            turn, began_ns = self._begun_over
            self._begun_over = None
            over_ms = (ended_ns - began_ns) / 1e6
            if over_ms >= TALKED_OVER_MS:
                turn.agent_over_caller_ms = over_ms

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """The call is over: whatever is open is judged by what is known."""
        if self._voice.speaking:
            self._voice_ended()
        for number, turn in enumerate(self.turns):
            if turn.interruption is not None and turn.interruption.by == "api":
                turn.interruption.false = self._was_false(number, turn.interruption)
        self._tell(len(self.turns))

    # ------------------------------------------------------------ inside

    def _was_false(self, number: int, cut: Interruption) -> bool | None:
        """Of the turn of this number; None unless the agent spoke again."""
        following = self.turns[number + 1] if number + 1 < len(self.turns) else None
        if following is not None and following.replies:
            if any(turn.caller_text for turn in self.turns):
                return not following.caller_text
            return not self._voiced(cut.at_ms, following.agent_first_audio_ms)
        if number in self._spoke_again:
            return not self._voiced(cut.at_ms, self._spoke_again[number])
        return None

    def _voiced(self, cut_ms: float, until_ms: float | None) -> bool:
        """Whether our own meter heard the caller around a cut and before the agent's next words."""
        since_ms = cut_ms - MISSED_NS / 1e6
        return any(
            began_ms < (until_ms or cut_ms) and ended_ms > since_ms
            for began_ms, ended_ms in self.caller_speech.stretches
        )

    def _tell(self, end: int) -> None:
        """Those before this one are over."""
        while self._told < end:
            self._told += 1
            self._over(self.turns[self._told - 1])

    def _explain(self, cut: Interruption, at_ns: int) -> None:
        """Which of the caller's words did it? An API may notice them before our meter is sure."""
        onset_ns, voiced_ns, sounding_ns = self._voice.onset_ns, self._voice.last_voiced_ns, self._sounding_ns
        spoke = voiced_ns is not None and voiced_ns >= (sounding_ns or at_ns)
        if onset_ns is not None and (self._voice.speaking or spoke):
            self._note_onset(cut, onset_ns, sounding_ns)
            self._unexplained = None
        else:
            self._unexplained = cut, sounding_ns

    def _note_onset(self, cut: Interruption, onset_ns: int, sounding_ns: int | None) -> None:
        """Speech cannot interrupt before there is something to interrupt."""
        cut.onset_ms = min(self._ms(max(onset_ns, sounding_ns or onset_ns)), cut.at_ms)

    def _end_overlap(self, at_ns: int) -> None:
        overlap_ns, self._overlap_ns = self._overlap_ns, None
        if overlap_ns is None or at_ns - overlap_ns < MISSED_NS:
            return
        if self._caller_heard_ns is None or self._caller_heard_ns < overlap_ns:
            self.current.missed_interruptions += 1
