"""A client's TLS, octets to octets (RFC 8446, and 1.2): Python's ssl between two buffers in memory.

Every agent of a vendor is behind TLS, so each frame goes this way, twice. What an event loop brings for it is
made for any use: uvloop's costs half as much again as OpenSSL itself (docs/decisions/0016).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

_RECORD_OCTETS: Final = 1 << 14
"""The most that a record holds (RFC 8446 §5.1): a read of that many leaves nothing of it behind."""


def client_context() -> ssl.SSLContext:
    """Verifies certificates and names; for HTTP/1.1, without renegotiation (as TLS 1.3 has none), of which
    `TlsClient` knows nothing. Reads the system's roots: some 15 ms."""
    context = ssl.create_default_context()
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsClient:
    """Of one connection. First `shake_hands` until it is done, then `received` and `write`."""

    def __init__(
        self,
        context: ssl.SSLContext,
        server_hostname: str,
        *,
        fail: Callable[[ssl.SSLError], None],
        end: Callable[[], None],
    ) -> None:
        """`fail`: nothing can be read or written any more; `end`: the peer says that nothing more comes of it
        (close_notify)."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: Final = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._fail, self._end = fail, end
        self.send: Callable[[bytes], object] = _nobody
        """What takes the octets for the network."""
        self.deliver: Callable[[bytes], object] = _nobody
        """What takes the octets of the application."""
        # Looked up once, not with every frame.
        self._take_in, self._take_out = self._incoming.write, self._outgoing.read
        self._open, self._seal = self.tls.read, self.tls.write

    def shake_hands(self, data: bytes = b"") -> bool:
        """Go on with what came: whether the handshake is done.

        ssl.SSLError if it failed, of which the peer is told.
        """
        self._take_in(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def received(self, data: bytes) -> None:
        """Octets of the network. What they hold is delivered in one piece, before anything else is told."""
        self._take_in(data)
        plain: bytes = b""
        more: list[bytes] = []
        fault: ssl.SSLError | None = None
        ended = False
        try:
            plain = self._open(_RECORD_OCTETS)
            ended = not plain
            while self._incoming.pending and not ended:
                more.append(self._open(_RECORD_OCTETS))
                ended = not more[-1]
        except ssl.SSLWantReadError:
            pass  # Part of a record, or one that was TLS's own.
        except ssl.SSLError as broken:
            fault = broken
        if self._outgoing.pending:
            self._flush()  # An answer of TLS's own, as to a change of keys.
        if plain:
            self.deliver(b"".join((plain, *more)) if more else plain)
        if fault is not None:
            self._fail(fault)
        elif ended:
            self._end()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """All of it, in one piece: memory has room, and Python asks OpenSSL for no partial writes."""
        try:
            self._seal(data)
        except ssl.SSLError as broken:
            self._fail(broken)
        else:
            self.send(self._take_out())

    def say_goodbye(self) -> None:
        """close_notify. The peer's own is not waited for (RFC 8446 §6.1)."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # SSLWantReadError as a rule: it was said; of a broken connection nothing is to be said.
        self._flush()

    def _flush(self) -> None:
        data = self._take_out()
        if data:
            self.send(data)


def _nobody(data: bytes) -> None:
    """Before anybody takes anything."""
