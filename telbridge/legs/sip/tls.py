"""SIP over TLS (RFC 3261 §26.2): what the dispatcher shows to callers, and whom it believes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate and its key. OSError (SSLError is one) if they cannot be had or do not match."""

    port: int
    certificate: Path
    key: Path | None = None
    """None: it stands in the file of the certificate."""
    peers_ca: Path | None = None
    """Whose certificates callers must have; None: they need none."""
    for_callers: ssl.SSLContext = field(init=False, repr=False, compare=False)
    for_peers: ssl.SSLContext = field(init=False, repr=False, compare=False)
    """For connections that we open, when a peer's own is gone."""

    def __post_init__(self) -> None:
        for_callers = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.peers_ca)
        if self.peers_ca is not None:
            for_callers.verify_mode = ssl.CERT_REQUIRED
        for_peers = ssl.create_default_context(cafile=self.peers_ca)
        object.__setattr__(self, "for_callers", for_callers)
        object.__setattr__(self, "for_peers", for_peers)
        self.reload()

    def reload(self) -> None:
        """Take a renewed certificate for new connections. Raises as above; then the old one stays."""
        _fresh(self.certificate, self.key)
        for context in (self.for_callers, self.for_peers):
            context.load_cert_chain(self.certificate, self.key, _no_password)


def _fresh(certificate: Path, key: Path | None) -> None:
    """A context that a bad file has been loaded into halfway is of no use: try it on another."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _no_password)


def _no_password() -> str:
    """Called for an encrypted key: OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted: write one without a passphrase")
