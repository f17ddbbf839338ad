"""One clock for all calls of a softphone: 20 ms ticks on an absolute grid, the calls spread over its phases.

A timerfd (Linux) wakes the loop with microseconds of delay where epoll's own time-outs are rounded up to a
millisecond; elsewhere the loop's timer serves.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from typing import Final, Protocol

from telbridge.caller.rtp import FRAME_MS

FRAME_NS: Final = FRAME_MS * 1_000_000
MAX_BEHIND_NS: Final = 100_000_000
"""What was missed up to here is sent at once, as a phone's audio driver would; what is older is skipped."""
_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1


class Paced(Protocol):
    """What the pacer drives."""

    def tick(self, now_ns: int) -> None:
        """Send 20 ms."""

    def skip(self, ticks: int) -> None:
        """So many ticks are lost: time has gone on without them."""


class _TimerSpec(ctypes.Structure):
    """struct itimerspec of timerfd_settime(2)."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class _TimerFd:
    """A one-shot timer at absolute times of the monotonic clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: _Wake) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = loop
        self._wake = wake
        loop.add_reader(self._fd, self._expired)

    def set(self, at_ns: int | None) -> None:
        seconds, rest = divmod(at_ns or 0, 1_000_000_000)  # zero disarms
        spec = _TimerSpec(0, 0, seconds, rest)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew after it had been reported
            return
        self._wake()


class _LoopTimer:
    """The same with the loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: _Wake) -> None:
        self._loop = loop
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int | None) -> None:
        self.close()
        if at_ns is not None:
            delay_s = (at_ns - time.monotonic_ns()) / 1e9
            self._handle = self._loop.call_later(max(0.0, delay_s), self._wake)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _Wake(Protocol):
    def __call__(self) -> None: ...


class Pacer:
    """Ticks each member every 20 ms. Members of different phases never fall into the same wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, phases: int = 8) -> None:
        """`phases` divides 20 ms: with one, all calls send at the same instant."""
        self._step_ns = FRAME_NS // phases
        self._slots: list[list[Paced]] = [[] for _ in range(phases)]
        self._next: int | None = None
        self.skipped = 0
        """Frames a call lost because the process stood still, of all calls together."""
        self._timer: _TimerFd | _LoopTimer
        self._timer = _TimerFd(loop, self._wake) if sys.platform == "linux" else _LoopTimer(loop, self._wake)

    def add(self, member: Paced) -> None:
        """Begin to tick it, in the emptiest phase."""
        min(self._slots, key=len).append(member)
        self._arm(time.monotonic_ns() // self._step_ns + 1)

    def remove(self, member: Paced) -> None:
        """Stop; harmless if it is not there."""
        for slot in self._slots:
            if member in slot:
                slot.remove(member)

    def close(self) -> None:
        self._slots = [[] for _ in self._slots]
        self._timer.close()

    def _wake(self) -> None:
        if self._next is None:
            return
        now_ns = time.monotonic_ns()
        index = self._next
        self._next = None
        behind_ns = now_ns - index * self._step_ns
        if behind_ns > MAX_BEHIND_NS:
            index += self._skip(behind_ns // FRAME_NS)
        while index * self._step_ns <= now_ns:
            for member in tuple(self._slots[index % len(self._slots)]):
                member.tick(now_ns)
            index += 1
        self._arm(index)

    def _skip(self, frames: int) -> int:
        for slot in self._slots:
            for member in slot:
                member.skip(frames)
                self.skipped += frames
        return frames * len(self._slots)

    def _arm(self, index: int) -> None:
        """Set the timer to the first phase from `index` on that has members; never later than it is set."""
        count = len(self._slots)
        busy = next((at for at in range(index, index + count) if self._slots[at % count]), None)
        if busy is not None and (self._next is None or busy < self._next):
            self._next = busy
            self._timer.set(busy * self._step_ns)
