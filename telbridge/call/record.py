"""What is kept of a call while it goes on, and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from telbridge.audio.speech import FRAME_MS, SpeechMeter
from telbridge.call.director import Script
from telbridge.call.downlink import Downlink
from telbridge.call.events import Ending, LegQuality, SessionEnd
from telbridge.call.journal import Journal
from telbridge.call.ports import Leg
from telbridge.call.recovery import Recovery
from telbridge.call.summary import CallerVoice, CallSummary, Marks, SessionSetup
from telbridge.call.turns import TurnBook
from telbridge.call.way import Way


class Record:
    """One call's: others write down here what happens, and nothing that is heard depends on it."""

    def __init__(
        self,
        leg: Leg,
        script: Script,
        way: Way,
        downlink: Downlink,
        turns: TurnBook,
        meter: SpeechMeter,
        recovery: Recovery,
        *,
        started_ns: int,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._leg, self._script, self._way, self._downlink = leg, script, way, downlink
        self._turns, self._meter, self._recovery = turns, meter, recovery
        self._started_ns, self._clock, self._log = started_ns, clock, log
        self._journal = Journal(started_ns)
        self._faults: Counter[str] = Counter()
        self._setups: list[SessionSetup] = []
        self._lost = (0, 0)
        self.marks: Final = Marks()
        self.keys = 0
        """How many the caller has pressed."""
        self.ready_ns: int | None = None
        """When the first session was configured."""

    # ------------------------------------------------------------ what happens

    def note(self, event: str, /, **facts: str) -> None:
        """No words, no keys."""
        self._journal.note(event, self._clock(), **facts)

    def fault(self, kind: str, what: str) -> None:
        """The first of each kind is logged, the rest counted: a peer in a loop must not flood the log."""
        self._faults[kind] += 1
        if self._faults[kind] == 1:
            self._log.warning("session_fault", kind=kind, what=what[:200])

    def asked_for(self, agent: str, asked_ns: int) -> SessionSetup:
        """A session is to come; how it does is filled in by whoever waits for it."""
        setup = SessionSetup(agent, (asked_ns - self._started_ns) / 1e6)
        self._setups.append(setup)
        return setup

    def tool_called(self, tool_call_id: str, name: str) -> None:
        self._turns.tool_called(tool_call_id, name, self._clock())

    def tool_answered(self, tool_call_id: str) -> None:
        """Its result is on its way to the agent."""
        self._turns.tool_answered(tool_call_id, self._clock())

    def look_at_line(self) -> LegQuality | None:
        """RTP statistics so far; what was lost since the last look is noted."""
        quality = self._leg.quality()
        if quality is not None:
            before, self._lost = self._lost, (quality.rx_lost, quality.tx_lost)
            for way, now, then in zip(("from the caller", "to the caller"), self._lost, before, strict=True):
                if now > then:
                    self.note("loss", packets=str(now - then), way=way)
        return quality

    def now_ms(self) -> float:
        """Since the call arrived."""
        return (self._clock() - self._started_ns) / 1e6

    def _since_start(self, at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - self._started_ns) / 1e6

    # ------------------------------------------------------------ what is told of it

    def figures(self) -> dict[str, Any]:
        """For those who watch the call: small, and JSON."""
        turns = self._turns.turns
        return {
            "answered_ms": self._since_start(self._way.answered_ns),
            "turns": sum(1 for turn in turns if turn.replies),
            "interruptions": sum(1 for turn in turns if turn.interruption),
            "gap_ms": next((gap for turn in reversed(turns) if (gap := turn.gap_ms) is not None), None),
            "session_losses": self._recovery.losses,
        }

    def whole(self, end: SessionEnd) -> CallSummary:
        """The call is over."""
        self._turns.close()
        if self._way.seat is not None:
            self._way.seat.note_connected()
        self._turns.agent_speech.ended(self.now_ms())
        return self._told(end)

    def so_far(self) -> CallSummary:
        """Of a call that goes on, as if it were over now: its ending means nothing."""
        return self._told(SessionEnd(Ending.INTERNAL_ERROR))

    def _told(self, end: SessionEnd) -> CallSummary:
        now_ms, seat = self.now_ms(), self._way.seat
        return CallSummary(
            facts=self._leg.facts,
            ending=end.ending,
            detail=end.detail,
            duration_ms=now_ms,
            answered_ms=self._since_start(self._way.answered_ns),
            session_ready_ms=self._since_start(self.ready_ns),
            first_sound_ms=self._turns.first_sound_ms,
            agent=self._script.agent,
            turns=self._turns.turns,
            voice=_voice_of(self._meter),
            playout=self._downlink.playout.totals,
            rate_hz=self._leg.format.rate_hz,
            frame_ms=self._leg.frame_ms,
            quality=self.look_at_line(),
            uplink_dropped_ms=seat.session.uplink_dropped_ms if seat is not None else 0,
            dtmf_count=self.keys,
            session_losses=self._recovery.losses,
            faults=self._faults,
            dialplan=self._script.plan.name,
            dialplan_version=self._script.plan.version,
            marks=self.marks,
            caller_speech=self._turns.caller_speech.so_far(now_ms),
            agent_speech=self._turns.agent_speech.so_far(now_ms),
            events=self._journal.events,
            events_dropped=self._journal.dropped,
            sessions=self._setups,
        )


def _voice_of(meter: SpeechMeter) -> CallerVoice:
    return CallerVoice(
        heard_ms=meter.frames * FRAME_MS,
        voiced_ms=meter.voiced_frames * FRAME_MS,
        silent_ms=meter.silent_frames * FRAME_MS,
        clipped_ms=meter.clipped_frames * FRAME_MS,
    )
