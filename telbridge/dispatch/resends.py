"""What we say in a dead worker's name is said until it is heard: timers E and G of RFC 3261 §17. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from telbridge.dispatch.hops import ToPeer

T1_NS: Final = 500_000_000
T2_NS: Final = 4_000_000_000
GIVE_UP_NS: Final = 64 * T1_NS


@dataclass(slots=True)
class _Waiting:
    send: ToPeer
    due_ns: int
    interval_ns: int
    until_ns: int


class Resends:
    """Messages by whatever tells their answer."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, answer: Hashable, send: ToPeer, now_ns: int) -> None:
        """`send` is being sent for the first time."""
        self._waiting[answer] = _Waiting(send, now_ns + T1_NS, T1_NS, now_ns + GIVE_UP_NS)

    def heard(self, answer: Hashable) -> bool:
        """It came; whether it was waited for."""
        return self._waiting.pop(answer, None) is not None

    @property
    def deadline_ns(self) -> int | None:
        return min((waiting.due_ns for waiting in self._waiting.values()), default=None)

    def due(self, now_ns: int) -> list[ToPeer]:
        """What is to be sent again. TCP sees to that itself."""
        again = []
        for answer, waiting in list(self._waiting.items()):
            if now_ns >= waiting.until_ns:
                del self._waiting[answer]
            elif now_ns >= waiting.due_ns:
                waiting.interval_ns = min(2 * waiting.interval_ns, T2_NS)
                waiting.due_ns += waiting.interval_ns
                if waiting.send.to.transport == "udp":
                    again.append(waiting.send)
        return again
