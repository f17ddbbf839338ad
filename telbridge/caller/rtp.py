"""RTP packets (RFC 3550), digits as telephone-events (RFC 4733) and what a receiver counts. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

CLOCK_HZ: Final = 8_000
"""RTP clock of G.711 and of the telephone-events beside it."""
FRAME_MS: Final = 20
FRAME_SAMPLES: Final = CLOCK_HZ * FRAME_MS // 1000
HEADER: Final = struct.Struct("!BBHII")
VERSION_BITS: Final = 0x80
EVENT: Final = struct.Struct("!BBH")
DIGITS: Final = "0123456789*#ABCD"
"""Place = event code (RFC 4733 §3.2)."""
END_BIT: Final = 0x80
END_REPEATS: Final = 3
"""The last packet of an event is sent three times: one loss must not prolong it (RFC 4733 §2.5.1.4)."""
DTMF_VOLUME: Final = 10
"""Level of the tone in -dBm0 (RFC 4733 §2.3.3)."""
SEQUENCE_WINDOW: Final = 1_024
"""Packets older than that count as a new source or as late, and duplicates among them are not recognised."""
MAX_DROPOUT: Final = 3_000
"""A forward jump beyond this is a restarted source, not loss (RFC 3550 A.1)."""


class Packet(NamedTuple):
    """One RTP packet, sent or received."""

    at_ns: int
    """When it came in or went out, monotonic clock."""
    sequence: int
    timestamp: int
    payload: bytes
    marker: bool
    payload_type: int
    ssrc: int


def pack(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool = False
) -> bytes:
    """RFC 3550 §5.1: no padding, extension or CSRC. Sequence and timestamp wrap here and nowhere else."""
    second = payload_type | 0x80 if marker else payload_type
    return HEADER.pack(VERSION_BITS, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def unpack(data: bytes, at_ns: int = 0) -> Packet:
    """ValueError if this is no RTP packet (RFC 3550 §5.1, A.1)."""
    if len(data) < HEADER.size:
        raise ValueError(f"RTP packet of {len(data)} octets")
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first == VERSION_BITS:  # the common case: nothing optional
        return Packet(at_ns, sequence, timestamp, data[12:], second > 127, second & 0x7F, ssrc)
    if first >> 6 != 2:
        raise ValueError(f"RTP version {first >> 6}")
    start = HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:  # header extension, §5.3.1
        if len(data) < start + 4:
            raise ValueError("RTP header extension is cut")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    padding = data[-1] if first & 0x20 else 0
    if start + padding > len(data) or (first & 0x20 and padding == 0):
        raise ValueError("RTP header or padding longer than the packet")
    return Packet(
        at_ns, sequence, timestamp, data[start : len(data) - padding], second > 127, second & 0x7F, ssrc
    )


def timestamp_delta(later: int, earlier: int) -> int:
    """Signed difference of two 32-bit timestamps, right across the wrap."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def sequence_delta(later: int, earlier: int) -> int:
    """Signed difference of two 16-bit sequence numbers, right across the wrap."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


@dataclass(frozen=True, slots=True)
class DtmfEvent:
    """Payload of a telephone-event packet (RFC 4733 §2.3)."""

    digit: str
    end: bool
    volume: int
    """0 to 63, in -dBm0."""
    duration: int
    """Samples of the RTP clock since the event's timestamp."""

    @classmethod
    def parse(cls, payload: bytes) -> DtmfEvent:
        """ValueError if shorter than 4 octets or no DTMF digit; octets beyond the fourth are ignored."""
        if len(payload) < EVENT.size:
            raise ValueError(f"telephone-event of {len(payload)} octets")
        code, flags, duration = EVENT.unpack_from(payload)
        if code >= len(DIGITS):
            raise ValueError(f"telephone-event {code} is no DTMF digit")
        return cls(DIGITS[code], bool(flags & END_BIT), flags & 0x3F, duration)

    def __bytes__(self) -> bytes:
        flags = self.volume | (END_BIT if self.end else 0)
        return EVENT.pack(DIGITS.index(self.digit), flags, self.duration)


