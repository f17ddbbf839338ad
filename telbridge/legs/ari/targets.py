"""Whom a transfer reaches through Asterisk. Pure.

| target | way |
|---|---|
| `1001`, `tel:1001` | extension 1001 in the context that the call came by |
| `asterisk:support,100,1` | context, extension, priority or label |
| `PJSIP/desk`, any `Technology/resource` | Asterisk dials it and joins the two |
| `sip:desk@10.0.0.5`, `user@host` | the caller's own telephone is asked to call there (REFER) |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_TARGET: Final = 512
DIALPLAN: Final = "asterisk:"
_PLACE: Final = re.compile(r"[A-Za-z0-9_.*#+-]{1,80}")
"""Context, extension or label, without what Asterisk's functions and dial strings treat as their own."""
_ENDPOINT: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*/[^\s,&<>\"$\\\x00-\x1f\x7f]+")
_SIP: Final = re.compile(r"(?i:sips?:)[^\s,&<>\"$\\]+|[^\s,&<>\"$\\:/]+@[^\s,&<>\"$\\]+")


@dataclass(frozen=True, slots=True)
class InDialplan:
    """The dialplan of Asterisk goes on there."""

    context: str
    extension: str
    priority: str
    """A number, or a label."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Asterisk calls this endpoint."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class Refer:
    """The caller's telephone calls this SIP address."""

    address: str


def target_of(words: str, context: str) -> InDialplan | Dial | Refer:
    """`context`: of the call. ValueError for what is no target."""
    target = words.strip()
    if not target or len(target) > MAX_TARGET or not target.isascii():
        raise ValueError("a transfer's target is an extension, asterisk:context,extension,priority, …")
    if target.startswith(DIALPLAN):
        return _in_dialplan(target.removeprefix(DIALPLAN))
    if target.lower().startswith("tel:"):
        target = target[4:].partition(";")[0]
    if _PLACE.fullmatch(target):
        return InDialplan(context, target, "1")
    if _ENDPOINT.fullmatch(target):
        return Dial(target)
    if _SIP.fullmatch(target):
        return Refer(target if target.lower().startswith("sip") and ":" in target else f"sip:{target}")
    raise ValueError("no such target for Asterisk")


def _in_dialplan(place: str) -> InDialplan:
    parts = [part.strip() for part in place.split(",")]
    if len(parts) == 2:
        parts.append("1")
    if len(parts) != 3 or not all(map(_PLACE.fullmatch, parts)):
        raise ValueError("write asterisk:context,extension or asterisk:context,extension,priority")
    return InDialplan(*parts)


CAUSES: Final = {404: 1, 410: 22, 480: 18, 484: 28, 486: 17, 487: 16, 500: 41, 503: 34, 600: 17, 603: 21}
"""Q.850 causes for SIP statuses (RFC 3398 §7.2.4.1)."""
STATUSES: Final = {1: 404, 17: 486, 18: 408, 19: 480, 21: 403, 22: 410, 28: 484, 34: 503, 41: 500}
"""And back."""
DIALLED: Final = {"BUSY": 486, "NOANSWER": 408, "CANCEL": 487, "CONGESTION": 503, "CHANUNAVAIL": 480}
"""SIP statuses for a final DIALSTATUS."""
NORMAL_CLEARING: Final = 16
TEMPORARY_FAILURE: Final = 41
NO_CIRCUIT: Final = 34
