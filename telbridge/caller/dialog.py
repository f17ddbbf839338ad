"""One call's signalling as the side that calls (RFC 3261 UAC and, once it is up, UAS). Pure.

Contract: after each method, take `messages_to_send()` (each once), then set one timer to `deadline_ns` and
call `tick` when it comes, never earlier. Methods return the events they caused, oldest first. All times are
nanoseconds of one monotonic clock. The session descriptions pass through as octets: `sdp` reads them.

    IDLE ── invite ──> CALLING ── 1xx ──> RINGING ── 2xx ──> UP ── BYE ──> CLOSING ──> OVER
                          └──── cancel ──> CANCELLING (487, or a 2xx that crossed: ACK and BYE) ──┘
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from sipmessage import Request, Response

from telbridge.caller.events import (
    Answered,
    AnswerReceived,
    DialogEvent,
    Ended,
    EndedBy,
    InfoReceived,
    OfferReceived,
    Progress,
    Referred,
    ReinviteAnswered,
    RequestAnswered,
)
from telbridge.caller.requests import Peers, derived, response_to
from telbridge.caller.transaction import (
    GIVE_UP_NS,
    T2_NS,
    Backoff,
    ClientTransaction,
    Due,
    Reply,
    State,
    branch_of,
)
from telbridge.caller.wire import Hop, Outgoing, summary

SDP_TYPE: Final = "application/sdp"
REMEMBERED_ANSWERS: Final = 16
"""Copies of requests older than that are not answered again."""
DIALOG_IS_GONE: Final = (408, 481)
"""Failures of a request inside a dialog that end the dialog (RFC 3261 §12.2.1.2)."""
_ABANDONED: Final = {
    EndedBy.NETWORK: (503, "Service Unavailable"),
    EndedBy.TIMEOUT: (408, "Request Timeout"),
}


class Phase(Enum):
    """Where the call is."""

    IDLE = auto()
    CALLING = auto()
    RINGING = auto()
    CANCELLING = auto()
    UP = auto()
    CLOSING = auto()
    OVER = auto()


class Dialog:
    """One call: an INVITE of ours and everything that follows from it."""

    def __init__(self, peers: Peers, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """`headers` go into the first INVITE as they are."""
        self.peers = peers
        self.phase = Phase.IDLE
        self.final: Response | None = None
        """The final response to the first INVITE, with all its headers."""
        self.refer_answer = (202, "Accepted")
        """What a REFER of the peer is answered with; a failure refuses the transfer."""
        self._headers = headers
        self._invite: Request | None = None
        self._cancel_wanted = False
        self._clients: dict[
            tuple[str, str], ClientTransaction
        ] = {}  # by branch and method: CANCEL shares one
        self._acks: dict[int, Outgoing] = {}
        self._reinviting: int | None = None
        self._remote_cseq = -1
        self._offer: tuple[Request, Hop] | None = None
        self._unacked: tuple[Outgoing, Backoff, int] | None = None
        self._offered_in_answer = False
        self._answered: OrderedDict[tuple[str, str], Outgoing] = OrderedDict()
        self._out: list[Outgoing] = []
        self._on_request: dict[str, Callable[[Request, Hop, int], list[DialogEvent]]] = {
            "ACK": self._on_ack,
            "BYE": self._on_bye,
            "INVITE": self._on_offer,
            "UPDATE": self._on_offer,
            "INFO": self._on_info,
            "REFER": self._on_refer,
            "OPTIONS": self._on_harmless,
            "NOTIFY": self._on_harmless,
            "MESSAGE": self._on_harmless,
        }

    # --- what the shell takes ---

    def messages_to_send(self) -> list[Outgoing]:
        """Taken once; the next call starts empty."""
        out, self._out = self._out, []
        return out

    @property
    def deadline_ns(self) -> int | None:
        """When `tick` is wanted next, None for never."""
        deadlines = [one.deadline_ns for one in self._clients.values()]
        if self._unacked is not None:
            deadlines.append(self._unacked[1].deadline_ns)
        return min((at for at in deadlines if at is not None), default=None)

    @property
    def finished(self) -> bool:
        """Over, and no late copy of anything is waited for."""
        return self.phase is Phase.OVER and self.deadline_ns is None

    # --- what we do ---

    def invite(self, offer: bytes, now_ns: int) -> None:
        """Call (RFC 3261 §13.2.1)."""
        self._expect(Phase.IDLE)
        self.phase = Phase.CALLING
        self._invite = self._send_request(
            "INVITE", now_ns, body=offer, content_type=SDP_TYPE, extra=self._headers
        )

    def hang_up(self, now_ns: int) -> list[DialogEvent]:
        """CANCEL while it rings, BYE once it is up, nothing when it is over (RFC 3261 §9, §15)."""
        if self.phase is Phase.IDLE:
            return self._end(Ended(now_ns, EndedBy.US, 487, "Request Terminated"))
        if self.phase is Phase.CALLING:
            self._cancel_wanted = True  # no CANCEL before a provisional response (RFC 3261 §9.1)
        elif self.phase is Phase.RINGING:
            self._cancel(now_ns)
        elif self.phase is Phase.UP:
            self._bye(now_ns)
        return []

    def reinvite(self, offer: bytes, now_ns: int) -> None:
        """New session description within the call (RFC 3261 §14.1); ends in `ReinviteAnswered`."""
        self._expect(Phase.UP)
        if self._reinviting is not None:
            raise RuntimeError("a re-INVITE of ours is still open (RFC 3261 §14.1)")
        request = self._send_request("INVITE", now_ns, body=offer, content_type=SDP_TYPE)
        self._reinviting = request.cseq.sequence

    def info(self, content_type: str, body: bytes, now_ns: int) -> None:
        """INFO (RFC 6086, here in the old way without package); ends in `RequestAnswered`."""
        self._expect(Phase.UP)
        self._send_request("INFO", now_ns, body=body, content_type=content_type)

    def answer_offer(self, code: int, phrase: str, body: bytes, now_ns: int) -> None:
        """Answer the `OfferReceived` last reported; a 2xx to INVITE is repeated until its ACK comes."""
        if self._offer is None:
            raise RuntimeError("no offer of the peer is open")
        (request, source), self._offer = self._offer, None
        out = self._respond(request, source, code, phrase, body=body)
        if request.method == "INVITE" and Reply.of(code) is Reply.SUCCESS:
            # Over TCP too: the 2xx is repeated end to end (RFC 3261 §13.3.1.4).
            self._unacked = (out, Backoff(now_ns, cap_ns=T2_NS), request.cseq.sequence)
            self._offered_in_answer = not request.body

    def notify_referrer(self, code: int, phrase: str, now_ns: int) -> None:
        """How the transfer asked for by `Referred` goes on (RFC 3515 §2.4.5)."""
        self._expect(Phase.UP)
        state = "active;expires=60" if code < 200 else "terminated;reason=noresource"
        extra = (("Event", "refer"), ("Subscription-State", state))
        body = f"SIP/2.0 {code} {phrase}\r\n".encode()
        self._send_request(
            "NOTIFY", now_ns, body=body, content_type="message/sipfrag;version=2.0", extra=extra
        )

    def abandon(self, by: EndedBy, now_ns: int) -> list[DialogEvent]:
        """Over without a word: the connection is gone (NETWORK), or nobody waits any longer (TIMEOUT)."""
        self._clients.clear()
        self._unacked = None
        return self._end(Ended(now_ns, by, *_ABANDONED[by]))

    # --- what comes in ---

    def receive(self, message: Request | Response, source: Hop, now_ns: int) -> list[DialogEvent]:
        """A parsed message with our Call-ID. What makes no sense is answered or ignored, never raised."""
        if isinstance(message, Response):
            return self._on_response(message, now_ns)
        if (before := self._answered.get((branch_of(message), message.method))) is not None:
            self._out.append(before)
            return []
        if message.to_address.parameters.get("tag") != self.peers.local_tag:
            if message.method != "ACK":
                self._respond(message, source, 481, "Call/Transaction Does Not Exist")
            return []
        handler = self._on_request.get(message.method)
        if handler is None:
            self._respond(message, source, 405, "Method Not Allowed")
            return []
        if message.method != "ACK" and not self._in_order(message, source):
            return []
        return handler(message, source, now_ns)

    def tick(self, now_ns: int) -> list[DialogEvent]:
        """Timers that have come."""
        events: list[DialogEvent] = []
        for transaction in list(self._clients.values()):
            while (due := transaction.tick(now_ns)) is Due.RESEND:
                self._out.append(transaction.request)
            if due is Due.TIMED_OUT:
                events += self._timed_out(transaction, now_ns)
            if transaction.state is State.TERMINATED:
                self._clients.pop(transaction.key, None)
        return events + self._repeat_answer(now_ns)

    # --- responses ---

    def _on_response(self, response: Response, now_ns: int) -> list[DialogEvent]:
        transaction = self._clients.get((branch_of(response), response.cseq.method))
        if transaction is None:
            self._acknowledge_again(response)
            return []
        if not transaction.receive(response.code, now_ns):
            if transaction.ack is not None and Reply.of(response.code) is Reply.FAILURE:
                self._out.append(transaction.ack)
            self._acknowledge_again(response)
            return []
        if transaction.method != "INVITE":
            return self._on_other_response(transaction, response, now_ns)
        if Reply.of(response.code) is Reply.FAILURE:
            self._acknowledge_failure(transaction, response)
        if response.cseq.sequence == self._reinviting:
            return self._on_reinvite_response(response, now_ns)
        return self._on_first_response(transaction, response, now_ns)

    def _on_first_response(
        self, transaction: ClientTransaction, response: Response, now_ns: int
    ) -> list[DialogEvent]:
        reply = Reply.of(response.code)
        if reply is Reply.PROVISIONAL:
            return self._on_progress(response, now_ns)
        self.final = response
        if reply is Reply.FAILURE:
            by = EndedBy.US if self.phase is Phase.CANCELLING else EndedBy.REFUSED
            return self._end(_refusal(response, by, now_ns))
        self.peers.learn(response)
        self._acknowledge(response)
        cancelled = self.phase is Phase.CANCELLING or self._cancel_wanted
        self.phase = Phase.UP
        if cancelled:
            self._bye(now_ns)  # the 2xx crossed our CANCEL (RFC 3261 §9.1)
        return [Answered(now_ns, response.code, response.phrase, response.body)]

    def _on_progress(self, response: Response, now_ns: int) -> list[DialogEvent]:
        if self.phase is Phase.CALLING:
            self.phase = Phase.RINGING
            if self._cancel_wanted:
                self._cancel(now_ns)
        return [Progress(now_ns, response.code, response.phrase, response.body)]

    def _on_reinvite_response(self, response: Response, now_ns: int) -> list[DialogEvent]:
        reply = Reply.of(response.code)
        if reply is Reply.PROVISIONAL:
            return []
        self._reinviting = None
        if reply is Reply.SUCCESS:
            self.peers.refresh_target(response)
            self._acknowledge(response)
        events: list[DialogEvent] = [ReinviteAnswered(now_ns, response.code, response.phrase, response.body)]
        if response.code in DIALOG_IS_GONE and self.phase is Phase.UP:
            self._bye(now_ns)
        return events

    def _on_other_response(
        self, transaction: ClientTransaction, response: Response, now_ns: int
    ) -> list[DialogEvent]:
        if Reply.of(response.code) is Reply.PROVISIONAL or transaction.method == "CANCEL":
            return []
        if transaction.method == "BYE":  # whatever the answer, the call is over (RFC 3261 §15.1.1)
            return self._end(Ended(now_ns, EndedBy.US, 200, "OK"))
        return [RequestAnswered(now_ns, transaction.method, response.code, response.phrase)]

    def _acknowledge(self, response: Response) -> None:
        """ACK of a 2xx: a new transaction along the route set (RFC 3261 §13.2.2.4)."""
        sequence = response.cseq.sequence
        request = self.peers.request("ACK", cseq=sequence, branch=self.peers.branch())
        self._acks[sequence] = self._write(request, self.peers.next_hop())

    def _acknowledge_again(self, response: Response) -> None:
        """Each copy of a 2xx gets its ACK once more."""
        ack = self._acks.get(response.cseq.sequence)
        if ack is not None and response.cseq.method == "INVITE" and Reply.of(response.code) is Reply.SUCCESS:
            self._out.append(ack)

    def _acknowledge_failure(self, transaction: ClientTransaction, response: Response) -> None:
        """ACK of a failure belongs to the transaction: its branch, its hop (RFC 3261 §17.1.1.3)."""
        ack = derived(transaction.message, "ACK")
        ack.headers.set("To", response.headers["To"])
        transaction.ack = self._write(ack, transaction.request.hop)

    # --- requests of the peer ---

    def _in_order(self, request: Request, source: Hop) -> bool:
        """RFC 3261 §12.2.2: a lower CSeq than before is out of order."""
        if request.cseq.sequence < self._remote_cseq:
            self._respond(request, source, 500, "CSeq Out Of Order")
            return False
        self._remote_cseq = request.cseq.sequence
        return True

    def _on_ack(self, request: Request, _source: Hop, now_ns: int) -> list[DialogEvent]:
        if self._unacked is None or request.cseq.sequence != self._unacked[2]:
            return []
        self._unacked = None
        return [AnswerReceived(now_ns, request.body)] if self._offered_in_answer and request.body else []

    def _on_bye(self, request: Request, source: Hop, now_ns: int) -> list[DialogEvent]:
        self._respond(request, source, 200, "OK")
        by = EndedBy.US if self.phase is Phase.CLOSING else EndedBy.PEER
        self._unacked = None
        return self._end(Ended(now_ns, by, 200, "OK", reason=request.headers.get("Reason")))

    def _on_offer(self, request: Request, source: Hop, now_ns: int) -> list[DialogEvent]:
        if self.phase is not Phase.UP:
            self._respond(request, source, 481, "Call/Transaction Does Not Exist")
            return []
        if self._reinviting is not None or self._offer is not None or self._unacked is not None:
            self._respond(request, source, 491, "Request Pending")  # RFC 3261 §14.2
            return []
        self.peers.refresh_target(request)
        if request.method == "UPDATE" and not request.body:
            self._respond(request, source, 200, "OK")  # only a session timer's refresh (RFC 4028)
            return []
        self._offer = (request, source)
        return [OfferReceived(now_ns, request.body)]

    def _on_info(self, request: Request, source: Hop, now_ns: int) -> list[DialogEvent]:
        self._respond(request, source, 200, "OK")
        return [InfoReceived(now_ns, request.headers.get("Content-Type") or "", request.body)]

    def _on_refer(self, request: Request, source: Hop, now_ns: int) -> list[DialogEvent]:
        refer_to = request.headers.get("Refer-To")
        if refer_to is None:
            self._respond(request, source, 400, "Missing Refer-To")
            return []
        self._respond(request, source, *self.refer_answer)
        if Reply.of(self.refer_answer[0]) is Reply.FAILURE:
            return []
        return [Referred(now_ns, refer_to.strip().removeprefix("<").partition(">")[0])]

    def _on_harmless(self, request: Request, source: Hop, _now_ns: int) -> list[DialogEvent]:
        self._respond(request, source, 200, "OK")
        return []

    # --- the machinery ---

    def _send_request(
        self,
        method: str,
        now_ns: int,
        *,
        body: bytes = b"",
        content_type: str = "",
        extra: Sequence[tuple[str, str]] = (),
    ) -> Request:
        sequence, branch = self.peers.cseq, self.peers.branch()
        request = self.peers.request(
            method, cseq=sequence, branch=branch, body=body, content_type=content_type
        )
        self.peers.cseq += 1
        for name, value in extra:
            request.headers.add(name, value)
        self._begin(request, self.peers.next_hop(), now_ns)
        return request

    def _begin(self, request: Request, hop: Hop, now_ns: int) -> None:
        out = self._write(request, hop)
        transaction = ClientTransaction(request, out, now_ns)
        self._clients[transaction.key] = transaction

    def _cancel(self, now_ns: int) -> None:
        assert self._invite is not None
        self.phase = Phase.CANCELLING
        pending = self._clients[(branch_of(self._invite), "INVITE")]
        pending.expect_final_by(now_ns + GIVE_UP_NS)
        self._begin(derived(self._invite, "CANCEL"), pending.request.hop, now_ns)

    def _bye(self, now_ns: int) -> None:
        self.phase = Phase.CLOSING
        self._unacked = None
        self._send_request("BYE", now_ns)

    def _respond(
        self, request: Request, source: Hop, code: int, phrase: str, *, body: bytes = b""
    ) -> Outgoing:
        response = response_to(request, code, phrase, body=body)
        if request.method in ("INVITE", "UPDATE"):
            response.contact = [self.peers.local.contact]
        out = self._write(response, source)
        self._answered[(branch_of(request), request.method)] = out
        while len(self._answered) > REMEMBERED_ANSWERS:
            self._answered.popitem(last=False)
        return out

    def _write(self, message: Request | Response, hop: Hop) -> Outgoing:
        out = Outgoing(bytes(message), hop, summary(message))
        self._out.append(out)
        return out

    def _repeat_answer(self, now_ns: int) -> list[DialogEvent]:
        while self._unacked is not None:
            out, backoff, _ = self._unacked
            due = backoff.due(now_ns)
            if due is None:
                break
            if due is Due.TIMED_OUT:  # no ACK: the session is to be ended (RFC 3261 §13.3.1.4)
                self._bye(now_ns)
                break
            self._out.append(out)
        return []

    def _timed_out(self, transaction: ClientTransaction, now_ns: int) -> list[DialogEvent]:
        nobody = (408, "Request Timeout")
        if transaction.method == "CANCEL":
            return []
        if self.phase in (Phase.CALLING, Phase.RINGING, Phase.CANCELLING, Phase.CLOSING):
            return self._end(Ended(now_ns, EndedBy.TIMEOUT, *nobody))
        if transaction.method == "INVITE":
            self._reinviting = None
            self._bye(now_ns)
            return [ReinviteAnswered(now_ns, *nobody, b"")]
        return [RequestAnswered(now_ns, transaction.method, *nobody)]

    def _end(self, event: Ended) -> list[DialogEvent]:
        if self.phase is Phase.OVER:
            return []
        self.phase = Phase.OVER
        self._unacked = None
        waiting = [key for key, one in self._clients.items() if one.state is not State.COMPLETED]
        for key in waiting:  # nobody is left to care for their answers
            del self._clients[key]
        return [event]

    def _expect(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise RuntimeError(f"the call is {self.phase.name}, not {phase.name}")


def _refusal(response: Response, by: EndedBy, now_ns: int) -> Ended:
    retry_after = (response.headers.get("Retry-After") or "").split(";")[0].split("(")[0].strip()
    return Ended(
        at_ns=now_ns,
        by=by,
        code=response.code,
        phrase=response.phrase,
        retry_after_s=int(retry_after) if retry_after.isdigit() else None,
        reason=response.headers.get("Reason"),
    )
