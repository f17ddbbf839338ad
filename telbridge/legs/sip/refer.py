"""A blind transfer seen from the side that asks for it (RFC 3515, RFC 5589 §6). Pure.

REFER goes out by the library, which also answers each NOTIFY; here is what the messages mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import quote

from telbridge.call.events import LegEvent, TransferAnswered, TransferFailed, TransferRinging
from telbridge.legs.sip.message import header_values

BYE_AFTER_ACCEPT_NS: Final = 2_000_000_000
"""A peer that ends the call so soon after its 202, with no word of a ringing phone, has moved it."""
MAX_TARGET: Final = 512
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f<>\"]")
_SCHEME: Final = re.compile(r"(?i)(sips?|tel):.+")
_USER_SAFE: Final = "-_.!~*'()&=+$,;?/%"
"""RFC 3261 §25.1, user; what is escaped already stays so."""
_STATUS: Final = re.compile(r"SIP/2\.0 +([1-6]\d\d)(?: +([^\r\n]*))?")
_CSEQ: Final = re.compile(r"(\d+)")
_EVENT_ID: Final = re.compile(r"(?i);\s*id\s*=\s*(\d+)")


def refer_to(target: str, peer_host: str) -> str:
    """The value of Refer-To for `sip:…`, `tel:…`, `user@host` or a bare user, who is then at the peer's host.
    ValueError for what is no address."""
    target = target.strip()
    if not target or len(target) > MAX_TARGET or _FORBIDDEN.search(target) or not target.isascii():
        raise ValueError("a transfer's target is sip:…, tel:…, user@host or a number")
    if _SCHEME.fullmatch(target):
        return f"<{target}>"
    user, at, host = target.rpartition("@") if "@" in target else (target, "@", peer_host)
    if not user or not host or ":" in user:
        raise ValueError("a transfer's target needs a user and a host")
    return f"<sip:{quote(user, safe=_USER_SAFE)}{at}{host}>"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a NOTIFY tells (RFC 3515 §2.4.5)."""

    event_id: int | None
    """CSeq of the REFER that it is about; None where the peer leaves that out."""
    status: int
    """Of the call to the target, 0 where the body tells none."""
    reason: str
    last: bool
    """The subscription ends with it."""


def progress(notify: str) -> Progress | None:
    """None for a NOTIFY about something else."""
    headers = header_values(notify)
    event = headers.get("event", "")
    if event.partition(";")[0].strip().lower() != "refer":
        return None
    found = _EVENT_ID.search(event)
    line = _STATUS.match(notify.partition("\r\n\r\n")[2].lstrip())
    return Progress(
        event_id=int(found[1]) if found else None,
        status=int(line[1]) if line else 0,
        reason=(line[2] or "").strip() if line else "",
        last=headers.get("subscription-state", "").strip().lower().startswith("terminated"),
    )


class _State(Enum):
    IDLE = auto()
    ASKED = auto()
    ACCEPTED = auto()
    RINGING = auto()
    DONE = auto()
    """Answered: the leg ends now."""


class Transfer:
    """The transfers of one leg, one at a time. Messages and times in, events out."""

    def __init__(self) -> None:
        self._state = _State.IDLE
        self._cseq = -1
        self._accepted_ns = 0
        self._given_up: set[int] = set()
        """REFERs that timed out, while their peer still owes a last NOTIFY."""

    @property
    def pending(self) -> bool:
        return self._state in (_State.ASKED, _State.ACCEPTED, _State.RINGING)

    @property
    def done(self) -> bool:
        """The other side took the call."""
        return self._state is _State.DONE

    def begin(self) -> None:
        self._state, self._cseq = _State.ASKED, -1

    def refer_answered(self, status: int, response: str, now_ns: int) -> list[LegEvent]:
        """The final response to REFER; `response` is its text, "" where none came."""
        headers = header_values(response)
        if self._state is not _State.ASKED:
            return []
        if status >= 300:
            return self._failed(status, now_ns, "REFER refused")
        number = _CSEQ.match(headers.get("cseq", ""))
        self._cseq = int(number[1]) if number else -1
        self._state, self._accepted_ns = _State.ACCEPTED, now_ns
        # RFC 4488: there will be no NOTIFY.
        return self._succeeded(now_ns) if headers.get("refer-sub", "").lower() == "false" else []

    def notified(self, news: Progress, now_ns: int) -> list[LegEvent]:
        """A NOTIFY; one may overtake the response to its REFER."""
        if self._is_old(news) or not self.pending:
            return []
        if self._state is _State.ASKED:
            self._state, self._accepted_ns = _State.ACCEPTED, now_ns
        if 200 <= news.status < 300:
            return self._succeeded(now_ns)
        if news.status >= 300:
            return self._failed(news.status, now_ns, news.reason)
        if news.last:
            return self._failed(408, now_ns, "the peer stopped telling")
        if news.status >= 180 and self._state is not _State.RINGING:
            self._state = _State.RINGING
            return [TransferRinging(now_ns)]
        return []

    def expired(self, now_ns: int) -> list[LegEvent]:
        """Nobody took the call in time."""
        if not self.pending:
            return []
        if self._state is not _State.ASKED:
            self._given_up.add(self._cseq)
        return self._failed(408, now_ns, "no answer in time")

    def refused(self, status: int, now_ns: int, detail: str) -> list[LegEvent]:
        """It could not even be asked for."""
        return self._failed(status, now_ns, detail)

    def peer_hung_up(self, now_ns: int) -> list[LegEvent]:
        """BYE came: the end of the transfer, or the caller's of the waiting."""
        soon = now_ns - self._accepted_ns < BYE_AFTER_ACCEPT_NS
        return self._succeeded(now_ns) if self._state is _State.ACCEPTED and soon else []

    def _is_old(self, news: Progress) -> bool:
        """About a REFER that we gave up. Without an id it is about the first (RFC 3515 §2.4.6)."""
        if not self._given_up:
            return False
        about = min(self._given_up) if news.event_id is None else news.event_id
        if about not in self._given_up:
            return False
        if news.last or news.status >= 200:
            self._given_up.discard(about)
        return True

    def _succeeded(self, now_ns: int) -> list[LegEvent]:
        self._state = _State.DONE
        return [TransferAnswered(now_ns)]

    def _failed(self, status: int, now_ns: int, detail: str) -> list[LegEvent]:
        self._state = _State.IDLE
        return [TransferFailed(status, now_ns, detail)]
