"""What happens in a dialog, as small facts. Times are nanoseconds of the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class EndedBy(Enum):
    """Whose doing the end of a call was."""

    US = "us"
    """We hung up or cancelled."""
    PEER = "peer"
    """BYE came."""
    REFUSED = "refused"
    """A final response of 300 or more to our first INVITE."""
    TIMEOUT = "timeout"
    """Nobody answered a request (timer B or F, or the ACK that never came)."""
    NETWORK = "network"
    """The connection broke."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response to the first INVITE: 100, 180, 183 …; `body` is early media's SDP, or empty."""

    at_ns: int
    code: int
    phrase: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """2xx to the first INVITE; the ACK is already among the data to send."""

    at_ns: int
    code: int
    phrase: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of each dialog."""

    at_ns: int
    by: EndedBy
    code: int
    """Status of the refusal, 200 for a call that was up, 487 for one we cancelled, 408 for no answer."""
    phrase: str
    retry_after_s: int | None = None
    """RFC 3261 §20.33, if the refusal named it."""
    reason: str | None = None
    """The peer's Reason header (RFC 3326), as written."""


@dataclass(frozen=True, slots=True)
class ReinviteAnswered:
    """Final response to a re-INVITE of ours. A failure leaves the session as it was (RFC 3261 §14.1)."""

    at_ns: int
    code: int
    phrase: str
    body: bytes


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """A re-INVITE or UPDATE of the peer: call `Dialog.answer_offer`. An empty `body` wants our offer."""

    at_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """The ACK to a re-INVITE without offer brought the peer's answer."""

    at_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """INFO of the peer (already answered 200)."""

    at_ns: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Referred:
    """REFER of the peer (already answered 202): it transfers us. Tell it by `Dialog.notify_referrer`."""

    at_ns: int
    refer_to: str


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """Final response to INFO or NOTIFY of ours."""

    at_ns: int
    method: str
    code: int
    phrase: str


DialogEvent = (
    Progress
    | Answered
    | Ended
    | ReinviteAnswered
    | OfferReceived
    | AnswerReceived
    | InfoReceived
    | Referred
    | RequestAnswered
)
