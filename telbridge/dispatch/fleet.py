"""The workers: where they are, how full, and who takes the next call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Worker:
    """A process that takes calls."""

    number: int
    """Of its place: who comes after it has the same."""
    port: int
    """Of its SIP socket on loopback."""
    max_calls: int
    calls: int = 0
    """As it said itself; it knows of calls that were begun before us."""
    streams: int = 0
    """Its calls that do not come by SIP: they take no slot, but they are work."""
    retiring: bool = False
    """It keeps its calls and gets no more."""


class Fleet:
    """Workers that live. `ours`: calls that we know of, by worker."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._workers: dict[int, Worker] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def put(self, worker: Worker) -> None:
        self._workers[worker.number] = worker

    def remove(self, number: int) -> None:
        self._workers.pop(number, None)

    def get(self, number: int | None) -> Worker | None:
        return None if number is None else self._workers.get(number)

    def at(self, port: int) -> Worker | None:
        """The one that sends from this port."""
        return next((worker for worker in self._workers.values() if worker.port == port), None)

    def least_loaded(self, ours: Mapping[int, int]) -> Worker | None:
        """Who takes a new call; None if nobody can. What we have just handed out counts before its worker
        says so; what a worker says counts where we have forgotten."""
        loads = {number: self._load(worker, ours) for number, worker in self._workers.items()}
        free = [number for number, load in loads.items() if self._has_room(number, load)]
        if not free or sum(loads.values()) >= self._max_calls:
            return None
        return self._workers[
            min(free, key=lambda number: (loads[number] + self._workers[number].streams, number))
        ]

    def _has_room(self, number: int, load: int) -> bool:
        worker = self._workers[number]
        return load < worker.max_calls and not worker.retiring

    def _load(self, worker: Worker, ours: Mapping[int, int]) -> int:
        return max(worker.calls, ours.get(worker.number, 0))
