"""What the dispatcher answers itself, without state (RFC 3261 §8.2.7). Pure."""

from __future__ import annotations

from typing import Final

from sipmessage import Via

from telbridge.dispatch.branch import digest
from telbridge.dispatch.hops import Hop, ToPeer
from telbridge.dispatch.message import Malformed, SipMessage, read_via, received, sent_by_port

RETRY_AFTER_S: Final = 5
ALLOW: Final = "PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS"
"""As the workers' pjsip says, which OPTIONS asks after."""
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    405: "Method Not Allowed",
    481: "Call/Transaction Does Not Exist",
    483: "Too Many Hops",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
    513: "Message Too Large",
}
_CAPABILITIES: Final = {
    "Allow": ALLOW,
    "Accept": "application/sdp",
    "Supported": "replaces, 100rel, timer, norefersub",
}


def back(data: bytes, source: Hop, top: Via) -> ToPeer:
    """A response, on its way to whoever sent the request: by the connection that it came on, else to the
    address that it came from, at the port that it came from if the sender asked for that, else at the one
    named (RFC 3261 §18.2.2, RFC 3581 §4). `maddr` is not heeded: we send nothing where nothing came from."""
    named = Hop(source.transport, source.host, sent_by_port(top, source.transport), source.local)
    if source.is_stream:
        return ToPeer(data, source, instead=named)
    return ToPeer(data, source if "rport" in top.parameters else named)


def answer(request: SipMessage, source: Hop, status: int, server: str) -> ToPeer | None:
    """A response of our own; None where none can be given, or must not (ACK)."""
    if request.method in ("", "ACK") or not (vias := request.values("Via")):
        return None
    try:
        top = read_via(vias[0])
    except Malformed:
        return None
    return back(
        respond(request, received(vias[0], top, source.host, source.port), status, server), source, top
    )


def respond(request: SipMessage, top_via: str, status: int, server: str) -> bytes:
    """The octets of it. The To tag is always the same for the same request."""
    headers = [("Via", via) for via in (top_via, *request.values("Via")[1:])]
    to = request.headers["To"]
    if not request.to_tag and status != 100:
        to = f"{to};tag={digest(request.call_id, request.from_tag, top_via)}"
    headers += [("From", request.headers["From"]), ("To", to), ("Call-ID", request.call_id)]
    headers.append(("CSeq", request.headers["CSeq"]))
    if status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    if status in (405, 501):
        headers.append(("Allow", ALLOW))
    if status == 200 and request.method == "OPTIONS":
        headers += _CAPABILITIES.items()
    if server:
        headers.append(("Server", server))
    headers.append(("Content-Length", "0"))
    lines = [f"SIP/2.0 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode(request.encoding)
