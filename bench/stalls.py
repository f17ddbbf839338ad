"""What is left of a stall: from mouth to ear through an echo that never pauses, before it and after it.

The worker, the agent and the caller's network stand still for half a second, one after the other, in the
middle of one call over SIP and one over a Twilio stream. What the caller hears is looked for in what it said.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import numpy as np

from bench.figures import Figure, at_most, told
from bench.monologue import Samples, recorded_speech
from bench.phone import SETTLE_S, talking, undisturbed
from bench.processes import child_pid, echo_bridge, worker_pid
from telbridge.audio.formats import PCMU_8K
from telbridge.caller import Softphone
from telbridge.caller.rtp import CLOCK_HZ, Packet
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.webhook import Account
from telbridge.caller.timeline import DECODERS

STALL_S: Final = 0.5
AFTER_S: Final = (1, 2, 3, 5)
CALM_S: Final = 8.0
"""From one stall to the next."""
LEFT_MS: Final = 40.0
"""After the last of `AFTER_S`, at most so much more than before."""
VOICED: Final = 400
"""Level of a frame that is no pause."""
LISTENED_S: Final = 0.3
SEARCHED_S: Final = 2.0
PIECE: Final = 3
"""Packets that are looked for as one."""
ALIKE: Final = 0.7
_TOKEN: Final = "0123456789abcdef0123456789abcdef"


async def measure() -> list[Figure]:
    os.environ["TWILIO_AUTH_TOKEN"] = _TOKEN
    speech = np.rint(_unbroken(recorded_speech())).astype("<i2").tobytes()
    account = Account(TEST_ACCOUNT, _TOKEN)
    async with echo_bridge("built") as bridge, Softphone() as sip, StreamPhone(account=account) as carrier:
        stream = await carrier.call(f"twilio+ws://127.0.0.1:{bridge.http_port}/twilio/stream")
        async with talking(sip, bridge.uri, 1, [PCMU_8K]) as (call,):
            stalls: dict[str, Callable[[], Awaitable[None]]] = {
                "worker": lambda: _stopped(worker_pid(bridge)),
                "agent": lambda: _stopped(child_pid(bridge.process.pid, "telbridge.agent")),
                "network": lambda: _held([(call.media._socket, "send"), (stream, "_send")]),
            }
            ended_s: dict[str, float] = {}
            with undisturbed():
                for one in (call, stream):
                    one.play(speech)
                await asyncio.sleep(SETTLE_S + 3.0)
                for name, stall in stalls.items():
                    await stall()
                    ended_s[name] = time.monotonic()
                    await asyncio.sleep(CALM_S)
            return [
                figure
                for way, one in (("sip", call), ("streams", stream))
                for name, at_s in ended_s.items()
                for figure in _figures(f"stalls: {way}, {name}", one.sent, one.received, at_s)
            ]


def _unbroken(speech: Samples) -> Samples:
    """Without its pauses."""
    frames = speech[: len(speech) // 160 * 160].reshape(-1, 160)
    return frames[np.sqrt((frames**2).mean(axis=1)) > VOICED].ravel()


async def _stopped(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STALL_S)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _held(senders: Sequence[tuple[Any, str]]) -> None:
    """What is sent meanwhile is kept, and then comes all at once."""
    kept: list[tuple[Any, tuple[Any, ...]]] = []
    for owner, name in senders:
        send = getattr(owner, name)
        setattr(owner, name, lambda *what, send=send: kept.append((send, what)))
    await asyncio.sleep(STALL_S)
    for owner, name in senders:
        delattr(owner, name)
    for send, what in kept:
        send(*what)


def _figures(name: str, sent: Sequence[Packet], received: Sequence[Packet], ended_s: float) -> list[Figure]:
    before = late_ms(sent, received, ended_s - STALL_S - 2 * LISTENED_S)
    after = [late_ms(sent, received, ended_s + at_s) for at_s in AFTER_S]
    return [
        told(f"{name}: mouth to ear before", before, "ms"),
        *(
            told(f"{name}: {at_s} s after", late, "ms")
            for at_s, late in zip(AFTER_S[:-1], after, strict=False)
        ),
        at_most(f"{name}: {AFTER_S[-1]} s after, more than before", after[-1] - before, LEFT_MS, "ms"),
    ]


def late_ms(sent: Sequence[Packet], received: Sequence[Packet], at_s: float) -> float:
    """How long ago what is heard from then on was said; the median. Infinite if nothing is known again."""
    said = [packet for packet in sent if at_s - SEARCHED_S <= packet.at_ns / 1e9 < at_s + LISTENED_S]
    heard = [packet for packet in received if at_s <= packet.at_ns / 1e9 < at_s + LISTENED_S]
    wave = np.concatenate([_wave(packet) for packet in said])
    lates = []
    for first in range(0, len(heard) - PIECE + 1, 2):
        piece = np.concatenate([_wave(packet) for packet in heard[first : first + PIECE]])
        energy = np.convolve(wave**2, np.ones(len(piece)), "valid") * (piece**2).sum()
        likeness = np.correlate(wave, piece, "valid") / np.sqrt(energy + 1)
        best = int(np.argmax(likeness))
        if likeness[best] >= ALIKE:
            packet, into = said[best // 160], best % 160
            lates.append((heard[first].at_ns - packet.at_ns) / 1e6 - into * 1000 / CLOCK_HZ)
    return float(np.median(lates)) if lates else float("inf")


def _wave(packet: Packet) -> Samples:
    return np.frombuffer(DECODERS[packet.payload_type](packet.payload), "<i2").astype(np.float64)
