"""SIP messages as a proxy sees them: what it must understand is read, all else passes as it came. Pure.

Via, CSeq and URIs are read by `sipmessage`. What it has parsed it writes in its own words (a quoted
parameter comes out %-escaped, a Request-URI of an unknown scheme not at all), so values that go on are edited
as text. It neither unfolds lines (RFC 3261 §7.3.1) nor cuts a body at Content-Length (§18.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from sipmessage import URI, CSeq, Via

from telbridge.dispatch.headers import Headers
from telbridge.dispatch.hops import DEFAULT_PORTS, Transport

END_OF_HEADERS: Final = b"\r\n\r\n"
MAX_OCTETS: Final = 8_000
"""Of a message. pjsip takes 4000."""
MAX_LINES: Final = 200
VALUES_KEPT: Final = 256
"""A Via and a Route come with several messages of a call."""
COOKIE: Final = "z9hG4bK"
"""RFC 3261 §8.1.1.7."""

_TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]++"
_REQUEST: Final = re.compile(rf"({_TOKEN}) (\S+) (?i:SIP)/(\d+\.\d+)")
_LIKE_A_REQUEST: Final = re.compile(rf"({_TOKEN})\b.* (?i:SIP)/\d+\.\d+ *")
_RESPONSE: Final = re.compile(r"(?i:SIP)/2\.0 ([1-6][0-9][0-9])(?: .*)?")
_FOLD: Final = re.compile(rb"[ \t]*\r\n[ \t]+")
_TAG: Final = re.compile(r";\s*+tag\s*+=\s*+([^;,\s]+)", re.IGNORECASE)
_BRACKETED: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^"<])*<([^>]*)>')
_RECEIVED: Final = re.compile(r";\s*+received\s*+=[^;]*", re.IGNORECASE)
_RPORT: Final = re.compile(r";\s*+rport\s*+(?:=\s*+\d*+)?\s*+(?=;|$)", re.IGNORECASE)
_KEPT: Final = ("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Record-Route")
_ONCE: Final = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")


class Malformed(Exception):
    """Not a message that may go on. `message` is there where an answer could be addressed."""

    def __init__(self, why: str, status: int = 400, message: SipMessage | None = None) -> None:
        super().__init__(why)
        self.status, self.message = status, message


@dataclass(slots=True)
class SipMessage:
    """One message under way."""

    start: str
    """First line, as it came."""
    headers: Headers
    body: bytes = b""
    method: str = ""
    """Of a request; "" for a response."""
    uri: str = ""
    """Request-URI as it came."""
    status: int = 0
    """Of a response; 0 for a request."""
    cseq: CSeq = field(default_factory=lambda: CSeq(0, ""))
    encoding: str = "utf-8"

    def __bytes__(self) -> bytes:
        self.headers.set("Content-Length", str(len(self.body)))
        return f"{self.start}\r\n{self.headers}".encode(self.encoding) + self.body

    @property
    def call_id(self) -> str:
        return self.headers["Call-ID"]

    @property
    def from_tag(self) -> str:
        return tag(self.headers["From"])

    @property
    def to_tag(self) -> str:
        return tag(self.headers["To"])

    def values(self, name: str) -> list[str]:
        """Each value of a list header (Via, Route, Record-Route), wherever lines were broken."""
        return [item for line in self.headers.getlist(name) for item in split(line)]

    def put(self, name: str, values: list[str]) -> None:
        """Replace a list header; with no values it is gone."""
        if values:
            self.headers.setlist(name, values)
        else:
            self.headers.remove(name)

    def excerpt(self) -> SipMessage:
        """What an answer or the dialog needs of it, untouched by what becomes of the message."""
        headers = Headers()
        for name in _KEPT:
            if values := self.headers.getlist(name):
                headers.setlist(name, list(values))
        return replace(self, headers=headers, body=b"")

    def retarget(self, uri: str) -> None:
        """Another Request-URI."""
        self.start, self.uri = f"{self.method} {uri} SIP/2.0", uri


def parse(data: bytes) -> SipMessage:
    """One whole message (RFC 3261 §7). Malformed, and nothing else, if it is none."""
    head, end, body = data.lstrip(b"\r\n").partition(END_OF_HEADERS)
    if not end or len(data) > MAX_OCTETS or _strays(head):
        raise Malformed("no end of headers, or too long, or stray line ends")
    if b"\r\n " in head or b"\r\n\t" in head:
        head = _FOLD.sub(b" ", head)
    head, encoding = _as_utf8(head)
    start, _, lines = head.partition(b"\r\n")
    message = SipMessage("", _headers(lines), body, encoding=encoding)
    if any(message.headers.get(name) is None for name in ("Via", "From", "To", "Call-ID", "CSeq")):
        raise Malformed("a header is missing that every message has (RFC 3261 §8.1.1)")
    _read_start(message, start.decode())
    _check(message)
    return message


def _strays(head: bytes) -> bool:
    """CR or LF alone, or NUL. pjsip ends a line at a bare LF: what we take for one value would be two headers
    there."""
    return not head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n") or b"\0" in head


def _as_utf8(head: bytes) -> tuple[bytes, str]:
    """What is no UTF-8 is mostly a name in Latin-1; either goes on in the octets that it came in."""
    try:
        head.decode()
    except UnicodeDecodeError:
        return head.decode("latin-1").encode(), "latin-1"
    return head, "utf-8"


def _headers(lines: bytes) -> Headers:
    if lines.count(b"\r\n") > MAX_LINES:
        raise Malformed("too many header lines")
    try:
        return Headers.parse(lines.decode())
    except ValueError as error:
        raise Malformed(f"headers: {error}") from None


def _read_start(message: SipMessage, start: str) -> None:
    message.start = start
    if found := _RESPONSE.fullmatch(start):
        message.status = int(found[1])
    elif found := _REQUEST.fullmatch(start):
        message.method, message.uri = found[1], found[2]
        if found[3] != "2.0":
            raise Malformed("another version of SIP", 505, message)
    elif found := _LIKE_A_REQUEST.fullmatch(start):
        message.method = found[1]
        raise Malformed("a Request-URI with spaces", message=message)
    else:
        raise Malformed("neither request nor response")


def _check(message: SipMessage) -> None:
    """What RFC 4475 §3.1.2 and §3.3 break."""

    def wrong(why: str) -> Malformed:
        return Malformed(why, message=message)

    headers = message.headers
    if any(len(headers.getlist(name)) > 1 for name in _ONCE):
        raise wrong("a header is there twice that may be there once")
    try:
        message.cseq = CSeq.parse(headers["CSeq"])
    except ValueError:
        raise wrong("CSeq") from None
    if message.cseq.sequence >= 2**32 or (message.method and message.cseq.method != message.method):
        raise wrong("CSeq is too large or of another method")
    if (length := number(headers.get("Content-Length", str(len(message.body))), len(message.body))) is None:
        raise wrong("Content-Length")
    message.body = message.body[:length]
    if number(headers.get("Max-Forwards", "70"), 255) is None:
        raise wrong("Max-Forwards")
    if any(mark in message.uri for mark in '<>"'):
        raise wrong("Request-URI")


def number(text: str | None, most: int) -> int | None:
    """A header's number from 0 to `most`; None for anything else."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > most:
        return None
    return int(text)


