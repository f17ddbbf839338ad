"""One-time tokens by which a stream proves that its webhook was ours.

A ticket holds what it is bound to and when it expires, under a key; nothing is stored for one until it is
used, and what is stored then only until it would have expired: memory is bounded by real calls. Where several
processes have the key, a ticket names the one that takes it, its home: so it is good once for all of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

TICKET_S: Final = 120
"""Twilio connects within seconds of its webhook."""
CALL_S: Final = 26 * 3600
"""For what is asked while the call goes on: Twilio's longest lasts 24 hours."""
_MAC: Final = 16
_NONCE: Final = 9
MAX_TICKET: Final = 400


class TicketRefused(Exception):
    """Not one of ours, expired, or used before: the text says which."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a stream may be."""

    account: str
    call: str
    home: str = field(default="", compare=False)
    """The process that takes it; "": any."""


class TicketOffice:
    """Issues tickets and takes each once."""

    def __init__(self, key: bytes | None = None, *, valid_s: int = TICKET_S, home: str = "") -> None:
        """`home`: of tickets that say no other."""
        self._key = key or secrets.token_bytes(32)
        self._valid_s, self._home = valid_s, home
        self._used: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Used tickets that have not expired."""
        return len(self._used)

    def issue(self, ticket: Ticket, now_ns: int) -> str:
        """A text fit for a path segment."""
        expires_s = now_ns // 1_000_000_000 + self._valid_s
        named = ticket.home or self._home, ticket.account, ticket.call
        body = b"\0".join(name.encode() for name in named)
        body = expires_s.to_bytes(8, "big") + secrets.token_bytes(_NONCE) + body
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def take(self, text: str, now_ns: int) -> Ticket:
        """TicketRefused unless it is ours, fresh, and taken for the first time. One with another home is
        returned untaken: that home is to be asked."""
        mac, expires_s, ticket = self._opened(text, now_ns)
        if ticket.home not in ("", self._home):
            return ticket
        if mac in self._used:
            raise TicketRefused("the ticket was used before")
        self._forget_expired(now_ns // 1_000_000_000)
        self._used[mac] = expires_s
        return ticket

    def look(self, text: str, now_ns: int) -> Ticket:
        """Not taken: for an address that may be asked again. TicketRefused unless it is ours and fresh."""
        return self._opened(text, now_ns)[2]

    def _opened(self, text: str, now_ns: int) -> tuple[bytes, int, Ticket]:
        raw = _decoded(text)
        mac, body = raw[:_MAC], raw[_MAC:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise TicketRefused("not a ticket of ours")
        expires_s = int.from_bytes(body[:8], "big")
        if now_ns // 1_000_000_000 >= expires_s:
            raise TicketRefused("the ticket has expired")
        home, account, call = body[8 + _NONCE :].decode().split("\0", 2)
        return mac, expires_s, Ticket(account, call, home)

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC]

    def _forget_expired(self, now_s: int) -> None:
        """Oldest first: they were used in about the order in which they expire."""
        while self._used:
            oldest = next(iter(self._used))
            if self._used[oldest] > now_s:
                return
            del self._used[oldest]


def _decoded(text: str) -> bytes:
    try:
        if len(text) > MAX_TICKET:
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise TicketRefused("not a ticket of ours") from None
    if len(raw) < _MAC + 8 + _NONCE:
        raise TicketRefused("not a ticket of ours")
    return raw
