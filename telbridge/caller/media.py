"""The sockets of one call's audio, and the log of what went through them."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from telbridge.caller.rtcp import ReportBlock, Reporter, sender_report
from telbridge.caller.rtp import DtmfEvent, Histogram, Packet, ReceiverStatistics, unpack
from telbridge.caller.sdp import Codec, SessionDescription, chosen
from telbridge.caller.sender import RtpSender

MAX_DATAGRAM: Final = 2_048
PORT_ATTEMPTS: Final = 200
RTCP_INTERVAL_NS: Final = 5_000_000_000
"""RFC 3550 §6.2 without its dithering: a call has two participants."""
_SO_TIMESTAMPNS: Final = 35
"""socket(7) on Linux; Python has no name for it."""
_TIMESPEC: Final = struct.Struct("@ll")
MAX_WAITING: Final = 256
"""Datagrams that are still read from a socket that is closed."""
_MAX_AGE_NS: Final = 1_000_000_000
"""A kernel time stamp older than this means that the wall clock was set, not that we slept."""

OnDatagram = Callable[[bytes, int, tuple[str, int]], None]
"""Octets, arrival on the monotonic clock, source."""


class MediaSocket:
    """An RTP socket and the RTCP socket above it, read by the loop."""

    def __init__(self, host: str, on_rtp: OnDatagram, on_rtcp: OnDatagram) -> None:
        self._loop = asyncio.get_running_loop()
        self._rtp, self._rtcp = _bind_pair(host)
        self._on_rtp = on_rtp
        self.port: int = self._rtp.getsockname()[1]
        if sys.platform == "linux":
            self._rtp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._loop.add_reader(self._rtp.fileno(), self._read, self._rtp, on_rtp)
        self._loop.add_reader(self._rtcp.fileno(), self._read, self._rtcp, on_rtcp)
        self.unsent = 0
        """Packets the kernel did not take."""

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        self._write(self._rtp, data, address)

    def send_rtcp(self, data: bytes, address: tuple[str, int]) -> None:
        self._write(self._rtcp, data, address)

    def close(self) -> None:
        """What had come before is heard: a BYE may overtake it if we were late. Safe twice."""
        for _ in range(MAX_WAITING):
            if not self._read(self._rtp, self._on_rtp):
                break
        for one in (self._rtp, self._rtcp):
            if one.fileno() >= 0:
                self._loop.remove_reader(one.fileno())
                one.close()

    def _write(self, one: socket.socket, data: bytes, address: tuple[str, int]) -> None:
        try:
            one.sendto(data, address)
        except OSError:  # buffer full, or an ICMP error of a packet before: a telephone goes on
            self.unsent += 1

    @staticmethod
    def _read(one: socket.socket, deliver: OnDatagram) -> bool:
        """One datagram; False if there is none."""
        try:
            data, ancillary, _, source = one.recvmsg(MAX_DATAGRAM, 64)
        except OSError:
            return False
        now_ns = time.monotonic_ns()
        deliver(data, now_ns - _age_ns(ancillary), source)
        return True


def _age_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """How long ago the kernel got the datagram. The stamp is wall time: only its distance from the wall clock
    of this moment is used, so that a clock that was set long ago does no harm."""
    for _, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack(data)
            age_ns: int = time.time_ns() - seconds * 1_000_000_000 - rest
            return age_ns if 0 <= age_ns < _MAX_AGE_NS else 0
    return 0


def _bind_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Even port for RTP, the next for RTCP (RFC 3550 §11). OSError if none is free."""
    for _ in range(PORT_ATTEMPTS):
        rtp, rtcp = _udp(), _udp()
        try:
            port = random.randrange(20_000, 32_000, 2)  # below Linux's ephemeral ports: nobody else gets them
            rtp.bind((host, port))
            rtcp.bind((host, port + 1))
            return rtp, rtcp
        except OSError:
            rtp.close()
            rtcp.close()
    raise OSError(f"no free pair of UDP ports at {host}")


def _udp() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    return one


