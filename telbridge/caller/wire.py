"""SIP messages between bytes and `sipmessage` objects: what the library leaves to its user. Pure.

`sipmessage` neither unfolds header lines (RFC 3261 §7.3.1) nor cuts a body at Content-Length (§18.3) nor
misses a mandatory header before it is asked for; here all three happen once, and only ValueError comes out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sipmessage import Message, Request, Response

END_OF_HEADERS: Final = b"\r\n\r\n"
MAX_MESSAGE_OCTETS: Final = 65_536
"""A stream that has not ended its message by then is broken, not slow."""
_FOLD: Final = re.compile(rb"\r\n[ \t]+")
_SPACE_BEFORE_COLON: Final = re.compile(rb"^([A-Za-z-]+)[ \t]+:", re.MULTILINE)
_CONTENT_LENGTH: Final = re.compile(
    rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a message goes to or came from."""

    host: str
    port: int
    transport: str
    """`udp` or `tcp`."""

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message ready to be written, and its name for a ladder (`INVITE`, `200 OK`)."""

    data: bytes
    hop: Hop
    summary: str


def summary(message: Request | Response) -> str:
    """First line as people say it: the method, or status and phrase."""
    return message.method if isinstance(message, Request) else f"{message.code} {message.phrase}"


def parse(data: bytes) -> Request | Response:
    """One whole message (RFC 3261 §7). ValueError if malformed, truncated or without a mandatory header."""
    head, separator, body = data.lstrip(b"\r\n").partition(END_OF_HEADERS)
    head = _SPACE_BEFORE_COLON.sub(rb"\1:", _FOLD.sub(b" ", head))
    message = Message.parse(head + separator + body)
    length = message.content_length
    if length is not None:
        if length > len(body):
            raise ValueError(f"SIP body of {len(body)} octets, Content-Length {length}")
        message.body = body[:length]
    try:
        _ = (message.via[0], message.from_address, message.to_address, message.call_id, message.cseq)
    except (KeyError, IndexError):
        raise ValueError("SIP message without Via, From, To, Call-ID or CSeq (RFC 3261 §8.1.1)") from None
    return message


class StreamFramer:
    """Messages out of a TCP stream, cut by Content-Length (RFC 3261 §18.3)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Whole messages that these octets complete. ValueError when the stream cannot be framed any more."""
        self._buffer += data
        messages: list[bytes] = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> bytes | None:
        # CRLF between messages is keep-alive (RFC 5626 §3.5.1).
        while self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        end = self._buffer.find(END_OF_HEADERS)
        if end < 0:
            self._refuse_endless(len(self._buffer))
            return None
        found = _CONTENT_LENGTH.search(self._buffer, 0, end + 2)
        total = end + len(END_OF_HEADERS) + (int(found[1]) if found else 0)
        self._refuse_endless(total)
        if len(self._buffer) < total:
            return None
        message = bytes(self._buffer[:total])
        del self._buffer[:total]
        return message

    @staticmethod
    def _refuse_endless(octets: int) -> None:
        if octets > MAX_MESSAGE_OCTETS:
            raise ValueError(f"SIP message of more than {MAX_MESSAGE_OCTETS} octets")
