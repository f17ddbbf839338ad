"""Where the caller's turns begin and end: probabilities of speech in, turn events out.

Pure: time is the number of hops that have come (32 ms each), positions are samples at 8 kHz since the
first. Nothing here knows what a probability was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from telbridge.agent.speech.vad import HOP_SAMPLES

RATE_HZ: Final = 8_000
HOP_MS: Final = HOP_SAMPLES * 1000 // RATE_HZ
MAX_TURN_MS: Final = 30_000
"""A longer turn is cut here: the recogniser was made for less, and a television never pauses."""
HYSTERESIS: Final = 0.15
"""Speech that has begun goes on down to this far below the threshold."""


class Hop(NamedTuple):
    """What is known about 32 ms of caller audio."""

    probability: float
    audible: bool = True
    """Loud enough to be somebody on this line."""
    agent_speaks: bool = False
    """The caller is hearing the agent."""
    echo: bool = False
    """Explained by what the agent says."""


@dataclass(frozen=True, slots=True)
class TurnRules:
    """All in ms, but the probabilities."""

    threshold: float = 0.5
    start_ms: int = 64
    prefix_ms: int = 300
    speculate_ms: int = 200
    silence_ms: int = 500
    barge_in: bool = True
    barge_in_threshold: float = 0.7
    barge_in_ms: int = 96


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The caller speaks. `start` includes the prefix."""

    start: int
    interrupts: bool


@dataclass(frozen=True, slots=True)
class TurnMayBeOver:
    """A pause, long enough to start recognising what there is."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TurnGoesOn:
    """The pause was none: what was recognised meanwhile is worth nothing."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """`end` is where the speech stopped, not where that became certain."""

    start: int
    end: int


TurnEvent = TurnStarted | TurnMayBeOver | TurnGoesOn | TurnEnded


class _State(Enum):
    QUIET = auto()
    SPEAKING = auto()
    PAUSING = auto()
    """In a turn, and long enough silent that recognition has been started."""


class TurnMachine:
    """The turns of one caller."""

    def __init__(self, rules: TurnRules) -> None:
        self.rules = rules
        self._state = _State.QUIET
        self._position = 0
        self._run_ms = 0
        self._silence_ms = 0
        self._start = 0
        self._floor = 0

    @property
    def position(self) -> int:
        """Samples so far."""
        return self._position

    @property
    def in_turn(self) -> bool:
        return self._state is not _State.QUIET

    def skip_to(self, position: int) -> None:
        """What lies before this sample was thrown away, with the turn that was going on."""
        self._position = position
        self._quiet()

    def push(self, hop: Hop) -> TurnEvent | None:
        self._position += HOP_SAMPLES
        if self._state is _State.QUIET:
            return self._listen(hop)
        return self._follow(hop)

    def _listen(self, hop: Hop) -> TurnEvent | None:
        rules = self.rules
        if hop.agent_speaks and not rules.barge_in:
            self._run_ms = 0
            return None
        threshold = rules.barge_in_threshold if hop.agent_speaks else rules.threshold
        if hop.probability > threshold and hop.audible and not hop.echo:
            self._run_ms += HOP_MS
        else:
            # A plosive's gap takes a little back; it does not start the count again.
            self._run_ms = max(0, self._run_ms - HOP_MS)
        if self._run_ms < (rules.barge_in_ms if hop.agent_speaks else rules.start_ms):
            return None
        before = (self._run_ms + rules.prefix_ms) * RATE_HZ // 1000
        self._start = max(self._floor, self.position - before)
        self._state, self._silence_ms = _State.SPEAKING, 0
        return TurnStarted(self._start, hop.agent_speaks)

    def _follow(self, hop: Hop) -> TurnEvent | None:
        rules = self.rules
        if hop.probability > rules.threshold - HYSTERESIS and hop.audible and not hop.echo:
            self._silence_ms = 0
            if self._state is _State.PAUSING:
                self._state = _State.SPEAKING
                return TurnGoesOn()
            return self._cut_if_endless()
        self._silence_ms += HOP_MS
        end = self.position - self._silence_ms * RATE_HZ // 1000
        # Taken by the nearest hop, not by the next: half of 32 ms too early as often as too late.
        if self._silence_ms + HOP_MS // 2 >= rules.silence_ms:
            return self._end(end)
        if self._state is _State.SPEAKING and self._silence_ms >= rules.speculate_ms:
            self._state = _State.PAUSING
            return TurnMayBeOver(self._start, self.position)
        return None

    def _cut_if_endless(self) -> TurnEvent | None:
        long = self.position - self._start >= MAX_TURN_MS * RATE_HZ // 1000
        return self._end(self.position) if long else None

    def _end(self, end: int) -> TurnEnded:
        turn = TurnEnded(self._start, end)
        self._quiet()
        return turn

    def _quiet(self) -> None:
        self._state, self._run_ms, self._silence_ms = _State.QUIET, 0, 0
        self._floor = self.position  # no sample belongs to two turns
