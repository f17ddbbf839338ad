"""Keys towards the caller, over a stream that can carry them: one message a key, each with its time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from telbridge.call.events import DtmfFailed, DtmfSent, LegEvent
from telbridge.legs.streams.peer import DIGITS, Message

PAUSE: Final = ","
PAUSE_MS: Final = 500
MAX_KEYS: Final = 64
MIN_KEY_MS: Final = 100
"""From one key to the next, at least: carriers tell no length of theirs."""


@dataclass(slots=True)
class _Job:
    keys: deque[str]
    key_ms: int


class KeysOut:
    """The keys of one leg, in order."""

    def __init__(
        self,
        message_for: Callable[[str], Message | None],
        say: Callable[[Message | None], None],
        emit: Callable[[LegEvent], None],
        clock: Callable[[], int],
    ) -> None:
        """`message_for`: the peer's message for a key, None if it has none."""
        self._message_for, self._say, self._emit, self._clock = message_for, say, emit, clock
        self._jobs: deque[_Job] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Queue them behind what is going out; `DtmfSent` or `DtmfFailed` follows."""
        keys = digits.upper().replace(" ", "")
        if not keys or len(keys) > MAX_KEYS or not DIGITS.issuperset(keys.replace(PAUSE, "")):
            self._emit(DtmfFailed(self._clock(), "keys are 0-9, *, #, A-D and a comma for a pause"))
        elif self._message_for("1") is None:
            self._emit(DtmfFailed(self._clock(), "this carrier takes no keys"))
        else:
            self._jobs.append(_Job(deque(keys), max(tone_ms + gap_ms, MIN_KEY_MS)))
            if len(self._jobs) == 1:
                self._step()

    def stop(self) -> None:
        """The leg is over: no event follows."""
        self._jobs.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _step(self) -> None:
        """The next key, or the end of a job."""
        job = self._jobs[0]
        if not job.keys:
            self._jobs.popleft()
            self._emit(DtmfSent(self._clock()))
            if self._jobs:
                self._step()
            return
        key = job.keys.popleft()
        if key != PAUSE:
            self._say(self._message_for(key))
        wait_ms = PAUSE_MS if key == PAUSE else job.key_ms
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._step)
