"""The dispatcher: octets and their source in, octets and their destination out. Pure, without a clock.

Forwarding keeps no transactions (RFC 3261 §16.11). What a request in a dialog needs stands in its Route: the
worker's number and the peer's address are parameters of our Record-Route, so that a dispatcher that was
started again forwards them as before. What is kept of a call serves copies of its INVITE, its CANCEL and ACK,
the count of calls, and the BYE that its peer gets if its worker dies.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sipmessage import Via

from telbridge.dispatch.branch import branch, digest
from telbridge.dispatch.calls import Call, Calls, Key, State
from telbridge.dispatch.fleet import Fleet, Worker
from telbridge.dispatch.hops import DEFAULT_PORTS, Hop, Send, ToPeer, ToWorker
from telbridge.dispatch.marks import LOOPBACK, Marks, hop_of, worker_of_route, worker_of_uri
from telbridge.dispatch.message import (
    COOKIE,
    Malformed,
    SipMessage,
    number,
    parse,
    read_via,
    received,
    sent_by_port,
    tag,
    uri_of,
)
from telbridge.dispatch.replies import answer, back, respond
from telbridge.dispatch.resends import Resends
from telbridge.dispatch.routing import aim, way
from telbridge.legs.sip.front import PEER_HEADER

MAX_FOR_A_WORKER: Final = 4_000
"""PJSIP_MAX_PKT_LEN: of a longer datagram pjsip sees the beginning."""
SWEEP_NS: Final = 5_000_000_000
REFUSALS_KEPT: Final = 1_024
_SECURE: Final = re.compile("sips:", re.IGNORECASE)
_IN_DIALOGS_ONLY: Final = frozenset({"BYE", "CANCEL", "INFO", "NOTIFY", "PRACK", "UPDATE"})
_NOT_HERE: Final = frozenset({"MESSAGE", "PUBLISH", "REFER", "REGISTER", "SUBSCRIBE"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a dispatcher is told at its start."""

    port: int
    """Of SIP on the outside, UDP and TCP."""
    inner_port: int
    """Of our socket towards the workers, on loopback."""
    max_calls: int
    server: str
    """For the Server header of our own answers."""
    public_address: str | None = None
    """What stands in for our own address, when a NAT stands before us."""
    admits: Callable[[str, int], bool] = lambda host, now_ns: True
    """Whether this address may begin one more call or ask once more now."""
    tls_port: int = DEFAULT_PORTS["tls"]


@dataclass(slots=True)
class Counters:
    """Since the start."""

    forwarded: int = 0
    malformed: int = 0
    astray: int = 0
    """Messages that belong to nobody: dropped."""
    refused_full: int = 0
    refused_draining: int = 0
    throttled: int = 0
    calls: int = 0
    ended_for_the_dead: int = 0
    """Calls whose worker died."""


