"""The two sides of a dispatcher in text: peers that call, workers that answer. No sockets, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from telbridge.dispatch.core import Dispatcher, Terms
from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.hops import Hop, Send, ToPeer, ToWorker

INNER, OUTER = 20500, 5060
US = "192.0.2.10"
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
S = 1_000_000_000


def peer(host: str = "192.0.2.5", port: int = 5060, transport: Any = "udp") -> Hop:
    return Hop(transport, host, port, US)


def text(first: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([first, *headers, f"Content-Length: {len(body)}", "", body]).encode()


def header(message: bytes, name: str) -> list[str]:
    """All values of a header, as lines."""
    head = message.partition(b"\r\n\r\n")[0].decode()
    return re.findall(rf"(?im)^{name} *: *(.*?)\r?$", head)


def first_line(message: bytes) -> str:
    return message.partition(b"\r\n")[0].decode()


def answer(request: bytes, status: int = 200, *more: str, tag: str = "ours", body: str = "") -> bytes:
    """What a worker says to a request that it got (RFC 3261 §8.2.6, §12.1.1)."""
    lines = [f"Via: {via}" for via in header(request, "Via")]
    lines += [f"Record-Route: {route}" for route in header(request, "Record-Route")]
    (to,) = header(request, "To")
    lines += [f"From: {header(request, 'From')[0]}", f"To: {to}" + ("" if ";tag=" in to else f";tag={tag}")]
    lines += [f"{name}: {header(request, name)[0]}" for name in ("Call-ID", "CSeq")]
    return text(f"SIP/2.0 {status} Whatever", *lines, *more, body=body)


@dataclass
class Net:
    """A dispatcher, two workers, and what it said last."""

    max_calls: int = 8
    per_worker: int = 4
    public: str | None = None
    admits: Any = lambda host, now_ns: True
    now_ns: int = S
    said: list[Send] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = Dispatcher(Terms(OUTER, INNER, self.max_calls, "us", self.public, self.admits))
        for number in (1, 2):
            self.core.worker_up(Worker(number, 40_000 + number, self.per_worker))

    def from_peer(self, message: bytes, source: Hop | None = None) -> Send | None:
        self.said = self.core.from_peer(message, source or peer(), self.now_ns)
        return self._one()

    def from_worker(self, message: bytes, number: int = 1) -> Send | None:
        self.said = self.core.from_worker(message, 40_000 + number, self.now_ns)
        return self._one()

    def _one(self) -> Send | None:
        assert len(self.said) <= 1
        return self.said[0] if self.said else None


@dataclass
class Phone:
    """A peer with one call."""

    net: Net
    name: str = "a"
    source: Hop = field(default_factory=peer)
    via_host: str = "192.0.2.5"
    rport: bool = True
    cookie: bool = True
    proxies: tuple[str, ...] = ()
    """Record-Route of proxies on its side."""
    contact: str = ""
    routes: list[str] = field(default_factory=list)
    target: str = f"sip:agent@{US}"
    to_tag: str = ""
    worker: int = 0
    got: bytes = b""
    """What its worker got last."""

    def request(self, method: str, cseq: int = 1, *headers: str, branch: str = "", body: str = "") -> bytes:
        branch = branch or f"{self.name}{cseq}{method}"
        via = f"SIP/2.0/{self.source.transport.upper()} {self.via_host}:{self.source.port}"
        via += f";branch={'z9hG4bK' if self.cookie else ''}{branch}" + (";rport" if self.rport else "")
        lines = [
            f"Via: {via}",
            *(f"Route: {route}" for route in self.routes),
            *(f"Record-Route: {route}" for route in self.proxies if method == "INVITE"),
            "Max-Forwards: 70",
            f"From: <sip:{self.name}@example.com>;tag={self.name}tag",
            "To: <sip:agent@example.com>" + (f";tag={self.to_tag}" if self.to_tag else ""),
            f"Call-ID: {self.name}@phone",
            f"CSeq: {cseq} {method}",
            f"Contact: <{self.contact or f'sip:{self.name}@{self.source.host}:{self.source.port}'}>",
        ]
        return text(f"{method} {self.target} SIP/2.0", *lines, *headers, body=body)

    def asks(self, message: bytes) -> bytes | None:
        """What a worker gets of it, if one does."""
        sent = self.net.from_peer(message, self.source)
        if not isinstance(sent, ToWorker):
            return None
        self.worker, self.got = sent.port - 40_000, sent.data
        return sent.data

    def invites(self) -> bytes | None:
        return self.asks(self.request("INVITE", branch=f"{self.name}inv", body=SDP))

    def is_answered(self, status: int = 200) -> bytes:
        """Its worker answers what it got; what the phone gets of that."""
        reply = answer(
            self.got, status, f"Contact: <sip:127.0.0.1:{40_000 + self.worker}>", tag=f"w{self.name}"
        )
        sent = self.net.from_worker(reply, self.worker)
        assert isinstance(sent, ToPeer)
        return sent.data

    def talks(self) -> bytes:
        """A whole set-up, by the book (RFC 3261 §12.1.2); the 200."""
        assert self.invites() is not None
        ok = self.is_answered()
        self.learns(ok)
        assert self.asks(self.request("ACK")) is not None
        return ok

    def learns(self, ok: bytes) -> None:
        self.routes = list(reversed(header(ok, "Record-Route")))
        (contact,) = header(ok, "Contact")
        self.target = contact.strip("<>")
        self.to_tag = header(ok, "To")[0].rpartition("tag=")[2]

    def is_asked(self, method: str, cseq: int = 100, *, routes: bool = True) -> bytes:
        """A request of the worker in this dialog, as pjsip makes it from its INVITE."""
        invite_routes = header(self.invite_got, "Record-Route") if routes else []
        lines = [
            f"Via: SIP/2.0/UDP 127.0.0.1:{40_000 + self.worker};rport;branch=z9hG4bKworker{self.name}{cseq}",
            *(f"Route: {route}" for route in invite_routes),
            "Max-Forwards: 70",
            f"From: <sip:agent@example.com>;tag={self.to_tag}",
            f"To: <sip:{self.name}@example.com>;tag={self.name}tag",
            f"Call-ID: {self.name}@phone",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:127.0.0.1:{40_000 + self.worker}>",
        ]
        target = self.contact or f"sip:{self.name}@{self.source.host}:{self.source.port}"
        return text(f"{method} {target} SIP/2.0", *lines)

    @property
    def invite_got(self) -> bytes:
        return self._invite

    def calls(self) -> Phone:
        """`talks`, and the phone."""
        assert self.invites() is not None
        self._invite = self.got
        self.learns(self.is_answered())
        assert self.asks(self.request("ACK")) is not None
        return self
