"""Packets put together to sound again: along the RTP timestamps, or as they came. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from telbridge.audio.g711 import alaw_to_pcm16, ulaw_to_pcm16
from telbridge.caller.rtp import CLOCK_HZ, FRAME_SAMPLES, Packet, timestamp_delta

DECODERS: Final[dict[int, Callable[[bytes], bytes]]] = {0: ulaw_to_pcm16, 8: alaw_to_pcm16}
"""By payload type; packets of others (telephone-events) carry no sound."""
MAX_DRIFT_SAMPLES: Final = CLOCK_HZ
"""When timestamps and arrivals differ by more than a second, the timestamps began anew."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Linear 16-bit 8 kHz sound; its first sample belongs to `start_ns` of the monotonic clock."""

    start_ns: int
    pcm: bytes

    def aligned(self, origin_ns: int) -> bytes:
        """The sound from `origin_ns` on: what was before is cut, what is missing is silence."""
        lead = _samples(self.start_ns - origin_ns)
        return b"\0\0" * lead + self.pcm if lead >= 0 else self.pcm[-2 * lead :]


def by_timestamp(packets: Sequence[Packet]) -> Timeline:
    """As a perfect jitter buffer would play it: gaps are silence, order and duplicates do not matter.

    The first packet's arrival is the start. A new SSRC or a restarted clock is put where it arrived.
    """
    sounding = [packet for packet in packets if packet.payload_type in DECODERS]
    if not sounding:
        return Timeline(0, b"")
    first = before = sounding[0]
    placed: list[tuple[int, Packet]] = []
    at = 0
    for packet in sounding:
        arrival = _samples(packet.at_ns - first.at_ns)
        at += timestamp_delta(packet.timestamp, before.timestamp)
        if packet.ssrc != before.ssrc or abs(at - arrival) > MAX_DRIFT_SAMPLES:
            at = arrival
        before = packet
        if at >= 0:  # what overtook nobody at the very start is lost, as in a real phone
            placed.append((at, packet))
    return Timeline(first.at_ns, _mix(placed))


def by_arrival(packets: Sequence[Packet]) -> Timeline:
    """As a phone without jitter buffer would play it: each packet at its arrival, or after the one before."""
    placed: list[tuple[int, Packet]] = []
    free = 0
    first: Packet | None = None
    for packet in packets:
        if packet.payload_type not in DECODERS:
            continue
        first = first or packet
        at = max(free, _samples(packet.at_ns - first.at_ns))
        placed.append((at, packet))
        free = at + len(packet.payload)
    return Timeline(first.at_ns if first else 0, _mix(placed))


def gaps_ms(packets: Sequence[Packet]) -> list[float]:
    """Time between consecutive packets of the log."""
    return [(later.at_ns - earlier.at_ns) / 1e6 for earlier, later in pairwise(packets)]


def mean_square(payload: bytes, payload_type: int) -> float:
    """Power of one packet, full scale = 1. Zero for what carries no sound."""
    table = _POWER.get(payload_type)
    return float(table[np.frombuffer(payload, np.uint8)].mean()) if table is not None and payload else 0.0


def power_of(level_dbfs: float) -> float:
    """Mean square of a level; full scale = 0 dBFS."""
    return float(10 ** (level_dbfs / 10))


def voiced_frames(pcm: bytes, level_dbfs: float) -> tuple[int, int] | None:
    """First and last 20 ms frame of linear audio above the level; None if it is all silence."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32_768
    samples = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
    power = (samples**2).reshape(-1, FRAME_SAMPLES).mean(axis=1)
    (loud,) = np.nonzero(power > power_of(level_dbfs))
    return (int(loud[0]), int(loud[-1])) if len(loud) else None


def _samples(duration_ns: int) -> int:
    return round(duration_ns * CLOCK_HZ / 1_000_000_000)


def _mix(placed: Iterable[tuple[int, Packet]]) -> bytes:
    placed = list(placed)
    end = max((at + len(packet.payload) for at, packet in placed), default=0)
    pcm = bytearray(2 * end)
    for at, packet in placed:
        sound = DECODERS[packet.payload_type](packet.payload)
        pcm[2 * at : 2 * at + len(sound)] = sound
    return bytes(pcm)


def _power_table(decode: Callable[[bytes], bytes]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    samples = np.frombuffer(decode(bytes(range(256))), "<i2").astype(np.float64)
    return (samples / 32_768) ** 2


_POWER: Final = {payload_type: _power_table(decode) for payload_type, decode in DECODERS.items()}
