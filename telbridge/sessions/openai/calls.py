"""Tool calls of an OpenAI session: which are open, and when their results may be told. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

KEPT_CALLS: Final = 256
"""Tool calls remembered, against a second announcement of the same one, and for results that come late."""


class Due(NamedTuple):
    """What may be sent now."""

    outputs: list[tuple[str, str]]
    """Call id and output, for one function_call_output each."""
    answer: bool
    """Whether the agent is to be asked for an answer made of them."""


@dataclass(slots=True)
class _Batch:
    """The calls of one response: all their outputs go first, then one response.create."""

    over: bool
    cancelled: bool = False
    open: set[str] = field(default_factory=set)
    outputs: list[tuple[str, str]] = field(default_factory=list)

    def due(self) -> Due:
        """Nothing before response.done. An answer that the caller cut short is not asked for again: their
        next turn picks the outputs up."""
        if not self.over:
            return Due([], False)
        outputs, self.outputs = self.outputs, []
        return Due(outputs, bool(outputs) and not self.open and not self.cancelled)


class ToolCalls:
    """The calls of one session by the API's id."""

    def __init__(self) -> None:
        self._seen: deque[str] = deque(maxlen=KEPT_CALLS)
        self._batch_of: dict[str, _Batch] = {}
        self._running: dict[str, _Batch] = {}

    def announce(self, call_id: str, response_id: str, *, runs: bool) -> bool:
        """A call of a response, which still `runs` or not. False for one that was announced before."""
        if call_id in self._seen:
            return False
        if len(self._seen) == KEPT_CALLS:
            self._batch_of.pop(self._seen[0], None)
        self._seen.append(call_id)
        batch = self._running.get(response_id)
        if batch is None:
            batch = _Batch(over=not runs)
            if runs:
                self._running[response_id] = batch
                if len(self._running) > KEPT_CALLS:
                    del self._running[next(iter(self._running))]
        batch.open.add(call_id)
        self._batch_of[call_id] = batch
        return True

    def result(self, call_id: str, output: str) -> Due:
        """Of a call; nothing for one that is unknown or was answered."""
        batch = self._batch_of.pop(call_id, None)
        if batch is None:
            return Due([], False)
        batch.open.discard(call_id)
        batch.outputs.append((call_id, output))
        return batch.due()

    def response_done(self, response_id: str, *, cancelled: bool) -> Due:
        """response.done: results that came meanwhile may go."""
        batch = self._running.pop(response_id, None)
        if batch is None:
            return Due([], False)
        batch.over, batch.cancelled = True, cancelled
        return batch.due()
