"""Ports for servers that bind them later."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

# Below 32768, where the kernel finds ports for sockets that ask for any, and below the RTP of the settings.
# Each process begins elsewhere, as several may choose before anybody binds. Odd: hardly a default of ours is.
_PORTS: Final = range(3_001, 12_000, 2)
_next = itertools.count(os.getpid() * 61)


def free_port() -> int:
    """One that is free for UDP and TCP on loopback, and stays so."""
    while True:
        port = _PORTS[next(_next) % len(_PORTS)]
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