def digit_payloads(digit: str, duration_ms: int) -> Iterator[tuple[DtmfEvent, ...]]:
    """What each 20 ms tick sends for one digit: growing durations, then the end three times at once.

    Durations are whole ticks; ValueError for anything that is no DTMF digit.
    """
    if digit.upper() not in DIGITS or len(digit) != 1:
        raise ValueError(f"{digit!r} is no DTMF digit; the digits are {DIGITS}")
    ticks = max(2, duration_ms // FRAME_MS)
    for tick in range(1, ticks):
        yield (DtmfEvent(digit.upper(), False, DTMF_VOLUME, tick * FRAME_SAMPLES),)
    yield (DtmfEvent(digit.upper(), True, DTMF_VOLUME, ticks * FRAME_SAMPLES),) * END_REPEATS


class Histogram:
    """Durations in buckets of 50 µs: percentiles of a day in a few kilobytes. The maximum is exact."""

    BUCKET_NS: Final = 50_000

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._buckets: dict[int, int] = {}

    def add(self, duration_ns: int) -> None:
        bucket = duration_ns // self.BUCKET_NS
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)

    def merge(self, other: Histogram) -> None:
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count
        self.max_ns = max(self.max_ns, other.max_ns)

    def percentile_ms(self, percent: float) -> float | None:
        """Middle of the bucket that holds the percentile (nearest rank); None without any duration."""
        if self.count == 0:
            return None
        rank = max(1, -(-self.count * percent // 100))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return (bucket + 0.5) * self.BUCKET_NS / 1e6
        return self.max_ns / 1e6


@dataclass(slots=True)
class ReceiverStatistics:
    """What RFC 3550 A.1, A.3 and A.8 count of one direction, and the gaps between arrivals.

    A new SSRC or a wild jump of the sequence number begins a new source: the counts go on, the base starts
    again. RTCP's cumulative loss counts duplicates as received; `lost` here does not.
    """

    clock_hz: int = CLOCK_HZ
    received: int = 0
    """All packets, duplicates too."""
    duplicates: int = 0
    reordered: int = 0
    """Came after a packet with a higher sequence number."""
    sources: int = 0
    """Times a source began (1 for an undisturbed stream)."""
    gaps: Histogram = field(default_factory=Histogram)
    """Time between two arrivals, in order of arrival."""
    _expected_before: int = 0
    _base: int = 0
    _highest: int = 0  # extended: cycles · 65536 + sequence
    _seen: int = 0  # bit n: highest - n has come
    ssrc: int | None = None
    """Of the source being heard."""
    _last_arrival_ns: int | None = None
    _transit: float | None = None
    _jitter: float = 0.0

    def add(self, packet: Packet, *, timed: bool = True) -> None:
        """Count a packet in order of arrival. A telephone-event is not `timed`: its timestamp stands still,
        which would count as jitter."""
        self.received += 1
        if self._last_arrival_ns is not None:
            self.gaps.add(packet.at_ns - self._last_arrival_ns)
        self._last_arrival_ns = packet.at_ns
        delta = sequence_delta(packet.sequence, self._highest & 0xFFFF)
        if packet.ssrc != self.ssrc or not -SEQUENCE_WINDOW < delta < MAX_DROPOUT:
            self._begin(packet)
        else:
            self._count(delta)
        if timed:
            self._update_jitter(packet)

    def pause(self) -> None:
        """The stream is put on hold: what follows makes no gap and no jitter with what was before."""
        self._last_arrival_ns = self._transit = None

    @property
    def expected(self) -> int:
        """Packets from the first to the highest sequence number of each source (RFC 3550 A.3)."""
        return self._expected_before + (self._highest - self._base + 1 if self.ssrc is not None else 0)

    @property
    def lost(self) -> int:
        return self.expected - (self.received - self.duplicates)

    @property
    def loss_percent(self) -> float:
        return 100 * self.lost / self.expected if self.expected else 0.0

    @property
    def jitter(self) -> float:
        """Interarrival jitter in units of the RTP clock (RFC 3550 §6.4.1, A.8)."""
        return self._jitter

    @property
    def jitter_ms(self) -> float:
        return self._jitter * 1000 / self.clock_hz

    @property
    def extended_highest(self) -> int:
        """Highest sequence number with its cycles (RFC 3550 §6.4.1)."""
        return self._highest

    def _begin(self, packet: Packet) -> None:
        self._expected_before = self.expected
        self.ssrc = packet.ssrc
        self._base = self._highest = packet.sequence
        self._seen = 1
        self._transit = None
        self.sources += 1

    def _count(self, delta: int) -> None:
        if delta > 0:
            self._highest += delta
            self._seen = ((self._seen << delta) | 1) & ((1 << SEQUENCE_WINDOW) - 1)
        elif self._seen >> -delta & 1:
            self.duplicates += 1
        else:
            self._seen |= 1 << -delta
            self.reordered += 1
            self._base = min(self._base, self._highest + delta)  # the first one may itself have been early

    def _update_jitter(self, packet: Packet) -> None:
        # Transit times matter only as differences; the timestamp's wrap is taken out of the difference.
        transit = packet.at_ns * self.clock_hz / 1e9 - packet.timestamp
        if self._transit is not None:
            difference = (transit - self._transit + 2**31) % 2**32 - 2**31
            self._jitter += (abs(difference) - self._jitter) / 16
        self._transit = transit
