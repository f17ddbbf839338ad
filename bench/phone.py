"""The load: many calls of our own softphone, and what they recorded."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure, at_most, exactly, percentile, told
from bench.pulses import delays_ms, gaps_ms, onsets, train
from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat
from telbridge.caller import CallHandle, Softphone
from telbridge.caller.rtp import Packet

ANSWER_S: Final = 10.0
CALL_EVERY_S: Final = 0.05
"""20 calls a second: how a call is set up is not what is measured here, and must not disturb what is."""
SETTLE_S: Final = 1.0
"""Media set-up, which belongs to no figure of the talk after it."""
LAST_ECHO_S: Final = 0.5
MOST_PHASES: Final = 20
"""Of 20 ms: how long a packet waits for the bridge's tick depends on where between two ticks it comes."""


@asynccontextmanager
async def talking(
    phone: Softphone, uri: str, count: int, codecs: Sequence[AudioFormat] = (PCMU_8K, PCMA_8K)
) -> AsyncIterator[list[CallHandle]]:
    """So many answered calls, hung up at the end."""
    calls: list[CallHandle] = []
    try:
        for _ in range(count):
            calls.append(await phone.call(uri, codecs=codecs))
            await asyncio.sleep(CALL_EVERY_S)
        await asyncio.gather(*(call.wait_answered(ANSWER_S) for call in calls))
        yield calls
    finally:
        await asyncio.gather(*(call.hang_up() for call in calls))


def spread_phone(count: int) -> Softphone:
    """A softphone whose calls are spread evenly over a frame; `count` or MOST_PHASES divides 20 ms."""
    return Softphone(phases=min(count, MOST_PHASES))


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection meanwhile: kept packets are many, and our pause would look like theirs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True)
class EchoRun:
    """Pulses of all calls and what came back, from `start_ns` (after SETTLE_S) on."""

    delays_ms: list[float]
    gaps_ms: list[float]
    """Between packets as the kernel got them."""
    sending_gaps_ms: list[float]
    """Of our own packets: what the load generator is worth."""

    def figures(self, name: str, *, p50_ms: float, p95_ms: float, gap_p99_ms: float) -> list[Figure]:
        lost = sum(delay == float("inf") for delay in self.delays_ms)
        return [
            at_most(f"{name}: echo p50", percentile(self.delays_ms, 50), p50_ms, "ms"),
            at_most(f"{name}: echo p95", percentile(self.delays_ms, 95), p95_ms, "ms"),
            told(f"{name}: echo, longest", max(self.delays_ms), "ms"),
            exactly(f"{name}: pulses lost of {len(self.delays_ms)}", lost, 0),
            at_most(f"{name}: packet gap p99", percentile(self.gaps_ms, 99), gap_p99_ms, "ms"),
            told(f"{name}: packet gap, longest", max(self.gaps_ms), "ms"),
            told(f"{name}: the caller's own packet gap p99", percentile(self.sending_gaps_ms, 99), "ms"),
        ]


async def echo_run(calls: list[CallHandle], pulses: int) -> EchoRun:
    """Let the calls settle, then play so many pulses on each."""
    sound = train(pulses)
    with undisturbed():
        await asyncio.sleep(SETTLE_S)
        start_ns = time.monotonic_ns()
        await asyncio.gather(*(call.play(sound) for call in calls))
        end_ns = time.monotonic_ns()
        await asyncio.sleep(LAST_ECHO_S)
    return EchoRun(
        delays_ms=[delay for call in calls for delay in _delays(call, start_ns)],
        gaps_ms=[gap for call in calls for gap in gaps_ms(call.received, start_ns, end_ns)],
        sending_gaps_ms=[gap for call in calls for gap in gaps_ms(call.sent, start_ns, end_ns)],
    )


def _delays(call: CallHandle, start_ns: int) -> list[float]:
    return delays_ms(onsets(_since(call.sent, start_ns)), onsets(_since(call.received, start_ns)))


def _since(packets: list[Packet], start_ns: int) -> list[Packet]:
    return [packet for packet in packets if packet.at_ns >= start_ns]