def split(line: str) -> list[str]:
    """At the commas that stand in neither quotes nor brackets."""
    if "," not in line:
        return [line] if line else []
    items, begin, quoted, depth, index = [], 0, False, 0, 0
    while index < len(line):
        char = line[index]
        if quoted:
            index += char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            depth = char == "<"
        elif char == "," and not depth:
            items.append(line[begin:index].strip())
            begin = index + 1
        index += 1
    return [item for item in (*items, line[begin:].strip()) if item]


def tag(address: str) -> str:
    """Of a From or To; "" without one. Also where the display name breaks the grammar, as many do."""
    bracketed = _BRACKETED.match(address)
    found = _TAG.search(address, bracketed.end() if bracketed else 0)
    return found[1] if found else ""


def uri_of(address: str) -> str:
    """The URI of a name-addr or addr-spec, as text."""
    bracketed = _BRACKETED.match(address)
    return bracketed[1].strip() if bracketed else address.partition(";")[0].strip()


@lru_cache(VALUES_KEPT)
def read_uri(text: str) -> URI | None:
    """None if the library does not know such a URI. Its parameters hold text or None."""
    try:
        return URI.parse(text)
    except (ValueError, TypeError):  # TypeError: a parameter that is called `self`
        return None


@lru_cache(VALUES_KEPT)
def read_via(text: str) -> Via:
    """One Via value. Malformed if it is none."""
    try:
        try:
            return Via.parse(text)
        except ValueError:
            # Container names have them in spite of RFC 3261; of the host we only want the port behind it.
            return Via.parse(text.replace("_", "-"))
    except (ValueError, TypeError):
        raise Malformed("Via") from None


def sent_by_port(via: Via, transport: Transport = "udp") -> int:
    return via.port if via.port is not None and 0 < via.port < 65536 else DEFAULT_PORTS[transport]


def received(text: str, via: Via, host: str, port: int) -> str:
    """A Via with what its receiver adds: `received`, and the port if `rport` asks (RFC 3261 §18.2.1,
    RFC 3581 §4)."""
    marked, asked = _RPORT.subn(f";rport={port}", _RECEIVED.sub("", text), count=1)
    return f"{marked};received={host}" if asked or via.host != host else marked
