"""The calls that go on, as the workers tell of them; what is kept of those that a worker took with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from telbridge.call.events import Ending


class LiveCalls:
    """By call id; in the supervisor."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}
        self._workers: dict[str, int] = {}
        """Which worker has the call, by its number."""

    def on_message(self, worker: int, message: Mapping[str, Any]) -> None:
        """One line of a worker. Others than ours are ignored."""
        match message.get("event"):
            case "call_started":
                record = dict(message["record"])
                self._calls[record["call_id"]], self._workers[record["call_id"]] = record, worker
            case "call_figures":
                if (call := self._calls.get(message["call_id"])) is not None:
                    call["live"] = message["figures"]
            case "call_ended":
                self._calls.pop(message["call_id"], None)
                self._workers.pop(message["call_id"], None)

    def get(self, call_id: str) -> dict[str, Any] | None:
        """What is known of it now: a record as far as it goes."""
        call = self._calls.get(call_id)
        return None if call is None else _now(call)

    def all(self) -> list[dict[str, Any]]:
        """The longest first."""
        return [_now(call) for call in self._calls.values()]

    def lost(self, worker: int) -> list[dict[str, Any]]:
        """This worker died: the records of its calls, which it can write no more."""
        gone = [call_id for call_id, whose in self._workers.items() if whose == worker]
        calls = [self._calls.pop(call_id) for call_id in gone]
        for call_id in gone:
            del self._workers[call_id]
        now = datetime.now(UTC)
        return [
            {
                **{key: value for key, value in call.items() if key != "live"},
                "ended_at": now.isoformat(timespec="milliseconds"),
                "duration_ms": _age_ms(call, now),
                "answered_ms": call.get("live", {}).get("answered_ms"),
                "ending": Ending.WORKER_DIED.value,
            }
            for call in calls
        ]


def _now(call: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {**call, "ended_at": None, "ending": "", "duration_ms": _age_ms(call, now)}


def _age_ms(call: Mapping[str, Any], now: datetime) -> int:
    return max(0, round((now - datetime.fromisoformat(call["started_at"])).total_seconds() * 1000))
