"""Strangers' TCP connections end before they begin: a socket filter in the kernel drops their SYN.

The gate sees messages only, and by then the library holds a connection (the wheel has 64 handles for all it
does). A classic BPF program on the listening socket (Linux, no privilege needed) asks the same networks.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from telbridge.legs.sip.access import Network

MAX_NETWORKS: Final = 1000
"""4 instructions each; the kernel takes 4096."""
_SO_ATTACH_FILTER: Final = 26
_SO_MEMINFO: Final = 55
_DROPS: Final = 8
"""SK_MEMINFO_DROPS (linux/sock_diag.h)."""
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_SOURCE_ADDRESS: Final = 0xFFF00000 + 12
"""SKF_NET_OFF: from the IPv4 header (RFC 791 §3.1)."""
_WHOLE_PACKET: Final = 0xFFFFFFFF


def program(networks: Iterable[IPv4Network]) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, operand) that keep what comes from these networks."""
    instructions = []
    for network in networks:
        instructions += [
            (_LOAD, 0, 0, _SOURCE_ADDRESS),
            (_AND, 0, 0, int(network.netmask)),
            (_JUMP_EQUAL, 0, 1, int(network.network_address)),
            (_RETURN, 0, 0, _WHOLE_PACKET),
        ]
    return [*instructions, (_RETURN, 0, 0, 0)]


class TcpFilter:
    """The filter on our listening socket. OSError if there is no such socket or the kernel will not."""

    def __init__(self, host: str, port: int, networks: Iterable[Network]) -> None:
        ours = [network for network in networks if isinstance(network, IPv4Network)]
        if len(ours) > MAX_NETWORKS:
            raise OSError(f"{len(ours)} networks are more than a socket filter takes")
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program(ours))
        held = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
        self._socket = _listening_socket(host, port)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)

    @property
    def dropped(self) -> int:
        """Packets dropped so far; a stranger's SYN comes several times."""
        figures = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
        return int(struct.unpack_from("=I", figures, 4 * _DROPS)[0])

    def close(self) -> None:
        """Let go of our handle; the library's own socket is not touched."""
        self._socket.close()


def _listening_socket(host: str, port: int) -> socket.socket:
    """A second handle on the library's socket, found among the process's own."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        try:
            if (
                found.family == socket.AF_INET
                and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and found.getsockname() == (host, port)
            ):
                return found
        except OSError:
            pass
        found.close()
    raise OSError(f"no socket listens on {host}:{port}")