class Dispatcher:
    """`now_ns` is monotonic time."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._marks = Marks(terms.port, terms.tls_port, terms.inner_port, terms.public_address)
        self._fleet = Fleet(terms.max_calls)
        self._calls = Calls()
        self._resends = Resends()
        self._refused: OrderedDict[tuple[Key, int], None] = OrderedDict()
        self._draining = False
        self._sweep_ns: int | None = None
        self.counters = Counters()

    # ------------------------------------------------------------ workers

    def worker_up(self, worker: Worker) -> None:
        self._fleet.put(worker)

    def worker_says(self, number: int, calls: int, streams: int = 0) -> None:
        """How many calls it has, by SIP and otherwise."""
        if (worker := self._fleet.get(number)) is not None:
            worker.calls, worker.streams = calls, streams

    def worker_retires(self, number: int) -> None:
        """It gets no new calls."""
        if (worker := self._fleet.get(number)) is not None:
            worker.retiring = True

    def worker_gone(self, number: int, now_ns: int) -> list[Send]:
        """It died: whoever talks to it gets BYE, whoever waits for an answer 503."""
        self._fleet.remove(number)
        sends: list[Send] = []
        for call in self._calls.of(number):
            said = self._bye(call, now_ns) if call.state is State.TALKING else self._never_mind(call, now_ns)
            self._calls.end(call, now_ns)
            self.counters.ended_for_the_dead += 1
            sends.append(said)
        return sends

    def drain(self) -> None:
        """No new calls. What is there goes on."""
        self._draining = True

    @property
    def live_calls(self) -> int:
        return sum(self._calls.live.values())

    # ------------------------------------------------------------ time

    @property
    def deadline_ns(self) -> int | None:
        """When `tick` is wanted."""
        moments = (self._resends.deadline_ns, self._sweep_ns)
        return min((at for at in moments if at is not None), default=None)

    def tick(self, now_ns: int) -> list[Send]:
        if self._sweep_ns is not None and now_ns >= self._sweep_ns:
            self._calls.sweep(now_ns)
            for number in self._calls.live:
                if (worker := self._fleet.get(number)) is not None:
                    self._calls.heed(worker, now_ns)
            self._sweep_ns = now_ns + SWEEP_NS if len(self._calls) else None
        return list(self._resends.due(now_ns))

    # ------------------------------------------------------------ messages

    def from_peer(self, data: bytes, source: Hop, now_ns: int) -> list[Send]:
        """One message from the outside, of somebody who may send us some."""
        try:
            message = parse(data)
            top = read_via(next(iter(message.values("Via")), ""))
            if message.status:
                return self._peer_responds(message, top, source)
            send = self._peer_asks(message, top, source, now_ns)
        except Malformed as fault:
            self.counters.malformed += 1
            send = answer(fault.message, source, fault.status, self._terms.server) if fault.message else None
        return [] if send is None else [send]

    def from_worker(self, data: bytes, port: int, now_ns: int) -> list[Send]:
        """One datagram that came to our inner socket from this loopback port."""
        try:
            worker = self._fleet.at(port)
            if worker is None:
                return self._astray()
            message = parse(data)
            top = read_via(next(iter(message.values("Via")), ""))
            if message.status:
                return self._worker_responds(message, top, worker, now_ns)
            return self._worker_asks(message, top, worker, now_ns)
        except Malformed:
            self.counters.malformed += 1
            return []

    # ------------------------------------------------------------ from the outside

    def _peer_asks(self, message: SipMessage, top: Via, source: Hop, now_ns: int) -> Send | None:
        if _hops_left(message) == 0 and (message.method != "OPTIONS" or message.to_tag):
            return self._answer(message, source, 483)
        call = self._calls.get((message.call_id, message.from_tag))
        if message.method == "CANCEL":
            return self._forward(message, top, source, self._fleet.get(call.worker if call else None))
        if message.to_tag:
            return self._peer_asks_inside(message, top, source, call, now_ns)
        if message.method == "INVITE":
            return self._invited(message, top, source, call, now_ns)
        if message.method == "ACK":
            return None
        return self._answer(message, source, self._status_outside(message.method, source, now_ns))

    def _peer_asks_inside(
        self, message: SipMessage, top: Via, source: Hop, call: Call | None, now_ns: int
    ) -> Send | None:
        if message.method == "ACK" and self._resends.heard((message.call_id, message.from_tag)):
            return None
        worker = self._fleet.get(_whose(message, call))
        if call is not None and (not call.local or message.to_tag == tag(call.local)):
            call.peer, call.since_ns = source, max(now_ns, call.since_ns)
            self._learn_target(call, message)
            if message.method == "BYE":
                self._calls.end(call, now_ns)
        return self._forward(message, top, source, worker)

    def _invited(
        self, message: SipMessage, top: Via, source: Hop, call: Call | None, now_ns: int
    ) -> Send | None:
        if call is not None and call.cseq == message.cseq.sequence:  # a copy
            return self._forward(message, top, source, self._fleet.get(call.worker), record=True)
        attempt = (message.call_id, message.from_tag), message.cseq.sequence
        worker = None
        if attempt not in self._refused and self._admits(source, now_ns):
            worker = self._somebody()
        if worker is None:
            self._refused[attempt] = None
            if len(self._refused) > REFUSALS_KEPT:
                self._refused.popitem(last=False)
            return self._answer(message, source, 503)
        kept = message.excerpt()
        send = self._forward(message, top, source, worker, record=True)
        if isinstance(send, ToWorker):
            self._calls.open(kept, source, worker.number, now_ns)
            self.counters.calls += 1
            self._sweep_ns = self._sweep_ns or now_ns + SWEEP_NS
        return send

    def _somebody(self) -> Worker | None:
        if self._draining:
            self.counters.refused_draining += 1
            return None
        worker = self._fleet.least_loaded(self._calls.live)
        self.counters.refused_full += worker is None
        return worker

    def _admits(self, source: Hop, now_ns: int) -> bool:
        admitted = self._terms.admits(source.host, now_ns)
        self.counters.throttled += not admitted
        return admitted

    def _status_outside(self, method: str, source: Hop, now_ns: int) -> int:
        """Of our answer to a request outside any dialog that begins no call."""
        if method == "OPTIONS":
            room = not self._draining and self._fleet.least_loaded(self._calls.live) is not None
            return 200 if room and self._admits(source, now_ns) else 503
        if method in _IN_DIALOGS_ONLY:
            return 481
        return 405 if method in _NOT_HERE else 501

    def _peer_responds(self, message: SipMessage, top: Via, source: Hop) -> list[Send]:
        if top.port != self._marks.port_for(source) or top.host not in (
            self._marks.public(source),
            source.local,
        ):
            return self._astray()
        if message.status >= 200 and self._resends.heard(top.parameters.get("branch")):
            return []
        vias = message.values("Via")[1:]
        if not vias:
            return self._astray()
        following = read_via(vias[0])
        port = number(following.parameters.get("rport"), 65535) or sent_by_port(following)
        if following.host != LOOPBACK or self._fleet.at(port) is None:
            return self._astray()
        if (call := self._calls.get((message.call_id, message.to_tag))) is not None:
            self._learn_target(call, message)
        _in_clear(message)
        message.put("Via", vias)
        self.counters.forwarded += 1
        return [ToWorker(bytes(message), port)]

    def _forward(
        self, message: SipMessage, top: Via, source: Hop, worker: Worker | None, *, record: bool = False
    ) -> Send | None:
        """To this worker; without one nobody has such a call."""
        if worker is None:
            self.counters.astray += message.method == "ACK"
            begins = message.method == "INVITE" and not message.to_tag
            return self._answer(message, source, 503 if begins else 481)
        first, *others = message.values("Via")
        ours = self._marks.inner_via(branch(message, top), source)
        if record:
            message.put(
                "Record-Route",
                [*self._marks.record_routes(worker.number, source), *message.values("Record-Route")],
            )
        _in_clear(message)
        # Nothing lies behind a worker: whatever Route is left named us.
        message.put("Route", [])
        message.headers.set("Max-Forwards", str(_hops_left(message) - 1))
        message.headers.set(PEER_HEADER, f"{source.host}:{source.port}")
        message.put("Via", [ours, received(first, top, source.host, source.port), *others])
        data = bytes(message)
        if len(data) > MAX_FOR_A_WORKER:
            message.put("Via", [first, *others])
            return self._answer(message, source, 513)
        self.counters.forwarded += 1
        return ToWorker(data, worker.port)

    # ------------------------------------------------------------ from a worker

    def _worker_responds(self, message: SipMessage, top: Via, worker: Worker, now_ns: int) -> list[Send]:
        vias = message.values("Via")[1:]
        peer = hop_of(top.parameters.get("peer"))
        if (top.host, top.port) != (LOOPBACK, self._terms.inner_port) or peer is None or not vias:
            return self._astray()
        call = self._calls.get((message.call_id, message.from_tag))
        if call is not None and message.cseq.method == "INVITE" and message.cseq.sequence == call.cseq:
            if message.status >= 300:
                self._calls.end(call, now_ns)
            elif message.status >= 200:
                self._calls.answered(call, message.headers["To"], now_ns)
        if not 300 <= message.status < 400:
            self._show_contact(message, peer, worker)
        message.put("Via", vias)
        self.counters.forwarded += 1
        return [back(bytes(message), peer, read_via(vias[0]))]

    def _worker_asks(self, message: SipMessage, top: Via, worker: Worker, now_ns: int) -> list[Send]:
        routes, flow = self._marks.without_ours(message.values("Route"))
        if (call := self._calls.get((message.call_id, message.to_tag))) is not None:
            flow = call.peer
            call.local_cseq = max(call.local_cseq, message.cseq.sequence)
            call.since_ns = max(now_ns, call.since_ns)
            if message.method == "BYE":
                self._calls.end(call, now_ns)
        hops_left = _hops_left(message)
        if flow is None or hops_left == 0:
            return self._astray()
        uri, routes, following = aim(message.uri, routes)
        message.retarget(uri)
        message.put("Route", routes)
        message.headers.set("Max-Forwards", str(hops_left - 1))
        self._show_contact(message, flow, worker)
        first, *others = message.values("Via")
        to, instead = way(following, flow)
        ours = self._marks.outer_via(branch(message, top), to)
        message.put("Via", [ours, received(first, top, LOOPBACK, worker.port), *others])
        self.counters.forwarded += 1
        return [ToPeer(bytes(message), to, instead)]

    # ------------------------------------------------------------ for the dead

    def _bye(self, call: Call, now_ns: int) -> Send:
        call_id, peer_tag = call.key
        uri, routes, following = aim(call.target, call.routes)
        to, instead = way(following, call.peer)
        name = COOKIE + digest("bye", call_id, peer_tag, call.local)
        lines = [
            f"BYE {uri} SIP/2.0",
            f"Via: {self._marks.outer_via(name, to)}",
            "Max-Forwards: 70",
            *(f"Route: {route}" for route in routes),
            f"From: {call.local}",
            f"To: {call.invite.headers['From']}",
            f"Call-ID: {call_id}",
            f"CSeq: {call.local_cseq + 1} BYE",
            'Reason: Q.850;cause=41;text="Temporary failure"',
            "Content-Length: 0",
        ]
        send = ToPeer("\r\n".join([*lines, "", ""]).encode(call.invite.encoding), to, instead)
        self._resends.begin(name, send, now_ns)
        return send

    def _never_mind(self, call: Call, now_ns: int) -> Send:
        """503 for an INVITE that nobody will answer."""
        first = call.invite.values("Via")[0]
        top = read_via(first)
        marked = received(first, top, call.peer.host, call.peer.port)
        send = back(respond(call.invite, marked, 503, self._terms.server), call.peer, top)
        self._resends.begin(call.key, send, now_ns)
        return send

    # ------------------------------------------------------------ words

    def _answer(self, message: SipMessage, source: Hop, status: int) -> Send | None:
        return answer(message, source, status, self._terms.server)

    def _astray(self) -> list[Send]:
        self.counters.astray += 1
        return []

    def _show_contact(self, message: SipMessage, peer: Hop, worker: Worker) -> None:
        if message.headers.get("Contact") is not None:
            message.put("Contact", [self._marks.contact(worker.number, peer)])

    def _learn_target(self, call: Call, message: SipMessage) -> None:
        """INVITE and UPDATE move the peer's Contact, in requests and in their 2xx (RFC 3261 §12.2)."""
        contact = message.values("Contact")
        if contact and message.cseq.method in ("INVITE", "UPDATE") and message.status < 300:
            call.target = uri_of(contact[0])


def _in_clear(message: SipMessage) -> None:
    """For a worker, whom `sips:` would have look for TLS, which ends here."""
    if message.method and _SECURE.match(message.uri):
        message.retarget(_SECURE.sub("sip:", message.uri, count=1))
    contacts = message.values("Contact")
    if any(_SECURE.match(uri_of(contact)) for contact in contacts):
        message.put("Contact", [f"<{_SECURE.sub('sip:', uri_of(contact), count=1)}>" for contact in contacts])


def _hops_left(message: SipMessage) -> int:
    return int(message.headers.get("Max-Forwards") or 70)


def _whose(message: SipMessage, call: Call | None) -> int | None:
    """Which worker's dialog it is: by Route; by what we know of the call (the ACK of a refusal has no Route);
    by the Contact that we gave to peers that heed no Record-Route."""
    named = worker_of_route(message)
    if named is None and call is not None:
        return call.worker
    return worker_of_uri(message) if named is None else named
