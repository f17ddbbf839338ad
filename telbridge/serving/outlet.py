"""A child's stdout and stderr. Who reads them may be slow, or stand still: calls never wait for that."""

from __future__ import annotations

import io
import os
import threading
import time
from queue import SimpleQueue
from typing import Final

import structlog

log = structlog.get_logger()

MOST_WAITING: Final = 20_000
"""Pieces of text, a line or two a piece; what comes on top is lost, and counted."""
LAST_WORDS_S: Final = 2.0
"""For what still waits when a child ends."""

GATHER_S: Final = 0.02
"""Lines that come so soon after others went out go together: each time that the thread wakes up, it and the
loop take the interpreter from each other, and the reader wakes up, too. One after a pause goes at once."""


class Outlet(io.TextIOBase):
    """A text stream to a descriptor, written in its order by a thread of its own, which begins with the first
    piece."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        """None: nothing more will come."""
        self._thread: threading.Thread | None = None
        self._lost = 0

    def write(self, text: str) -> int:
        """Never waits. What is written where nobody reads any more is lost without a word."""
        if self._waiting.qsize() >= MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.put(text)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"outlet {self._fd}", daemon=True)
            self._thread.start()
        return len(text)

    def finish(self) -> None:
        """Nothing more will come: wait until all is written, within reason."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(LAST_WORDS_S)

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def _run(self) -> None:
        goes_on, went_s = True, -GATHER_S
        while goes_on:
            pieces = [self._waiting.get()]
            wait_s = went_s + GATHER_S - time.monotonic()
            if pieces[0] is not None and wait_s > 0:
                time.sleep(wait_s)
            pieces += [self._waiting.get() for _ in range(self._waiting.qsize())]
            goes_on = pieces[-1] is not None
            try:
                self._write_all("".join(filter(None, pieces)).encode(errors="replace"))
            except OSError:
                return  # Nobody reads any more, and nobody could be told.
            went_s = time.monotonic()
            lost, self._lost = self._lost, 0
            if lost:
                log.warning("lines_lost", fd=self._fd, count=lost, remedy="who reads our output is too slow")

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
