"""A call that leaves its stream: to be connected with somebody else, and maybe to come back. Pure.

A carrier that runs a document of verbs asks what comes next when we close the stream. So a transfer is: the
last words are heard, we close, the carrier asks, is told whom to call, tells how that went, and where nobody
took the call it opens another stream for the same call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol
from urllib.parse import urlsplit

from telbridge.call.events import LegEvent, TransferAnswered, TransferFailed, TransferRinging

SECOND_NS: Final = 1_000_000_000
LAST_WORDS_NS: Final = 8 * SECOND_NS
"""What is being said when the transfer is asked for is heard to its end, within reason."""
SLACK_NS: Final = 10 * SECOND_NS
"""On top of the time that it may ring: the carrier's own slack (Twilio: 5 s) and its requests."""
RETURN_NS: Final = 10 * SECOND_NS
"""For the new stream to come once nobody took the call."""
_MAX_TARGET: Final = 256
_VISUAL: Final = re.compile(r"[-.()]")
"""RFC 3966 §5.1.1, visual separators."""
_NUMBER: Final = re.compile(r"\+?[0-9*#]{1,32}")
_UNFIT: Final = re.compile(r"[\x00-\x20\x7f<>\"]")


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """E.164 with its plus, or whatever the carrier takes for a number."""

    number: str


@dataclass(frozen=True, slots=True)
class SipAddress:
    """With its scheme."""

    uri: str


@dataclass(frozen=True, slots=True)
class OtherWebhook:
    """Somebody else's document says how the call goes on; it does not come back."""

    url: str


Destination = PhoneNumber | SipAddress | OtherWebhook


def destination(target: str) -> Destination:
    """Of a dialplan's `transfer`: a number, `tel:…`, `sip:…`, `user@host`, `https://…`. ValueError for what a
    carrier cannot call."""
    target = target.strip()
    if not target or len(target) > _MAX_TARGET or not target.isascii() or _UNFIT.search(target):
        raise ValueError("a transfer's target is a number, tel:…, sip:… or https://…")
    scheme, colon, rest = target.partition(":")
    if colon and scheme.lower() in ("http", "https"):
        if not urlsplit(target).hostname:
            raise ValueError("a transfer's URL needs a host")
        return OtherWebhook(target)
    if colon and scheme.lower() in ("sip", "sips"):
        if not rest.partition(";")[0].rpartition("@")[2]:
            raise ValueError("a transfer's SIP address needs a host")
        return SipAddress(target)
    if "@" in target and not colon:
        return SipAddress(f"sip:{target}")
    number = _VISUAL.sub("", rest if colon and scheme.lower() == "tel" else target)
    if not _NUMBER.fullmatch(number):
        raise ValueError("a transfer's target is a number, tel:…, sip:… or https://…")
    return PhoneNumber(number)


class CallControl(Protocol):
    """What a carrier can do with one call besides its stream. A leg whose carrier has none of this cannot
    transfer."""

    def end_call(self) -> None:
        """We hung up: end the call at once, if there is a way besides closing the stream."""

    async def told(self) -> Mapping[str, str]:
        """What it told of the call beside the stream, by its own names. For a call that is over: its last
        word is waited for, within bounds."""


async def nothing_told() -> Mapping[str, str]:
    """Of a carrier that can do nothing but stream."""
    return {}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the carrier is to be told when it asks what follows the stream."""

    to: Destination
    timeout_s: float


class _State(Enum):
    HERE = auto()
    LEAVING = auto()
    """The stream is still there, for the last words."""
    LEFT = auto()
    """Closed by us; the carrier will ask."""
    AWAY = auto()
    """The carrier has its order."""
    RINGING = auto()
    RETURNING = auto()
    """Nobody took the call: the next stream is awaited."""
    GONE = auto()


class Transfer:
    """The transfers of one leg, one at a time. What happened and when in, events out."""

    def __init__(self) -> None:
        self._state = _State.HERE
        self._until_ns = 0
        self._wish: Wish | None = None
        self._why = (0, "")

    @property
    def leaving(self) -> bool:
        return self._state is _State.LEAVING

    @property
    def away(self) -> bool:
        """There is no stream, and the call is not over."""
        return self._state in (_State.LEFT, _State.AWAY, _State.RINGING, _State.RETURNING)

    @property
    def returning(self) -> bool:
        return self._state is _State.RETURNING

    @property
    def done(self) -> bool:
        """Somebody else has the call."""
        return self._state is _State.GONE

    def begin(self, wish: Wish, now_ns: int) -> None:
        """One at a time: while one is under way, another is not begun."""
        if self._state is _State.HERE:
            self._state, self._wish, self._until_ns = _State.LEAVING, wish, now_ns + LAST_WORDS_NS

    def left(self, now_ns: int) -> None:
        """The stream is closed."""
        assert self._wish is not None
        self._state = _State.LEFT
        self._until_ns = now_ns + int(self._wish.timeout_s * SECOND_NS) + SLACK_NS

    def asked(self) -> Wish | None:
        """The carrier asks what comes next, maybe not for the first time: whom to call."""
        if self._state is _State.LEFT:
            self._state = _State.AWAY
        return self._wish if self._state in (_State.AWAY, _State.RINGING) else None

    def rings(self, now_ns: int) -> list[LegEvent]:
        if self._state is not _State.AWAY:
            return []
        self._state = _State.RINGING
        return [TransferRinging(now_ns)]

    def answered(self, now_ns: int) -> list[LegEvent]:
        """Somebody took the call, or it was handed to another webhook."""
        if self._state not in (_State.AWAY, _State.RINGING):
            return []
        self._state = _State.GONE
        return [TransferAnswered(now_ns)]

    def failed(self, status: int, detail: str, now_ns: int) -> bool:
        """Nobody took it; whether the call comes back to us."""
        if self._state in (_State.AWAY, _State.RINGING):
            self._state, self._why, self._until_ns = _State.RETURNING, (status, detail), now_ns + RETURN_NS
        return self._state is _State.RETURNING

    def returned(self, now_ns: int) -> list[LegEvent]:
        """The new stream is there."""
        assert self._state is _State.RETURNING
        self._state = _State.HERE
        status, detail = self._why
        return [TransferFailed(status, now_ns, detail, was_away=True)]

    def overdue(self, now_ns: int) -> str | None:
        """What did not come in time, if so."""
        if self._state is _State.HERE or now_ns < self._until_ns:
            return None
        if self._state is _State.RETURNING:
            return "the stream did not come back after the transfer"
        return "nothing was heard of the transfer"
