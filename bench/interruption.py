"""The caller interrupts: how soon the agent is silent, what counts as heard, and that what was cut stays cut.

Each reply is a long tone of its own frequency, sent in one burst. What was heard is what the softphone
recorded: packets at their arrival, sound along their RTP timestamps.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.figures import Figure, at_most, exactly, percentile, told
from bench.phone import SETTLE_S
from bench.processes import BUILDS, Build, bridge_to
from bench.scripted_agent import Reply, ScriptedAgent, Session, conversation, scripted_agent
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller import Softphone
from telbridge.caller.rtp import CLOCK_HZ, Packet, timestamp_delta
from telbridge.caller.timeline import DECODERS

STOP_P95_MS: Final = 40.0
POSITION_MS: Final = 40.0
CALLS: Final = 2
IN_A_ROW: Final = 25
"""Interruptions of each call: 50 in all, and rows of ten many times over."""
TONE_S: Final = 3.0
AMPLITUDE: Final = 8_000
LOWEST_HZ: Final = 300
STEP_HZ: Final = 120
STRIDE: Final = 7
"""Replies that follow each other are so many steps apart, and none has another's frequency."""
SPOKEN_S: Final = (0.15, 0.5)
"""The agent is interrupted after that long, at random: anywhere within a frame."""
PAUSE_S: Final = 0.15
LATE_MS: Final = 200
"""Audio of a cut reply that still comes, in every second interruption."""
SILENCE: Final = 200
"""Samples up to that level count as silence."""
FOREIGN_SHARE: Final = 0.05
"""Of a packet's power: more beside the reply's own tone means that other sound is in it."""
_SEED: Final = 20


async def measure() -> list[Figure]:
    figures: list[Figure] = []
    async with scripted_agent() as agent:
        for build in BUILDS:
            figures += await _measure_build(agent, build)
    return figures


@dataclass(frozen=True, slots=True)
class Interruption:
    """One reply and its end, as the agent knows it."""

    tone_hz: int
    reply: Reply
    event_ns: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The same as the recording shows it."""

    stop_ms: float
    """From the agent's event to the last packet that is not silent."""
    position_error_ms: float
    """Between what the bridge reported and what was heard; infinite if it reported nothing."""
    foreign_packets: int
    """With sound that is not this reply's, or with any sound after it should have been silent."""


async def _measure_build(agent: ScriptedAgent, build: Build) -> list[Figure]:
    outcomes: list[Outcome] = []
    async with bridge_to(build, agent.url) as bridge, Softphone() as phone, AsyncExitStack() as stack:
        talks = [
            await stack.enter_async_context(conversation(phone, bridge.uri, agent)) for _ in range(CALLS)
        ]
        await asyncio.sleep(SETTLE_S)
        rows = await asyncio.gather(*(_row(session, seed) for seed, (_, session) in enumerate(talks, _SEED)))
        for (call, _), row in zip(talks, rows, strict=True):
            outcomes += judge(row, call.received)
    name = f"interruption, {build}"
    stops = [outcome.stop_ms for outcome in outcomes]
    errors = [outcome.position_error_ms for outcome in outcomes]
    foreign = sum(outcome.foreign_packets for outcome in outcomes)
    return [
        at_most(f"{name}: event to silence p95 of {len(stops)}", percentile(stops, 95), STOP_P95_MS, "ms"),
        told(f"{name}: event to silence, longest", max(stops), "ms"),
        at_most(f"{name}: truncate position off by, most", max(errors), POSITION_MS, "ms"),
        exactly(f"{name}: packets with old audio, {IN_A_ROW} in a row", foreign, 0),
    ]


async def _row(session: Session, seed: int) -> list[Interruption]:
    """Interruptions one after the other. Every second reply counts as still being generated when it is cut,
    and some of its audio comes late."""
    chance = random.Random(seed)
    row = []
    for number in range(IN_A_ROW):
        tone_hz = LOWEST_HZ + STEP_HZ * (number * STRIDE % IN_A_ROW)
        tone = pcm16_to_ulaw(_tone(tone_hz))
        finished = number % 2 == 0
        reply = await session.say(tone, finish=finished)
        await asyncio.sleep(chance.uniform(*SPOKEN_S))
        event_ns = await session.caller_speaks()
        if not finished:
            await session.deltas(reply, tone[: LATE_MS * CLOCK_HZ // 1000])
            await session.done(reply, "cancelled")
        await asyncio.sleep(PAUSE_S)
        await session.caller_stops()
        row.append(Interruption(tone_hz, reply, event_ns))
    return row


def _tone(frequency_hz: int) -> bytes:
    time_s = np.arange(int(TONE_S * CLOCK_HZ)) / CLOCK_HZ
    pcm: bytes = np.rint(AMPLITUDE * np.sin(2 * np.pi * frequency_hz * time_s)).astype("<i2").tobytes()
    return pcm


# -------------------------------------------------------------------- what the recording says


def judge(row: Sequence[Interruption], packets: Sequence[Packet]) -> list[Outcome]:
    """Each interruption by the packets that came between its reply and the next one."""
    ends = [later.reply.sent_ns for later in row[1:]] + [packets[-1].at_ns + 1]
    sounding = [packet for packet in packets if _loud(packet).size]
    return [
        _outcome(one, [packet for packet in sounding if one.reply.sent_ns <= packet.at_ns < end_ns])
        for one, end_ns in zip(row, ends, strict=True)
    ]


def _outcome(one: Interruption, sounding: Sequence[Packet]) -> Outcome:
    if not sounding:
        return Outcome(math.inf, math.inf, 0)  # It was never heard: nothing was measured.
    last = sounding[-1]
    late_ns = one.event_ns + int(STOP_P95_MS * 1e6)
    foreign = sum(packet.at_ns > late_ns or _foreign(packet, one.tone_hz) for packet in sounding[:-1])
    reported_ms = one.reply.truncated_ms
    return Outcome(
        stop_ms=max(0.0, (last.at_ns - one.event_ns) / 1e6),
        position_error_ms=math.inf if reported_ms is None else abs(reported_ms - _heard_ms(sounding)),
        foreign_packets=foreign + (last.at_ns > late_ns),
    )


def _heard_ms(sounding: Sequence[Packet]) -> float:
    """From the first loud sample to the last, by the clock of the stream."""
    first, last = sounding[0], sounding[-1]
    samples = timestamp_delta(last.timestamp, first.timestamp) + _loud(last)[-1] - _loud(first)[0] + 1
    return float(samples * 1000 / CLOCK_HZ)


def _foreign(packet: Packet, tone_hz: int) -> bool:
    """Whether there is more in it than the tone. (Not to be asked of a reply's last packet: a fade is.)"""
    sound = _samples(packet)
    angle = 2 * np.pi * tone_hz * np.arange(len(sound)) / CLOCK_HZ
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights = np.linalg.lstsq(basis, sound, rcond=None)[0]
    rest = sound - basis @ weights
    return bool((rest**2).sum() > FOREIGN_SHARE * (sound**2).sum())


def _loud(packet: Packet) -> npt.NDArray[np.intp]:
    """Places of the samples that are not silent."""
    return np.flatnonzero(np.abs(_samples(packet)) > SILENCE)


def _samples(packet: Packet) -> npt.NDArray[np.float64]:
    return np.frombuffer(DECODERS[packet.payload_type](packet.payload), "<i2").astype(np.float64)
