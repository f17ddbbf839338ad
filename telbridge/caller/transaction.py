"""Client transactions of RFC 3261 §17.1 and their timers. Pure: time comes in, nothing is sent."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from sipmessage import Request, Response

from telbridge.caller.wire import Outgoing

MS: Final = 1_000_000
T1_NS: Final = 500 * MS
"""Round-trip estimate (RFC 3261 §17.1.1.1)."""
T2_NS: Final = 4_000 * MS
"""Longest interval between retransmissions of a non-INVITE request or of a 2xx."""
T4_NS: Final = 5_000 * MS
"""How long a message may live in the network."""
GIVE_UP_NS: Final = 64 * T1_NS
"""Timers B, F and H."""
TIMER_D_NS: Final = 32_000 * MS


class State(Enum):
    """RFC 3261 figures 5 and 6; TRYING is figure 5's *Calling* for INVITE."""

    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    TERMINATED = auto()


class Reply(Enum):
    """What matters of a status code."""

    PROVISIONAL = auto()
    SUCCESS = auto()
    FAILURE = auto()

    @staticmethod
    def of(code: int) -> Reply:
        if code < 200:
            return Reply.PROVISIONAL
        return Reply.SUCCESS if code < 300 else Reply.FAILURE


class Due(Enum):
    """What a timer asks for."""

    RESEND = auto()
    TIMED_OUT = auto()
    """Nobody answered (timer B or F): to the user this is a 408 (RFC 3261 §8.1.3.1)."""


_NEXT: Final = {
    (State.TRYING, Reply.PROVISIONAL): State.PROCEEDING,
    (State.PROCEEDING, Reply.PROVISIONAL): State.PROCEEDING,
    (State.TRYING, Reply.SUCCESS): State.COMPLETED,
    (State.PROCEEDING, Reply.SUCCESS): State.COMPLETED,
    (State.TRYING, Reply.FAILURE): State.COMPLETED,
    (State.PROCEEDING, Reply.FAILURE): State.COMPLETED,
}
"""A response in a state without a row is a retransmission."""


class Backoff:
    """Doubling intervals from T1 up to a cap, and the moment to stop trying (timers A/B, E/F, G/H)."""

    def __init__(self, now_ns: int, *, cap_ns: int = GIVE_UP_NS, resend: bool = True) -> None:
        self._interval_ns = T1_NS
        self._cap_ns = cap_ns
        self._resend_ns = now_ns + T1_NS if resend else None
        self.give_up_ns: int | None = now_ns + GIVE_UP_NS

    @property
    def deadline_ns(self) -> int | None:
        moments = [at for at in (self._resend_ns, self.give_up_ns) if at is not None]
        return min(moments, default=None)

    def due(self, now_ns: int) -> Due | None:
        """What is due; the next interval begins at the moment that was due, not at the one it was noticed."""
        if self.give_up_ns is not None and now_ns >= self.give_up_ns:
            self.stop()
            return Due.TIMED_OUT
        if self._resend_ns is None or now_ns < self._resend_ns:
            return None
        self._interval_ns = min(self._interval_ns * 2, self._cap_ns)
        self._resend_ns += self._interval_ns
        return Due.RESEND

    def slow_down(self) -> None:
        """A provisional response came: retransmit at T2 from now on (RFC 3261 §17.1.2.2)."""
        self._interval_ns = self._cap_ns

    def stop(self) -> None:
        self._resend_ns = self.give_up_ns = None


class ClientTransaction:
    """One request of ours until its final response, and after it while late copies may still come."""

    def __init__(self, message: Request, request: Outgoing, now_ns: int) -> None:
        self.message = message
        self.request = request
        self.method = message.method
        self.key = (branch_of(message), message.method)
        """What finds the transaction of a response (RFC 3261 §17.1.3)."""
        self.state = State.TRYING
        self.ack: Outgoing | None = None
        """Sent again for each copy of a failure of INVITE (RFC 3261 §17.1.1.2)."""
        self._invite = message.method == "INVITE"
        self._reliable = request.hop.reliable
        cap_ns = GIVE_UP_NS if self._invite else T2_NS
        self._backoff = Backoff(now_ns, cap_ns=cap_ns, resend=not self._reliable)
        self._linger_ns: int | None = None

    @property
    def deadline_ns(self) -> int | None:
        return self._linger_ns if self.state is State.COMPLETED else self._backoff.deadline_ns

    def receive(self, code: int, now_ns: int) -> bool:
        """True if the response is news for the dialog, False for a copy."""
        following = _NEXT.get((self.state, Reply.of(code)))
        if following is None:
            return False
        self.state = following
        if following is State.COMPLETED:
            self._complete(now_ns)
        elif self._invite:
            self._backoff.stop()  # an INVITE that is being worked on may ring for ever
        else:
            self._backoff.slow_down()
        return True

    def tick(self, now_ns: int) -> Due | None:
        """Call when `deadline_ns` has come; a second call at the same time may find more."""
        if self.state is State.COMPLETED:
            if self._linger_ns is not None and now_ns >= self._linger_ns:
                self.state = State.TERMINATED
            return None
        due = self._backoff.due(now_ns)
        if due is Due.TIMED_OUT:
            self.state = State.TERMINATED
        return due

    def expect_final_by(self, at_ns: int) -> None:
        """After CANCEL a final response must come within 64·T1 (RFC 3261 §9.1)."""
        self._backoff.give_up_ns = at_ns

    def _complete(self, now_ns: int) -> None:
        self._backoff.stop()
        linger_ns = 0 if self._reliable else (TIMER_D_NS if self._invite else T4_NS)
        self._linger_ns = now_ns + linger_ns


def branch_of(message: Request | Response) -> str:
    """Branch of the top Via, empty if it has none."""
    return message.via[0].parameters.get("branch") or ""
