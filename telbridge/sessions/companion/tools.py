"""The tool calls of a Companion session: each once, each answered within the API's 10 seconds. Pure.

Source: github.com/Napster/omniagent-api-skills, skills/session-runtime: a call may be announced twice; one
not answered in time is failed by the API; slow work is answered with an interim output at once and told later
by a message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from telbridge.dialplan.vocabulary import Json

INTERIM_NS: Final = 7_500_000_000
"""After so long a call gets its interim output: well within the API's limit of 10 s."""
INTERIM: Final[Json] = {
    "ok": True,
    "status": "pending",
    "note": "The result will follow as a system message. Tell the caller that it takes a moment.",
}
KEPT_CALLS: Final = 256


class Stand(Enum):
    """Of a tool call."""

    OPEN = auto()
    PUT_OFF = auto()
    """It got its interim output; the result goes into a message."""
    CLOSED = auto()


@dataclass(slots=True)
class _Call:
    name: str
    due_ns: int
    stand: Stand = Stand.OPEN


class ToolCalls:
    """By the API's call id; the oldest are forgotten."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}

    @property
    def due_ns(self) -> int | None:
        return min((call.due_ns for call in self._calls.values() if call.stand is Stand.OPEN), default=None)

    def announced(self, call_id: str, name: str, now_ns: int) -> bool:
        """Whether this call is new."""
        if call_id in self._calls:
            return False
        self._calls[call_id] = _Call(name, now_ns + INTERIM_NS)
        if len(self._calls) > KEPT_CALLS:
            del self._calls[next(iter(self._calls))]
        return True

    def put_off(self, now_ns: int) -> list[str]:
        """The calls that must have their interim output now."""
        due = [
            call_id
            for call_id, call in self._calls.items()
            if call.stand is Stand.OPEN and call.due_ns <= now_ns
        ]
        for call_id in due:
            self._calls[call_id].stand = Stand.PUT_OFF
        return due

    def timed_out(self, call_id: str | None) -> str | None:
        """The API has given a call up; the oldest open one if it does not say which. None: it was
        answered already, or is none of ours."""
        if call_id is None:
            call_id = next((one for one, call in self._calls.items() if call.stand is Stand.OPEN), None)
        call = None if call_id is None else self._calls.get(call_id)
        if call is None or call.stand is Stand.CLOSED:
            return None
        call.stand = Stand.CLOSED
        return call_id

    def answered(self, call_id: str) -> tuple[Stand, str]:
        """How the result of a call goes out (CLOSED: not at all), and the call's name."""
        call = self._calls.get(call_id)
        if call is None:
            return Stand.CLOSED, ""
        stand, call.stand = call.stand, Stand.CLOSED
        return stand, call.name


def output_object(output: str, *, failed: bool) -> Json:
    """A tool's output as the plain object that the API wants."""
    try:
        value: object = json.loads(output, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = output
    if failed:
        return {"ok": False, "error": value}
    return value if isinstance(value, dict) else {"result": value}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
