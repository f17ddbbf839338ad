"""Whether a call is being recorded now: its rule, the caller's consent, pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from telbridge.dialplan.orders import Recorded

MASKED_TAIL_S: Final = 1.0
"""After masked digits the recording stays silent for so long: the last tone may still sound."""
NOT_HERE: Final = 'calls are not recorded here: write recording = "after_consent", or [recording] calls'


RESULTS: Final = ("whole", "gaps", "cut")
"""What became of a recording: all of it is there, some is missing, it ends early."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a call's record says of it."""

    path: str
    from_ms: float
    """Where in the call it begins."""
    lost_ms: int = 0
    """Audio of either voice that is silence in it, because it could not be written in time."""
    trouble: str = ""
    """Why it ends early."""

    @property
    def result(self) -> str:
        """One of `RESULTS`."""
        if self.trouble:
            return "cut"
        return "gaps" if self.lost_ms else "whole"


class Tape(Protocol):
    """Where the two voices of a call go. Nothing here blocks or raises: what cannot be kept is lost."""

    def begin(self, at_ns: int, from_ms: float) -> None:
        """Once, before all others. `from_ms`: since the call arrived."""

    def caller(self, frame: bytes | memoryview, now_ns: int) -> None:
        """In the leg's format, as it arrived now."""

    def agent(self, frame: bytes | memoryview, now_ns: int) -> None:
        """What the leg takes at its tick: it is heard from now on."""

    def agent_ahead(self, frame: bytes | memoryview, now_ns: int) -> None:
        """What is heard behind all that the carrier holds, or from now on if it holds nothing."""

    def unplayed(self, length_ms: int) -> None:
        """Of what the carrier held, the last was thrown away."""

    def pause(self, at_ns: int) -> None:
        """What comes after `at_ns` is silence, until more is handed over."""

    def end(self, at_ns: int) -> None:
        """The recording is over. Safe twice, and before it began."""


class Taping:
    """One call's. `tape` is there while frames belong on it."""

    def __init__(
        self,
        tape: Tape | None,
        *,
        asks_first: bool,
        started_ns: int,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        """`asks_first`: only once the caller has agreed."""
        self.tape: Tape | None = None
        self._tape, self._asks_first, self._started_ns, self._later = tape, asks_first, started_ns, later
        self._state: Literal["waits", "runs", "over"] = "waits"
        self._pauses: set[str] = set()
        self._tail: asyncio.TimerHandle | None = None

    def answered(self, now_ns: int) -> None:
        if not self._asks_first:
            self._begin(now_ns)

    def order(self, what: Recorded, now_ns: int) -> str | None:
        """What the dialplan asks for; why it cannot be."""
        match what:
            case "start":
                if self._tape is None:
                    return NOT_HERE
                if self._state == "over":
                    return "the recording of this call was stopped"
                self._pauses.discard("asked")
                self._begin(now_ns)
                self._turn(now_ns)
            case "pause":
                self._pauses.add("asked")
                self._turn(now_ns)
            case "resume":
                self._pauses.discard("asked")
                self._turn(now_ns)
            case "stop":
                self.end(now_ns)
        return None

    def masked(self, *, on: bool, now_ns: int) -> None:
        """Digits that nobody may hear are keyed in, or have been."""
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if on:
            self._pauses.add("masked")
            self._turn(now_ns)
        else:
            self._tail = self._later(MASKED_TAIL_S, self._unmask)

    def end(self, now_ns: int) -> None:
        """The call is over, or its caller wants no recording any more. Safe twice."""
        self._state, self.tape = "over", None
        if self._tape is not None:
            self._tape.end(now_ns)
        if self._tail is not None:
            self._tail.cancel()

    def _unmask(self) -> None:
        self._pauses.discard("masked")
        self._turn(0)

    def _begin(self, now_ns: int) -> None:
        if self._tape is not None and self._state == "waits":
            self._state = "runs"
            self._tape.begin(now_ns, (now_ns - self._started_ns) / 1e6)
            self._turn(now_ns)

    def _turn(self, now_ns: int) -> None:
        """On or off, by all that is known."""
        wanted = self._state == "runs" and not self._pauses
        if self.tape is not None and not wanted:
            self.tape.pause(now_ns)
        self.tape = self._tape if wanted else None
