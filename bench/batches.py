"""Many datagrams with one call of the kernel: sendmmsg(2) and recvmmsg(2), by way of numpy.

A packet at a time costs Python ten times what the kernel takes for it; a load that is to be no bottleneck at
hundreds of calls cannot afford that. Linux on 64 bits only.
"""

from __future__ import annotations

import ctypes
import socket
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

MOST: Final = 64
"""Packets with one call."""
OCTETS: Final = 256
"""Of one packet; what is longer is cut."""
_SO_TIMESTAMPNS: Final = 35
_NAME: Final = 16
"""struct sockaddr_in."""
_CONTROL: Final = 64
_NAME_AT, _NAMELEN, _IOV, _IOVLEN, _CONTROL_AT, _CONTROLLEN, _FLAGS, _LEN = range(8)
"""Of struct mmsghdr, in words of 64 bits (the fields of 32 bits stand alone in theirs)."""
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets in the order of their arrival. `data` is overwritten by the next batch."""

    ports: npt.NDArray[np.int64]
    """Where each came from."""
    at_ns: npt.NDArray[np.int64]
    """When the kernel got it, monotonic."""
    data: Octets
    """(packets, OCTETS)."""
    words: npt.NDArray[np.uint32]
    """The same, four octets each, in network order."""


class _Headers:
    """So many `struct mmsghdr`, each with one buffer."""

    def __init__(self, count: int, buffers: Octets, names: Octets, control: Octets | None) -> None:
        self.words = np.zeros((count, 8), np.uint64)
        self.vectors = np.zeros((count, 2), np.uint64)
        self.vectors[:, 0] = _addresses(buffers)
        self.vectors[:, 1] = buffers.shape[1]
        self.words[:, _NAME_AT] = _addresses(names)
        self.words[:, _NAMELEN] = _NAME
        self.words[:, _IOV] = _addresses(self.vectors)
        self.words[:, _IOVLEN] = 1
        if control is not None:
            self.words[:, _CONTROL_AT] = _addresses(control)
            self.words[:, _CONTROLLEN] = _CONTROL
        self.pointer = ctypes.c_void_p(self.words.ctypes.data)


class Receiver:
    """Reads a socket in batches."""

    def __init__(self, one: socket.socket) -> None:
        one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._fd = one.fileno()
        self._data = np.zeros((MOST, OCTETS), np.uint8)
        self._names = np.zeros((MOST, _NAME), np.uint8)
        self._control = np.zeros((MOST, _CONTROL), np.uint8)
        self._stamps = self._control.view(np.int64)
        self._ports = self._names.view(">u2")[:, 1]
        self._words = self._data.view(">u4")
        self._headers = _Headers(MOST, self._data, self._names, self._control)

    def receive(self) -> Batch | None:
        """What waits, MOST at a time; None for nothing."""
        count = _LIBC.recvmmsg(self._fd, self._headers.pointer, MOST, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return None
        # The stamps are wall time: only their distance from this moment's is used.
        behind_ns = time.monotonic_ns() - time.time_ns()
        words = self._headers.words
        words[:count, _NAMELEN] = _NAME
        words[:count, _CONTROLLEN] = _CONTROL
        # struct cmsghdr has 16 octets; a timespec follows.
        at_ns = self._stamps[:count, 2] * 1_000_000_000 + self._stamps[:count, 3] + behind_ns
        ports = self._ports[:count].astype(np.int64)
        return Batch(ports, at_ns, self._data[:count], self._words[:count])


class Sender:
    """Sends the rows of a table, each to its own address."""

    def __init__(self, one: socket.socket, addresses: list[tuple[str, int]], octets: int) -> None:
        self._fd, self._count = one.fileno(), len(addresses)
        self.data = np.zeros((self._count, octets), np.uint8)
        self._names = np.zeros((self._count, _NAME), np.uint8)
        for name, (host, port) in zip(self._names, addresses, strict=True):
            packed = socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host)
            name[:8] = np.frombuffer(packed, np.uint8)
        self._headers = _Headers(self._count, self.data, self._names, None)

    def send(self) -> int:
        """All rows of `data` as they are; how many the kernel did not take."""
        taken = 0
        while taken < self._count:
            pointer = ctypes.c_void_p(self._headers.words[taken:].ctypes.data)
            count = _LIBC.sendmmsg(self._fd, pointer, self._count - taken, socket.MSG_DONTWAIT)
            if count <= 0:
                # An ICMP error of a packet before is told once and goes; a full buffer stays.
                count = _LIBC.sendmmsg(self._fd, pointer, self._count - taken, socket.MSG_DONTWAIT)
            if count <= 0:
                break
            taken += count
        return self._count - taken


def _addresses(table: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """Of its rows."""
    first, stride = table.ctypes.data, table.strides[0]
    return np.arange(first, first + stride * len(table), stride, dtype=np.uint64)
