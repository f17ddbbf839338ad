"""The calls that go on, as the workers tell of them; what is kept of those that a worker took with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from telbridge.call.events import Ending

LOOK_S: Final = 2.0
"""For a worker to tell of a call; then there is what it told before."""
PIECE: Final = 16_000
"""Characters of a record in one line of a worker: with all that JSON escapes it stays below the 64 KiB that a
reader of lines takes."""


class LiveCalls:
    """By call id; in the supervisor."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}
        self._workers: dict[str, int] = {}
        """Which worker has the call, by its number."""
        self.ask: Callable[[int, str], None] | None = None
        """Has a worker tell of a call in detail, by the worker's number and the call's id."""
        self._looking: dict[str, list[asyncio.Future[dict[str, Any] | None]]] = {}
        self._parts: dict[str, str] = {}

    def on_message(self, worker: int, message: Mapping[str, Any]) -> None:
        """One line of a worker. Others than ours are ignored."""
        match message.get("event"):
            case "call_started":
                record = dict(message["record"])
                self._calls[record["call_id"]], self._workers[record["call_id"]] = record, worker
            case "call_figures":
                if (call := self._calls.get(message["call_id"])) is not None:
                    call["live"] = message["figures"]
            case "call_now":
                call_id = message["call_id"]
                self._parts[call_id] = self._parts.get(call_id, "") + message["part"]
                if message["last"]:
                    self._seen(call_id, json.loads(self._parts.pop(call_id)))
            case "call_ended":
                self._forget(message["call_id"])

    def get(self, call_id: str) -> dict[str, Any] | None:
        """What is known of it now: a record as far as it goes."""
        call = self._calls.get(call_id)
        return None if call is None else _now(call)

    async def look(self, call_id: str) -> dict[str, Any] | None:
        """The same with its turns, voices and events up to now, which its worker is asked for. None: it is
        not there, or has just ended."""
        call = self._calls.get(call_id)
        if call is None or self.ask is None:
            return self.get(call_id)
        told: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        looking = self._looking.setdefault(call_id, [])
        looking.append(told)
        if len(looking) == 1:
            self.ask(self._workers[call_id], call_id)
        try:
            async with asyncio.timeout(LOOK_S):
                record = await told
        except TimeoutError:
            looking.remove(told)
            if not looking:  # Whoever looks next asks anew.
                self._looking.pop(call_id, None)
            return self.get(call_id)
        if record is None:
            return None
        now = {"started_at": call["started_at"], "ended_at": None, "ending": ""}
        return {**record, **now, "live": call.get("live", {})}

    def all(self) -> list[dict[str, Any]]:
        """The longest first."""
        return [_now(call) for call in self._calls.values()]

    def lost(self, worker: int) -> list[dict[str, Any]]:
        """This worker died: the records of its calls, which it can write no more."""
        gone = [call_id for call_id, whose in self._workers.items() if whose == worker]
        calls = [self._calls[call_id] for call_id in gone]
        for call_id in gone:
            self._forget(call_id)
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

    def _seen(self, call_id: str, record: dict[str, Any] | None) -> None:
        """Those who look are told; a worker's later answer is nobody's."""
        for told in self._looking.pop(call_id, ()):
            if not told.done():
                told.set_result(record)

    def _forget(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._workers.pop(call_id, None)
        self._parts.pop(call_id, None)
        self._seen(call_id, None)


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """For lines of a bounded length; whether it is the last."""
    for start in range(0, max(1, len(text)), PIECE):
        yield text[start : start + PIECE], start + PIECE >= len(text)


def _now(call: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {**call, "ended_at": None, "ending": "", "duration_ms": _age_ms(call, now)}


def _age_ms(call: Mapping[str, Any], now: datetime) -> int:
    return max(0, round((now - datetime.fromisoformat(call["started_at"])).total_seconds() * 1000))
