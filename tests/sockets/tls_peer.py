"""The other side of TLS: OpenSSL's own server, without a network."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress

import trustme

from telbridge.sockets.tls import TlsClient, client_context

NAME = "agent.example"
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert(NAME)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    context = client_context()
    for authority in authorities:
        authority.configure_trust(context)
    return context


TRUSTING = trusting(AUTHORITY)


class Server:
    """OpenSSL's."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        CERTIFICATE.configure_cert(context)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.ready = False

    def gets(self, data: bytes) -> None:
        self._incoming.write(data)

    def shakes_hands(self) -> bytes:
        """What it says next in the handshake; `ready` once that was all."""
        try:
            self.tls.do_handshake()
            self.ready = True
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def says(self, data: bytes) -> bytes:
        """Records, as the network takes them."""
        self.tls.write(data)
        return self._outgoing.read()

    def says_goodbye(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def hears(self) -> bytes:
        heard = bytearray()
        while True:
            try:
                part = self.tls.read(1 << 14)
            except ssl.SSLWantReadError:
                return bytes(heard)
            except ssl.SSLZeroReturnError:
                part = b""  # Both have said goodbye.
            if not part:
                return bytes(heard) + b"<end>"
            heard += part


class Peer(Server):
    """With a client before it, and a network between the two that a test cuts."""

    def __init__(
        self,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        *,
        context: ssl.SSLContext = TRUSTING,
        name: str = NAME,
    ) -> None:
        super().__init__(version)
        self.told: list[bytes | str] = []
        """By the client, in its order."""
        self.faults: list[ssl.SSLError] = []
        self.sent = 0
        """Pieces that the client handed to the network."""
        self.client = TlsClient(context, name, fail=self.faults.append, end=lambda: self.told.append("end"))
        self.client.send, self.client.deliver = self.on_send, self.told.append
        self.done = self.client.shake_hands()

    def on_send(self, data: bytes) -> None:
        self.gets(data)
        self.sent += 1

    def shake_hands(self, octets_a_piece: int = 1 << 20) -> None:
        while not self.done:
            for piece in pieces(self.shakes_hands(), octets_a_piece):
                assert not self.done
                self.done = self.client.shake_hands(piece)
        if not self.ready:
            self.client.received(self.shakes_hands())  # Tickets, of which nobody is told.
        assert self.ready and self.told == []


def a_peer(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Peer:
    peer = Peer(version)
    peer.shake_hands()
    return peer


def pieces(data: bytes, octets: int) -> Iterator[bytes]:
    for at in range(0, len(data), octets):
        yield data[at : at + octets]
