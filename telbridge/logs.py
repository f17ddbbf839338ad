"""What all processes do alike with log lines: a least level that can be changed while they run, and repeats,
which are counted instead of written. Imports nothing of ours: everything may import it.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

LogLevel = Literal["debug", "info", "warning", "error"]
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
REPEATS: Final = 50
"""Lines of one event that are written in a window, unless the settings say otherwise."""
WINDOW_NS: Final = 10_000_000_000
MOST_KINDS: Final = 500
"""Events that are watched at a time: those of other people's libraries have any text."""
LONGEST: Final = 100
"""Characters by which an event is known."""
REPEATED: Final = "repeated"
ALWAYS: Final = frozenset({"call_ended", REPEATED})
"""Events of which every line is written: each call has its own."""

Kind = tuple[str, str]
"""Level and event."""

log = structlog.get_logger()


class Repeats:
    """How often each kind of line came in its window; pure, every time is passed in. Memory is bounded."""

    def __init__(self, most: int, window_ns: int = WINDOW_NS) -> None:
        """`most`: lines of a kind that pass in a window."""
        self._most, self._window_ns = most, window_ns
        self._windows: dict[Kind, tuple[int, int]] = {}
        """When it began, and how many lines came; the oldest first."""
        self._over: list[tuple[Kind, int]] = []

    def passes(self, kind: Kind, now_ns: int) -> bool:
        """Whether one more line is written; others are counted."""
        began_ns, count = self._windows.get(kind, (now_ns, 0))
        if now_ns - began_ns >= self._window_ns:
            self._end(kind)
            began_ns, count = now_ns, 0
        if not count and len(self._windows) >= MOST_KINDS:
            self._end(next(iter(self._windows)))
        self._windows[kind] = began_ns, count + 1
        return count < self._most

    def over(self, now_ns: int | None = None) -> list[tuple[Kind, int]]:
        """Kinds whose window has ended, with how many lines were left out; each is told once. None: all of
        them, for there will be no later."""
        while self._windows:
            oldest, (began_ns, _) = next(iter(self._windows.items()))
            if now_ns is not None and now_ns - began_ns < self._window_ns:
                break
            self._end(oldest)
        told, self._over = self._over, []
        return told

    def due_ns(self) -> int | None:
        """When `over` next has something to tell; None while nothing is left out."""
        ends = [began_ns for began_ns, count in self._windows.values() if count > self._most]
        return min(ends) + self._window_ns if ends else None

    def _end(self, kind: Kind) -> None:
        _, count = self._windows.pop(kind)
        if count > self._most:
            self._over.append((kind, count - self._most))


class Gate:
    """The first processor of structlog's chain, and a filter of the standard library's handlers."""

    def __init__(
        self,
        level: LogLevel,
        repeats: int = REPEATS,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        window_ns: int = WINDOW_NS,
    ) -> None:
        """`repeats`: lines of one event in `window_ns`; 0 writes all."""
        self.level: LogLevel = level
        self._least = LEVELS[level]
        self._clock = clock
        self._repeats = Repeats(repeats, window_ns) if repeats else None
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    @property
    def debugs(self) -> bool:
        """Whether lines at debug pass at all."""
        return self._least <= logging.DEBUG

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS.get(method, logging.CRITICAL) < self._least:
            raise structlog.DropEvent
        name = event.get("event")
        if name not in ALWAYS and not self._passes((method, str(name)[:LONGEST])):
            raise structlog.DropEvent
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Of a line of another library's: what it fills in makes no other event of it."""
        return self._passes((record.levelname.lower(), f"{record.name}: {record.msg}"[:LONGEST]))

    def change(self, level: LogLevel) -> None:
        """From now on; told at the lower of both levels, so that it always stands in the log."""
        before, self.level = self.level, level
        if before != level:
            self._least = min(LEVELS[before], LEVELS[level], logging.INFO)
            log.info("log_level", now=level, before=before)
        self._least = LEVELS[level]

    def tell(self, *, all_of_it: bool = False) -> None:
        """What was left out in windows that are over, or in all."""
        if self._repeats is None:
            return
        with self._lock:
            over = self._repeats.over(None if all_of_it else self._clock())
            self._timer = None
            self._wait()
        for (method, name), left_out in over:
            log.log(LEVELS.get(method, logging.CRITICAL), REPEATED, of=name, left_out=left_out)

    def _passes(self, kind: Kind) -> bool:
        if self._repeats is None:
            return True
        with self._lock:
            if self._repeats.passes(kind, self._clock()):
                return True
            self._wait()
            return False

    def _wait(self) -> None:
        """A thread for the end of a window: who is flooded may be silent afterwards, and has no loop here."""
        if self._timer is not None or self._repeats is None:
            return
        if (due_ns := self._repeats.due_ns()) is not None:
            # As if told by the line that was left out: whose process it is stands in the context.
            tell = contextvars.copy_context().run
            self._timer = threading.Timer(max(0, due_ns - self._clock()) / 1e9, tell, (self.tell,))
            self._timer.daemon = True
            self._timer.start()


_gate: Gate | None = None


def gate(level: LogLevel, repeats: int) -> Gate:
    """This process's, from now on."""
    global _gate
    _gate = Gate(level, repeats)
    atexit.unregister(tell_rest)
    atexit.register(tell_rest)
    return _gate


def tell_rest() -> None:
    """What was left out and has not been told: this process ends."""
    if _gate is not None:
        _gate.tell(all_of_it=True)


def change_level(level: str) -> None:
    """Of this process. ValueError for what is no level."""
    if level not in ("debug", "info", "warning", "error"):
        raise ValueError(f"{level[:20]!r} is no level")
    if _gate is not None:
        _gate.change(level)  # type: ignore[arg-type]  # looked at above
