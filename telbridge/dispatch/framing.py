"""SIP messages out of a TCP stream, cut by Content-Length (RFC 3261 §18.3). Pure."""

from __future__ import annotations

import re
from typing import Final

from telbridge.dispatch.message import END_OF_HEADERS, MAX_OCTETS, Malformed

PING: Final = b"\r\n\r\n"
PONG: Final = b"\r\n"
"""RFC 5626 §3.5.1."""
_LENGTH: Final = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,10})[ \t]*(?=\r\n)", re.IGNORECASE
)


class Framer:
    """Octets in, whole messages out; a PING comes out as such."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """What these octets complete. Malformed when no further message can be found in this stream."""
        self._buffer += data
        found: list[bytes] = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> bytes | None:
        if self._buffer.startswith(PING):
            return self._take(len(PING))
        if self._buffer.startswith(b"\r\n"):
            if len(self._buffer) == 2 or self._buffer == b"\r\n\r":
                return None
            del self._buffer[:2]
        end = self._buffer.find(END_OF_HEADERS)
        if end < 0:
            self._refuse(len(self._buffer))
            return None
        lengths = {int(length) for length in _LENGTH.findall(self._buffer, 0, end + 2)}
        if len(lengths) != 1:
            raise Malformed("a stream needs one Content-Length in each message")
        total = end + len(END_OF_HEADERS) + lengths.pop()
        self._refuse(total)
        return self._take(total) if len(self._buffer) >= total else None

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    @staticmethod
    def _refuse(octets: int) -> None:
        if octets > MAX_OCTETS:
            raise Malformed(f"a message of more than {MAX_OCTETS} octets")