class MediaStream:
    """Both directions of one call's audio. The pacer calls `tick`; the sockets call the rest."""

    def __init__(self, host: str, codec: Codec, *, keep_packets: bool) -> None:
        self.host = host
        self.sender = RtpSender(
            codec,
            ssrc=random.getrandbits(32),
            sequence=random.getrandbits(16),
            timestamp=random.getrandbits(32),
        )
        self.statistics = ReceiverStatistics()
        self.sending_gaps = Histogram()
        """Between our own ticks as they were sent: what the pacer is worth."""
        self.received: list[Packet] = []
        """Audio packets in order of arrival."""
        self.sent: list[Packet] = []
        self.digits: list[tuple[int, str]] = []
        """Telephone-events heard: arrival of the first packet of each, digit."""
        self.malformed = 0
        self.sources: Counter[tuple[str, int]] = Counter()
        """Where RTP came from: it should be one place."""
        self.first_packet_ns: int | None = None
        self.reporter = Reporter()
        self.on_packet: list[Callable[[Packet], None]] = []
        self.on_tick: list[Callable[[int], None]] = []
        self._keep = keep_packets
        self._socket = MediaSocket(host, self._on_rtp, self._on_rtcp)
        self._retired: list[MediaSocket] = []
        self._remote: tuple[str, int] | None = None
        self._event_payload_type: int | None = None
        self._last_event: tuple[int, int] | None = None
        self._last_tick_ns: int | None = None
        self._report_due_ns = 0
        self._closed = False

    @property
    def port(self) -> int:
        return self._socket.port

    def move(self) -> None:
        """Listen on a new port from now on; the old one is still heard until the call ends."""
        self._retired.append(self._socket)
        self._socket = MediaSocket(self.host, self._on_rtp, self._on_rtcp)

    def connect(self, ours: SessionDescription, theirs: SessionDescription) -> None:
        """Take what was agreed. ValueError if they have no codec of ours."""
        self.sender.codec = chosen(theirs)
        self.sender.event_payload_type = self._event_payload_type = theirs.event_payload_type
        self._remote = (theirs.address, theirs.port)
        sends = ours.direction.sends and not theirs.on_hold
        if not sends:
            self._last_tick_ns = None
        if not ours.direction.receives:
            self.statistics.pause()
        self.sender.enabled = sends

    def tick(self, now_ns: int) -> None:
        """Send 20 ms (see `Pacer`)."""
        if self._remote is None or self._closed:
            return
        self._send(self.sender.tick(time.monotonic_ns()), self._remote)
        if now_ns >= self._report_due_ns:
            self._report(now_ns, self._remote)
        for watch in self.on_tick:
            watch(now_ns)

    def skip(self, ticks: int) -> None:
        self.sender.skip(ticks)

    def close(self) -> None:
        """Stop sending and listening; what is queued is cut short. Safe twice."""
        if self._closed:
            return
        self._closed = True
        self.sender.stop()
        for one in (self._socket, *self._retired):
            one.close()

    def _send(self, packets: list[bytes], remote: tuple[str, int]) -> None:
        for data in packets:
            at_ns = time.monotonic_ns()
            self._socket.send(data, remote)
            if self._keep:
                self.sent.append(unpack(data, at_ns))
        if packets:
            if self._last_tick_ns is not None:
                self.sending_gaps.add(at_ns - self._last_tick_ns)
            self._last_tick_ns = at_ns

    def _on_rtp(self, data: bytes, at_ns: int, source: tuple[str, int]) -> None:
        try:
            packet = unpack(data, at_ns)
        except ValueError:
            self.malformed += 1
            return
        self.sources[source] += 1
        if self.first_packet_ns is None:
            self.first_packet_ns = at_ns
        is_event = packet.payload_type == self._event_payload_type
        self.statistics.add(packet, timed=not is_event)
        if is_event:
            self._on_event(packet)
            return
        if self._keep:
            self.received.append(packet)
        for watch in self.on_packet:
            watch(packet)

    def _on_event(self, packet: Packet) -> None:
        try:
            event = DtmfEvent.parse(packet.payload)
        except ValueError:
            self.malformed += 1
            return
        key = (packet.ssrc, packet.timestamp)  # all packets of one event carry one timestamp
        if key != self._last_event:
            self._last_event = key
            self.digits.append((packet.at_ns, event.digit))

    def _on_rtcp(self, data: bytes, at_ns: int, _source: tuple[str, int]) -> None:
        try:
            self.reporter.receive(data, at_ns)
        except ValueError:
            self.malformed += 1

    def _report(self, now_ns: int, remote: tuple[str, int]) -> None:
        if self._report_due_ns and self.sender.packets:
            data = sender_report(
                ssrc=self.sender.ssrc,
                wall_ns=time.time_ns(),
                timestamp=self.sender.timestamp,
                packets=self.sender.packets,
                octets=self.sender.octets,
                block=self._block(now_ns),
                cname=f"caller@{self.host}",
            )
            self._socket.send_rtcp(data, (remote[0], remote[1] + 1))
        self._report_due_ns = now_ns + RTCP_INTERVAL_NS

    def _block(self, now_ns: int) -> ReportBlock | None:
        ssrc = self.statistics.ssrc
        return None if ssrc is None else self.reporter.block(ssrc, self.statistics, now_ns)
