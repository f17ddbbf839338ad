"""A TCP port that several workers listen on (SO_REUSEPORT), and nobody else."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BACKLOG: Final = 256


def listening(host: str, port: int, folder: Path | None) -> list[socket.socket]:
    """One for each address of `host`. `folder`: of all workers that share the port; None: nobody does.
    OSError if it cannot be had, or is somebody else's: another server may have opened it for sharing too,
    and would take half of the calls."""
    with _first(folder, port) as is_first:
        if is_first:
            for each in _bound(host, port, shared=False):
                each.close()
        sockets = _bound(host, port, shared=folder is not None)
        for each in sockets:
            each.listen(BACKLOG)
    return sockets


@contextmanager
def _first(folder: Path | None, port: int) -> Iterator[bool]:
    """Whether no worker before has had the port; one worker at a time."""
    if folder is None:
        yield False
        return
    mark = folder / f"{port}.port"
    with (folder / "ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not mark.exists()
        mark.touch()


def _bound(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            each = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(each)
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family is socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets
