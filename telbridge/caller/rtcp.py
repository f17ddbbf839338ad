"""RTCP sender and receiver reports (RFC 3550 §6.4) as far as a caller wants to know them. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from telbridge.caller.rtp import ReceiverStatistics

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
NTP_EPOCH_S: Final = 2_208_988_800
"""1970 in seconds since 1900."""
_BLOCK: Final = struct.Struct("!IIIIII")
_SENDER: Final = struct.Struct("!IIIII")
_HEADER: Final = struct.Struct("!BBHI")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one side says about the packets it receives."""

    ssrc: int
    fraction_lost: int
    """Since the report before, in 1/256."""
    cumulative_lost: int
    extended_highest: int
    jitter: int
    """In units of the RTP clock."""
    last_sender_report: int
    """Middle 32 bits of the NTP time of the report answered."""
    delay: int
    """Since that report came, in 1/65536 s."""


@dataclass(frozen=True, slots=True)
class Report:
    """A sender report (`packets` is set) or a receiver report."""

    ssrc: int
    blocks: tuple[ReportBlock, ...]
    ntp: int | None = None
    timestamp: int | None = None
    packets: int | None = None
    octets: int | None = None


def parse(data: bytes) -> list[Report]:
    """The reports of a compound packet; SDES, BYE, APP are skipped. ValueError if malformed (A.2)."""
    reports: list[Report] = []
    while data:
        if len(data) < 8 or data[0] >> 6 != 2:
            raise ValueError("RTCP packet is cut or of another version")
        first, kind, words, ssrc = _HEADER.unpack_from(data)
        size = 4 * (words + 1)
        if len(data) < size:
            raise ValueError(f"RTCP packet of {size} octets has {len(data)}")
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            reports.append(_report(kind, first & 0x1F, ssrc, data[8:size]))
        data = data[size:]
    return reports


def _report(kind: int, count: int, ssrc: int, body: bytes) -> Report:
    sender = _SENDER.size if kind == SENDER_REPORT else 0
    if len(body) < sender + count * _BLOCK.size:
        raise ValueError("RTCP report is cut")
    blocks = tuple(_block(body[start:]) for start in range(sender, sender + count * _BLOCK.size, _BLOCK.size))
    if not sender:
        return Report(ssrc, blocks)
    high, low, timestamp, packets, octets = _SENDER.unpack_from(body)
    return Report(ssrc, blocks, high << 32 | low, timestamp, packets, octets)


def _block(data: bytes) -> ReportBlock:
    ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(data)
    cumulative = loss & 0xFFFFFF
    if cumulative & 0x800000:
        cumulative -= 0x1000000
    return ReportBlock(ssrc, loss >> 24, cumulative, highest, jitter, last, delay)


def sender_report(
    *,
    ssrc: int,
    wall_ns: int,
    timestamp: int,
    packets: int,
    octets: int,
    block: ReportBlock | None,
    cname: str,
) -> bytes:
    """Compound packet SR + SDES CNAME (RFC 3550 §6.1). `wall_ns` is Unix time."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    fraction = (rest << 32) // 1_000_000_000
    blocks = b"" if block is None else _pack_block(block)
    body = _SENDER.pack(
        (seconds + NTP_EPOCH_S) & 0xFFFFFFFF,
        fraction,
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    words = (len(body) + len(blocks)) // 4 + 1
    report = _HEADER.pack(0x80 | (block is not None), SENDER_REPORT, words, ssrc) + body + blocks
    return report + _description(ssrc, cname)


def _pack_block(block: ReportBlock) -> bytes:
    loss = block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF
    highest = block.extended_highest & 0xFFFFFFFF
    return _BLOCK.pack(block.ssrc, loss, highest, block.jitter, block.last_sender_report, block.delay)


def _description(ssrc: int, cname: str) -> bytes:
    name = cname.encode()[:255]
    chunk = bytes([1, len(name)]) + name + b"\0"
    chunk += b"\0" * (-len(chunk) % 4)
    return _HEADER.pack(0x81, SOURCE_DESCRIPTION, len(chunk) // 4 + 1, ssrc) + chunk


class Reporter:
    """Our report blocks: remembers what the one before said, and the sender report it answers."""

    def __init__(self) -> None:
        self._expected = 0
        self._lost = 0
        self._last_report: tuple[int, int] | None = None
        self.received: list[Report] = []
        """The peer's last reports, newest last (at most 100)."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """An RTCP packet of the peer. ValueError if malformed."""
        for report in parse(data):
            self.received = [*self.received[-99:], report]
            if report.ntp is not None:
                self._last_report = (report.ntp >> 16 & 0xFFFFFFFF, now_ns)

    def block(self, ssrc: int, statistics: ReceiverStatistics, now_ns: int) -> ReportBlock:
        """What we say about the peer's stream (RFC 3550 A.3)."""
        expected = statistics.expected - self._expected
        lost = statistics.lost - self._lost
        self._expected, self._lost = statistics.expected, statistics.lost
        last, delay = 0, 0
        if self._last_report is not None:
            last, delay = self._last_report[0], (now_ns - self._last_report[1]) * 65536 // 1_000_000_000
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=min(255, max(0, lost) * 256 // expected) if expected > 0 else 0,
            cumulative_lost=statistics.lost,
            extended_highest=statistics.extended_highest,
            jitter=int(statistics.jitter),
            last_sender_report=last,
            delay=delay,
        )
