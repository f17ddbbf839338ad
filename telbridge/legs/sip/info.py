"""Keys in SIP INFO as the older form has them: `application/dtmf`, the body being the key. Pure.

The library understands `application/dtmf-relay` alone and answers 400 to the rest (gate.py answers this one).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from telbridge.legs.sip.message import header_values, shown_call_id

MAX_BODY: Final = 64
REMEMBERED: Final = 64
"""Requests whose copies are known: they come within 32 s (RFC 3261 timer F), if at all."""
_NUMBERED: Final = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
"""Some senders write the event's number (RFC 4733 §3.2)."""
_KEYS: Final = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class InfoKey:
    """A key in an INFO request."""

    call_id: str
    digit: str
    request: tuple[str, str]
    """Call-ID and CSeq: the same for a copy."""


def info_key(text: str) -> InfoKey | None:
    """None for an INFO request about something else."""
    headers = header_values(text)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    body = text.partition("\r\n\r\n")[2][:MAX_BODY].strip().upper()
    digit = _NUMBERED.get(body, body)
    if kind != "application/dtmf" or digit not in _KEYS:
        return None
    call_id = headers.get("call-id", "")
    return InfoKey(shown_call_id(call_id), digit, (call_id, headers.get("cseq", "")))


class Copies:
    """Recognises a request that came before and was taken."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, request: tuple[str, str]) -> bool:
        return request in self._seen

    def add(self, request: tuple[str, str]) -> None:
        self._seen[request] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
