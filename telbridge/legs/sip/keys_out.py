"""Keys that we press: one after the other, by RFC 4733 or, where the peer takes none of that, by SIP INFO.

The library sends each key; here is when. Nothing waits: each step is a timer of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from telbridge.call.events import DtmfFailed, DtmfSent, LegEvent

PAUSE: Final = ","
PAUSE_MS: Final = 500
MIN_TONE_MS: Final = 40
MAX_TONE_MS: Final = 6000
MIN_GAP_MS: Final = 40
MAX_KEYS: Final = 128
FRAME_MS: Final = 20
END_MS: Final = 3 * FRAME_MS
"""RFC 4733 §2.5.1.4: the end of a key is sent three times, by the library in three frames: a gap's least."""
FIXED_TONE_MS: Final = 200
"""Of a library before 2.16, whatever it is asked for."""
ANSWER_S: Final = 5.0
"""For the peer to answer INFO."""
_KEYS: Final = frozenset("0123456789*#ABCD")

Way = Literal["rfc4733", "info"]


class CannotPress(Exception):
    """The key did not go out; the text says why."""


@dataclass(slots=True)
class _Job:
    keys: deque[str]
    tone_ms: int
    gap_ms: int


class KeysOut:
    """The keys of one leg. `press(key, way, tone_ms)` sends one, CannotPress if it cannot."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        way: Callable[[], Way | None],
        press: Callable[[str, Way, int], None],
        emit: Callable[[LegEvent], None],
        *,
        fixed_tone: bool,
    ) -> None:
        self._loop, self._clock, self._emit = loop, clock, emit
        self._way, self._press, self._fixed_tone = way, press, fixed_tone
        self._jobs: deque[_Job] = deque()
        self._unanswered = 0
        self._in_audio = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_audio(self) -> bool:
        """Keys go out in the place of audio: no speech meanwhile, the library would leave it out for them."""
        return self._in_audio

    def send(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Queue them behind what is going out."""
        keys = digits.upper().replace(" ", "")
        if not keys or len(keys) > MAX_KEYS or not _KEYS.issuperset(keys.replace(PAUSE, "")):
            self._emit(DtmfFailed(self._clock(), "keys are 0-9, *, #, A-D and a comma for a pause"))
            return
        tone_ms = min(max(tone_ms, MIN_TONE_MS), MAX_TONE_MS)
        self._jobs.append(_Job(deque(keys), tone_ms, max(gap_ms, MIN_GAP_MS)))
        if len(self._jobs) == 1:
            self._step()

    def info_answered(self, status: int) -> None:
        """The final response to an INFO of ours."""
        if not self._unanswered:
            return
        self._unanswered -= 1
        if self._jobs and status >= 300:
            self._fail(f"the peer refused INFO with {status}")
        elif self._jobs and not self._jobs[0].keys and not self._unanswered:
            self._done()

    def stop(self) -> None:
        """The leg is over: no event follows."""
        self._jobs.clear()
        self._in_audio = False
        self._set_timer(None)

    def _step(self) -> None:
        """The next key, or the end of the job."""
        self._set_timer(None)
        job = self._jobs[0]
        if not job.keys:
            if self._unanswered:
                self._set_timer(ANSWER_S * 1000, lambda: self._fail("the peer did not answer INFO"))
            else:
                self._done()
            return
        key = job.keys.popleft()
        if key == PAUSE:
            self._set_timer(PAUSE_MS, self._step)
            return
        try:
            tone_ms = self._press_one(key, job.tone_ms)
        except CannotPress as error:
            self._fail(str(error))
        else:
            self._set_timer(tone_ms + (max(job.gap_ms, END_MS) if job.keys else END_MS), self._step)

    def _press_one(self, key: str, tone_ms: int) -> int:
        """How long it sounds, in ms."""
        way = self._way()
        if way is None:
            raise CannotPress("the peer takes neither telephone-events nor INFO")
        if way == "info":
            self._press(key, way, tone_ms)
            self._unanswered += 1
            return tone_ms
        if self._fixed_tone:
            tone_ms = FIXED_TONE_MS
        self._press(key, way, tone_ms)
        self._in_audio = True
        return tone_ms

    def _done(self) -> None:
        self._finish(DtmfSent(self._clock()))

    def _fail(self, why: str) -> None:
        self._unanswered = 0
        self._finish(DtmfFailed(self._clock(), why))

    def _finish(self, event: LegEvent) -> None:
        self._set_timer(None)
        self._jobs.popleft()
        self._in_audio = False
        self._emit(event)
        if self._jobs:
            self._step()

    def _set_timer(self, delay_ms: float | None, then: Callable[[], Any] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms is not None and then is not None:
            self._timer = self._loop.call_later(delay_ms / 1000, then)
