"""What a call tells the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Happened:
    """An event by its name in a dialplan (`rules.EVENTS`), but for the ones that have a class here and those
    that the engine makes itself: silence, tool_called, agent_switched, limit_near, error, hangup.

    `ringing` comes first, for a call that is answered at once, too; then `answered`. A transfer is told of by
    its events, and its order is answered besides.
    """

    event: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Its own facts, those of `rules.EVENTS[event].facts`; others are not looked at."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the caller, however it came."""

    digit: str = field(repr=False)
    """May belong to a PIN: not for logs."""
    method: str = "rfc4733"
    """ "rfc4733", "info", "inband", "twilio" …"""
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The agent asks for a tool."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the API sent it."""


@dataclass(frozen=True, slots=True)
class ToolCancelled:
    """The agent no longer wants the result."""

    tool_call_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """An order was carried out: words were heard or cut short, a transfer answered, a webhook answered."""

    order: int
    answer: Any = None
    """JSON of a webhook or tool."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An order could not be carried out."""

    order: int
    error: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline that the engine asked for has passed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over, whoever ended it. The last input."""

    cause: str = ""


Input = Happened | Key | ToolCalled | ToolCancelled | Done | Failed | Tick | Ended
