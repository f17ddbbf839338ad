"""A carrier's buffer towards its caller: audio and marks in order, played at its own clock. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class PlayCounters:
    """Octets of G.711."""

    received: int = 0
    played: int = 0
    cleared: int = 0
    most_buffered: int = 0


@dataclass(slots=True)
class Player:
    """One caller's ear. Marks come back when all before them was played."""

    counters: PlayCounters = field(default_factory=PlayCounters)
    _queue: deque[bytes | str] = field(default_factory=deque)
    """Audio as bytes, marks as text."""
    _offset: int = 0
    _buffered: int = 0

    @property
    def buffered(self) -> int:
        """Octets not played yet."""
        return self._buffered

    def add(self, audio: bytes) -> None:
        if audio:
            self._queue.append(audio)
            self._buffered += len(audio)
            self.counters.received += len(audio)
            self.counters.most_buffered = max(self.counters.most_buffered, self._buffered)

    def mark(self, name: str) -> list[str]:
        """Marks that come back at once: this one, if nothing stands before it."""
        if not self._queue:
            return [name]
        self._queue.append(name)
        return []

    def clear(self) -> list[str]:
        """Throw all away; the marks that come back."""
        marks = [item for item in self._queue if isinstance(item, str)]
        self.counters.cleared += self._buffered
        self._queue.clear()
        self._offset = self._buffered = 0
        return marks

    def play(self, octets: int) -> tuple[bytes, list[str]]:
        """The next piece for the caller's ear, shorter where the buffer runs dry, and the marks passed."""
        heard, marks = bytearray(), []
        while self._queue:
            item = self._queue[0]
            if isinstance(item, str):
                marks.append(item)
            elif len(heard) == octets:
                break
            else:
                piece = item[self._offset : self._offset + octets - len(heard)]
                heard += piece
                self._offset += len(piece)
                if self._offset < len(item):
                    break
                self._offset = 0
            self._queue.popleft()
        self._buffered -= len(heard)
        self.counters.played += len(heard)
        return bytes(heard), marks
