"""What is known of a call, and by which names conditions and templates see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from telbridge.dialplan.hours import WEEKDAYS


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a call, when it arrives."""

    call_id: str
    ingress: str
    """Kind of telephone side: "sip", "twilio" …"""
    caller: str
    """Number or user; "" for one who hides it."""
    called: str
    started_at: datetime
    """With its time zone."""
    domain: str = ""
    trunk: str = ""
    """Name of the trunk that the call came over, "" for none."""
    peer: str = ""
    """Address of the peer, with or without its port."""
    headers: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of a media stream."""
    calls_before: int = 0
    """How often this caller has called before, as far as records tell."""
    direction: Literal["in", "out"] = "in"
    """ "out": we called `called`."""


PLAIN: Final[Mapping[str, str]] = {
    "caller": "number or user that calls, empty if hidden",
    "called": "number or user that was called",
    "domain": "host part of the called address",
    "ingress": "kind of telephone side: sip, twilio …",
    "trunk": "name of the trunk",
    "peer": "address of the peer",
    "call_id": "our id of the call",
    "calls_before": "how often this caller has called before",
    "direction": "in, or out for a call of ours",
    "agent": "the agent API of now",
    "context": "the context of now",
    "duration_s": "seconds since the call was answered",
    "cost": "what the call has cost so far, by `limits.per_minute`",
}
TIME: Final[Mapping[str, str]] = {
    "clock": "as 14:05",
    "hour": "0 to 23",
    "minute": "0 to 59",
    "date": "as 2026-11-21",
    "year": "",
    "month": "1 to 12",
    "day": "1 to 31",
    "weekday": "Monday …",
    "part": "morning (from 5), afternoon (12), evening (18), night (22)",
}
OPEN_TABLES: Final[Mapping[str, str]] = {
    "headers": "SIP headers, and what a carrier's webhook tells: headers['X-Name'] or headers.x_name",
    "parameters": "parameters of a media stream",
}
OWN_TABLES: Final[Mapping[str, str]] = {
    "vars": "variables",
    "digits": "digits that were collected",
    "answers": "answers of webhooks, by their `as`",
    "hours": "true while they are open",
}
"""Tables whose names the dialplan itself defines."""


def time_of(moment: datetime, zone: str) -> dict[str, Any]:
    """The table `time`."""
    here = moment.astimezone(ZoneInfo(zone))
    parts = ((5, "night"), (12, "morning"), (18, "afternoon"), (22, "evening"), (25, "night"))
    return {
        "clock": f"{here:%H:%M}",
        "hour": here.hour,
        "minute": here.minute,
        "date": f"{here:%Y-%m-%d}",
        "year": here.year,
        "month": here.month,
        "day": here.day,
        "weekday": WEEKDAYS[here.weekday()],
        "part": next(name for end, name in parts if here.hour < end),
    }


def of_call(facts: Facts) -> dict[str, Any]:
    """The facts that stay the same through a call."""
    return {
        "caller": facts.caller,
        "called": facts.called,
        "domain": facts.domain,
        "ingress": facts.ingress,
        "trunk": facts.trunk,
        "peer": facts.peer,
        "call_id": facts.call_id,
        "calls_before": facts.calls_before,
        "direction": facts.direction,
        "headers": facts.headers,
        "parameters": facts.parameters,
    }
