"""Identity and addresses of a dialog, and the messages made from them (RFC 3261 §8.1.1, §12). Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sipmessage import URI, Address, CSeq, Parameters, Request, Response, Via

from telbridge.caller.wire import Hop

USER_AGENT: Final = "telbridge-caller"
ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE"
BRANCH_COOKIE: Final = "z9hG4bK"
DEFAULT_PORT: Final = 5060


def random_token() -> str:
    """64 random bits as text, for tags, branches and Call-IDs (RFC 3261 §19.3)."""
    return secrets.token_hex(8)


def hop_of(uri: URI) -> Hop:
    """Where a request to this URI goes (RFC 3263 without DNS: port and transport are as written)."""
    transport = (uri.parameters.get("transport") or "udp").lower()
    return Hop(uri.parameters.get("maddr") or uri.host, uri.port or DEFAULT_PORT, transport)


@dataclass(frozen=True, slots=True)
class Local:
    """Our side of a call: what goes into Via, Contact and From."""

    host: str
    port: int
    transport: str = "udp"
    user: str = "caller"
    display_name: str = ""
    token: Callable[[], str] = random_token
    """Where tags, branches and Call-IDs come from."""

    @property
    def contact(self) -> Address:
        parameters = Parameters(transport=self.transport) if self.transport != "udp" else Parameters()
        return Address(URI("sip", self.host, user=self.user, port=self.port, parameters=parameters))


@dataclass(slots=True)
class Peers:
    """The dialog's state (RFC 3261 §12): who, where, and by which route."""

    local: Local
    local_address: Address
    remote_address: Address
    target: URI
    call_id: str
    cseq: int = 1
    routes: list[Address] = field(default_factory=list)

    @classmethod
    def calling(cls, target: URI, local: Local, routes: Sequence[str] = ()) -> Peers:
        ours = URI("sip", local.host, user=local.user)
        return cls(
            local=local,
            local_address=Address(ours, name=local.display_name, parameters=Parameters(tag=local.token())),
            remote_address=Address(URI(target.scheme, target.host, user=target.user, port=target.port)),
            target=target,
            call_id=f"{local.token()}@{local.host}",
            routes=[Address.parse(route) for route in routes],
        )

    @property
    def local_tag(self) -> str | None:
        return self.local_address.parameters.get("tag")

    @property
    def remote_tag(self) -> str | None:
        return self.remote_address.parameters.get("tag")

    def learn(self, response: Response) -> None:
        """Take the peer's tag, Contact and route set from a 2xx (RFC 3261 §12.1.2, §13.2.2.4)."""
        self.remote_address = response.to_address
        self.routes = list(reversed(response.record_route))
        self.refresh_target(response)

    def refresh_target(self, message: Request | Response) -> None:
        """Each INVITE or UPDATE and its 2xx may move the peer's Contact (RFC 3261 §12.2)."""
        if contact := message.contact:
            self.target = contact[0].uri

    def next_hop(self) -> Hop:
        """First route, or the target. The transport of the call is kept where the URI names none."""
        uri = self.routes[0].uri if self.routes else self.target
        hop = hop_of(uri)
        return hop if "transport" in uri.parameters else Hop(hop.host, hop.port, self.local.transport)

    def request(
        self, method: str, *, cseq: int, branch: str, body: bytes = b"", content_type: str = ""
    ) -> Request:
        """A request of this dialog, route set applied (RFC 3261 §12.2.1.1)."""
        uri, routes = self.target, [str(route) for route in self.routes]
        if self.routes and "lr" not in self.routes[0].uri.parameters:
            # A strict router of RFC 2543 wants to be the request-URI, and the target last.
            uri, routes = self.routes[0].uri, [*routes[1:], f"<{self.target}>"]
        request = Request(method, uri, body)
        headers = request.headers
        headers.set("Via", self._via(branch))
        if routes:
            headers.setlist("Route", routes)
        headers.set("Max-Forwards", "70")
        request.from_address = self.local_address
        request.to_address = self.remote_address
        request.call_id = self.call_id
        request.cseq = CSeq(cseq, method)
        headers.set("User-Agent", USER_AGENT)
        if method in ("INVITE", "UPDATE"):
            request.contact = [self.local.contact]
            headers.set("Allow", ALLOW)
        if body:
            headers.set("Content-Type", content_type)
        headers.set("Content-Length", str(len(body)))
        return request

    def _via(self, branch: str) -> str:
        via = Via(self.local.transport.upper(), self.local.host, self.local.port)
        return f"{via};rport;branch={branch}"  # rport: RFC 3581, answers come back to where we sent from

    def branch(self) -> str:
        return BRANCH_COOKIE + self.local.token()


def derived(request: Request, method: str) -> Request:
    """ACK of a failure, or CANCEL: same URI, top Via, Route and CSeq number (RFC 3261 §9.1, §17.1.1.3)."""
    made = Request(method, request.uri)
    made.headers.set("Via", request.headers["Via"])
    if routes := request.headers.getlist("Route"):
        made.headers.setlist("Route", list(routes))
    for name in ("Max-Forwards", "From", "To", "Call-ID"):
        made.headers.set(name, request.headers[name])
    made.cseq = CSeq(request.cseq.sequence, method)
    made.headers.set("User-Agent", USER_AGENT)
    made.headers.set("Content-Length", "0")
    return made


def response_to(request: Request, code: int, phrase: str, *, body: bytes = b"", to_tag: str = "") -> Response:
    """A response with what RFC 3261 §8.2.6 copies from the request; a body is SDP."""
    response = Response(code, phrase, body)
    for name in ("Via", "Record-Route", "From", "Call-ID", "CSeq"):
        if values := request.headers.getlist(name):
            response.headers.setlist(name, list(values))
    to = request.to_address
    if to_tag and "tag" not in to.parameters:
        to = Address(to.uri, to.name, to.parameters.replace(tag=to_tag))
    response.to_address = to
    response.headers.set("Server", USER_AGENT)
    if code == 405 or request.method == "OPTIONS":
        response.headers.set("Allow", ALLOW)
    if body:
        response.headers.set("Content-Type", "application/sdp")
    response.headers.set("Content-Length", str(len(body)))
    return response


def stray_reply(request: Request, to_tag: str) -> Response | None:
    """Answer to a request that belongs to no call of ours; None for ACK, which has no answer."""
    if request.method == "ACK":
        return None
    if request.method == "OPTIONS" and "tag" not in request.to_address.parameters:
        return response_to(request, 200, "OK", to_tag=to_tag)
    if request.method == "INVITE" and "tag" not in request.to_address.parameters:
        return response_to(request, 480, "Temporarily Unavailable", to_tag=to_tag)  # this phone only calls
    return response_to(request, 481, "Call/Transaction Does Not Exist", to_tag=to_tag)
