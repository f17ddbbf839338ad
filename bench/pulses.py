"""Sound whose delay can be told: short pulses, and how regularly packets come. Pure.

A clock point is a packet's own time at the socket (monotonic), moved by the place of the pulse's first loud
sample inside the packet.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from telbridge.caller.rtp import CLOCK_HZ, Packet
from telbridge.caller.timeline import DECODERS

PERIOD_MS: Final = 500
PULSE_SAMPLES: Final = 240
"""30 ms: more than what a jitter buffer throws away at a time (10 ms); a lost pulse is a real loss."""
TONE_HZ: Final = 1_000
AMPLITUDE: Final = 12_000
THRESHOLD: Final = 3_000
MOST_DELAY_NS: Final = 450_000_000
"""An echo later than this counts as lost: soon the next pulse's own echo comes."""
_SAMPLE_NS: Final = 1_000_000_000 // CLOCK_HZ
_LOUD: Final = {
    payload_type: np.abs(np.frombuffer(decode(bytes(range(256))), "<i2").astype(np.int32)) > THRESHOLD
    for payload_type, decode in DECODERS.items()
}


def train(count: int) -> bytes:
    """So many pulses, one each PERIOD_MS, as linear 16-bit 8 kHz sound."""
    wave = np.zeros(CLOCK_HZ * PERIOD_MS // 1000)
    wave[:PULSE_SAMPLES] = AMPLITUDE * np.sin(2 * np.pi * TONE_HZ * np.arange(PULSE_SAMPLES) / CLOCK_HZ)
    return np.rint(wave).astype("<i2").tobytes() * count


def onsets(packets: Sequence[Packet]) -> list[int]:
    """When each pulse began, monotonic ns."""
    found: list[int] = []
    for packet in packets:
        loud = _LOUD.get(packet.payload_type)
        if loud is None:
            continue
        where = loud[np.frombuffer(packet.payload, np.uint8)]
        at_ns = packet.at_ns + int(where.argmax()) * _SAMPLE_NS
        if where.any() and (not found or at_ns - found[-1] > PERIOD_MS * 500_000):
            found.append(at_ns)
    return found


def delays_ms(sent: Sequence[int], received: Sequence[int]) -> list[float]:
    """Of each pulse sent, until its echo came; infinite for one that is lost."""
    delays = []
    for at_ns in sent:
        after = bisect_right(received, at_ns)
        delay_ns = received[after] - at_ns if after < len(received) else MOST_DELAY_NS + 1
        delays.append(delay_ns / 1e6 if delay_ns <= MOST_DELAY_NS else math.inf)
    return delays


def gaps_ms(packets: Sequence[Packet], start_ns: int, end_ns: int) -> list[float]:
    """Between the arrivals within that time; a stream that ceases before its end has a last, long gap."""
    times = [packet.at_ns for packet in packets if start_ns <= packet.at_ns < end_ns]
    return [(later - earlier) / 1e6 for earlier, later in pairwise([start_ns, *times, end_ns])][1:]
