"""A clock for the event loop without drift: a timerfd, asyncio and uvloop alike."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_NS: Final = 1_000_000_000


class _Interval(ctypes.Structure):
    """struct itimerspec (timerfd_settime(2))."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class Ticker:
    """Calls `on_tick(periods)` every `period_ns`: the periods since the last time, above 1 after a stall."""

    def __init__(self, period_ns: int, on_tick: Callable[[int], None], *, delay_ns: int = 0) -> None:
        """The first tick comes after one period and `delay_ns`."""
        self._on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        libc = ctypes.CDLL(None, use_errno=True)
        # The flags of timerfd_create are those of open(2).
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        interval = _Interval(*divmod(period_ns, _NS), *divmod(period_ns + delay_ns, _NS))
        if libc.timerfd_settime(self._fd, 0, ctypes.byref(interval), None):
            error = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(error, "timerfd_settime")
        self._loop.add_reader(self._fd, self._expired)

    def stop(self) -> None:
        """No tick after this; safe twice."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            periods = int.from_bytes(os.read(self._fd, 8), "little")
        except BlockingIOError:
            return
        self._on_tick(periods)
