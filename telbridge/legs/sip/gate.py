"""Drops strangers' SIP messages before the library answers anything.

A pjsip module, made by ctypes, stands before the transport layer and reads the source address from struct
pjsip_rx_data. Where that lies is checked at start with a message of our own; unverified means no SIP.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from telbridge.legs.sip.access import LOG_EVERY_NS, AccessPolicy, StrangerLog
from telbridge.legs.sip.info import Copies, InfoKey, info_key
from telbridge.legs.sip.library import REMEDY
from telbridge.legs.sip.throttle import InviteThrottle

_SWALLOW: Final = 1
_PASS: Final = 0
_BEFORE_TRANSPORT_LAYER: Final = 4
"""PJSIP_MOD_PRIORITY_TRANSPORT_LAYER is 8; lower comes first."""
_TRANSPORT_AT: Final = 8
"""pjsip_rx_data.tp_info.transport: behind one pointer."""
_PACKET_AT: Final = 320
"""pkt_info.packet: behind tp_info (3 pointers, the op key's 34, 1 more) and a pj_time_val of two longs."""
_INET6_ADDRSTRLEN: Final = 46
_SOCKADDR_BYTES: Final = 28
_PROBE_BYTES: Final = 70_000
"""PJSIP_MAX_PKT_LEN is 4000 unless a build changed it; no build needs more than a datagram's 64 KiB."""


_INFO: Final = b"INFO "
_LEAST_STRUCT_BYTES: Final = 4448


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in struct pjsip_rx_data the things lie that the gate reads."""

    source_at: int
    text_at: int
    """msg_info.msg_buf; its length is the int behind it."""


def find_layout(memory: bytes, address: int, message: bytes, source: bytes) -> Layout | None:
    """`memory`: octets of a pjsip_rx_data at `address` that holds `message`, received from `source` (the
    first 8 octets of its sockaddr_in). None if anything is not where the known declaration puts it."""
    if memory[_PACKET_AT : _PACKET_AT + len(message)] != message:
        return None
    source_at = memory.find(source, _PACKET_AT + len(message))
    name_at = source_at + _SOCKADDR_BYTES + 4
    # src_port is an int behind the name; msg_buf a pointer behind that.
    port_at = -(-(name_at + _INET6_ADDRSTRLEN) // 4) * 4
    text_at = -(-(port_at + 4) // 8) * 8
    if source_at < 0 or text_at + 12 > len(memory):
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(memory[at : at + size], "little")

    sane = (
        source_at % 8 == 0
        and number(source_at - 8, 8) == len(message)
        # UDP gives the length of the IPv4 address, TCP that of the union.
        and number(source_at + _SOCKADDR_BYTES, 4) in (16, _SOCKADDR_BYTES)
        and number(port_at, 4) == int.from_bytes(source[2:4], "big")
        and number(text_at, 8) == address + _PACKET_AT
        and number(text_at + 8, 4) == len(message)
    )
    return Layout(source_at, text_at) if sane else None


_OnMessage = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _Module(ctypes.Structure):
    """struct pjsip_module (pjsip/sip_module.h)."""

    _fields_ = (
        ("prev", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_ssize_t),
        ("id", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("load", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("unload", ctypes.c_void_p),
        ("on_rx_request", _OnMessage),
        ("on_rx_response", _OnMessage),
        ("on_tx_request", ctypes.c_void_p),
        ("on_tx_response", ctypes.c_void_p),
        ("on_tsx_state", ctypes.c_void_p),
    )


class Gate:
    """Registered between libInit and the first transport; runs on the loop's thread, in libHandleEvents."""

    def __init__(
        self,
        native: ctypes.CDLL,
        policy: AccessPolicy,
        throttle: InviteThrottle | None,
        log: Any,
        clock: Callable[[], int],
        on_key: Callable[[InfoKey], bool],
    ) -> None:
        """`on_key`: a key came by INFO in a form that the library does not know; False if no call is its."""
        self._on_key, self._copies = on_key, Copies()
        self.strangers_dropped = 0
        self.throttled = 0
        self._throttle = throttle
        self._quiet_until_ns = 0
        self.draining = False
        self._native, self._policy, self._log, self._clock = native, policy, log, clock
        self._lines = StrangerLog()
        self._layout: Layout | None = None
        self._expected = b"", b""
        self._datagram_transport: int | None = None
        native.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
        native.pjsip_endpt_respond_stateless.argtypes = (
            *(ctypes.c_void_p,) * 2,
            ctypes.c_int,
            *(ctypes.c_void_p,) * 3,
        )
        native.pjsip_transport_shutdown.argtypes = (ctypes.c_void_p,)
        register = native.pjsip_endpt_register_module
        register.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._endpoint = native.pjsua_get_pjsip_endpt()
        name = b"telbridge-gate"
        # The library keeps a pointer to this until libDestroy, which also unloads it: this must outlive that.
        self._module = _Module(name=name, name_length=len(name), id=-1, priority=_BEFORE_TRANSPORT_LAYER)
        self._module.on_rx_request = _OnMessage(self._on_request)
        self._module.on_rx_response = _OnMessage(self._on_response)
        if status := register(self._endpoint, ctypes.byref(self._module)):
            raise RuntimeError(f"pjsip_endpt_register_module: {status}")

    @property
    def verified(self) -> bool:
        return self._layout is not None

    def expect(self, message: bytes, source: tuple[str, int], *, datagram: bool) -> None:
        """Our own message is on its way; until it is there, everything is swallowed."""
        family = socket.AF_INET.to_bytes(2, "little")
        self._expected = message, family + source[1].to_bytes(2, "big") + socket.inet_aton(source[0])
        self._datagram_transport = 0 if datagram else None

    def _on_response(self, rdata: int) -> int:
        return self._guarded(rdata, request=False)

    def _on_request(self, rdata: int) -> int:
        return self._guarded(rdata, request=True)

    def _guarded(self, rdata: int, *, request: bool) -> int:
        try:
            if self._layout is None:
                self._examine(rdata)
                return _SWALLOW
            if not self._may_pass(rdata, self._layout):
                return _SWALLOW
            return _SWALLOW if request and self._answered(rdata, self._layout) else _PASS
        except Exception:  # noqa: BLE001 - nothing raises into C; what we could not judge does not pass
            self._log.exception("sip_gate_bug")
            return _SWALLOW

    def _may_pass(self, rdata: int, layout: Layout) -> bool:
        address = _source(rdata + layout.source_at)
        if self._policy.permits(address):
            return True
        self.strangers_dropped += 1
        if self._lines.due(address, self._clock()):
            self._log.warning(
                "sip_stranger_dropped",
                peer=str(ip_address(address)) if address else "unknown",
                dropped=self.strangers_dropped,
                remedy="add its network to sip.allow if it may call",
            )
        transport = ctypes.c_void_p.from_address(rdata + _TRANSPORT_AT).value
        if transport and transport != self._datagram_transport:
            self._native.pjsip_transport_shutdown(transport)
        return False

    def _answered(self, rdata: int, layout: Layout) -> bool:
        """Answered before the library sees it: keys that it does not understand (200); while draining OPTIONS
        from outside any call, so that a dispatcher looks elsewhere, and more INVITEs at once than the library
        survives (503)."""
        start = ctypes.c_void_p.from_address(rdata + layout.text_at).value
        length = ctypes.c_int.from_address(rdata + layout.text_at + 8).value
        if not start:
            return False
        if ctypes.string_at(start, min(length, len(_INFO))) == _INFO:
            return self._took_key(rdata, ctypes.string_at(start, length))
        if not self.draining and self._throttle is None:
            return False
        return self._turned_away(rdata, ctypes.string_at(start, length))

    def _took_key(self, rdata: int, text: bytes) -> bool:
        key = info_key(text.decode("utf-8", "replace"))
        if key is None:
            return False
        if key.request not in self._copies:
            if not self._on_key(key):
                return False
            self._copies.add(key.request)
        self._respond(rdata, 200)
        return True

    def _turned_away(self, rdata: int, text: bytes) -> bool:
        method = outside_method(text)
        if method == b"INVITE" and self._throttle:
            now_ns = self._clock()
            if self._throttle.admits(header(text, b"call-id", b"i"), now_ns):
                return False
            self.throttled += 1
            if now_ns >= self._quiet_until_ns:
                self._quiet_until_ns = now_ns + LOG_EVERY_NS
                self._log.warning("sip_calls_throttled", status=503, refused=self.throttled, remedy=REMEDY)
        elif not (method == b"OPTIONS" and self.draining):
            return False
        self._respond(rdata, 503)
        return True

    def _respond(self, rdata: int, status: int) -> None:
        self._native.pjsip_endpt_respond_stateless(self._endpoint, rdata, status, None, None, None)

    def _examine(self, rdata: int) -> None:
        message, source = self._expected
        if not message:
            return
        self._layout = find_layout(_memory(rdata, _PROBE_BYTES), rdata, message, source)
        if self._layout and self._datagram_transport is not None:
            self._datagram_transport = ctypes.c_void_p.from_address(rdata + _TRANSPORT_AT).value


def header(text: bytes, *names: bytes) -> bytes:
    """The first header of these (lower case) names; b"" if there is none."""
    for line in text.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() in names:
            return value.strip()
    return b""


def outside_method(text: bytes) -> bytes:
    """The method of a request outside any dialog: its To has no tag (RFC 3261 §8.1.1.2); else b""."""
    after_address = header(text, b"to", b"t").replace(b" ", b"").lower().rpartition(b">")[2]
    return b"" if b";tag=" in after_address else text.partition(b" ")[0]


def _source(at: int) -> bytes:
    """The address in a sockaddr, packed; b"" for a family that we do not know."""
    family = ctypes.c_uint16.from_address(at).value
    if family == socket.AF_INET:
        return ctypes.string_at(at + 4, 4)
    if family == socket.AF_INET6:
        return ctypes.string_at(at + 8, 16)
    return b""


def _memory(address: int, length: int) -> bytes:
    """Octets of our own memory, as many as are mapped there: a wrong guess must not crash."""
    try:
        fd = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # A hardened container: no more than the smallest struct that the usual packet size makes.
        return ctypes.string_at(address, _LEAST_STRUCT_BYTES)
    try:
        return os.pread(fd, length, address)
    finally:
        os.close(fd)
