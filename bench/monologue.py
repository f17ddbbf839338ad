"""A minute of recorded speech that the agent delivers in one burst: does it sound as it was sent?

A noise floor of about -60 dBFS lies under the speech, so that it holds no digital silence of its own: where
the recording has some, a gap was made.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from bench.figures import Figure, at_least, at_most, exactly
from bench.phone import SETTLE_S, undisturbed
from bench.processes import Build, bridge_to
from bench.scripted_agent import ScriptedAgent, Session, conversation, scripted_agent
from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.audio.wav import read_wav
from telbridge.caller import CallHandle, Softphone
from telbridge.caller.rtp import CLOCK_HZ, Packet, timestamp_delta
from telbridge.caller.timeline import by_timestamp

SPEECH: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
"""Debian's asterisk-core-sounds-en-wav; `make setup` for tests installs it."""
LENGTH_S: Final = 60
FLOOR: Final = 64
"""Peak of the noise under the speech."""
SILENCE: Final = 8
"""A-law has no zero; this is its smallest sample."""
GAP_MS: Final = 40.0
LEAST_CORRELATION: Final = 0.99
LEVEL_DB: Final = 0.5
RESAMPLED_STEP: Final = 1.05
"""The laws round loud samples to one in thirty: a wave that was filtered may fall on the next code."""
UPSAMPLED: Final = 3
_SEARCHED: Final = CLOCK_HZ // 2
_COMPARED: Final = CLOCK_HZ * 5
_SEED: Final = 60

Samples = npt.NDArray[np.float64]
Audio = Literal["g711", "pcm24k"]
RUNS: Final[tuple[tuple[Build, Audio], ...]] = (("built", "g711"), ("wheel", "g711"), ("built", "pcm24k"))


@dataclass(frozen=True, slots=True)
class Law:
    """One of the two codecs of the wire."""

    format: AudioFormat
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes], bytes]

    def __str__(self) -> str:
        return self.format.encoding.value.upper()

    def through(self, speech: Samples) -> Samples:
        """What is left of it on the wire."""
        return _from_bytes(self.decode(self.encode(_to_bytes(speech))))


LAWS: Final = (
    Law(PCMU_8K, pcm16_to_ulaw, ulaw_to_pcm16),
    Law(PCMA_8K, pcm16_to_alaw, alaw_to_pcm16),
)


async def measure() -> list[Figure]:
    """All runs at once: they take no more than a few calls do."""
    speech = recorded_speech()
    async with scripted_agent() as agent, AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(_talk(agent, speech, *run)) for run in RUNS]
        with undisturbed():
            await asyncio.sleep(SETTLE_S)
            for talk in talks:
                await talk.deliver()
            await asyncio.sleep(LENGTH_S + SETTLE_S)
    return [figure for talk in talks for figure in talk.figures()]


def recorded_speech() -> Samples:
    """LENGTH_S of recordings, one after the other, over the noise floor. FileNotFoundError without them."""
    wanted = LENGTH_S * CLOCK_HZ
    parts: list[Samples] = []
    for path in sorted(SPEECH.glob("*.wav")):
        if sum(map(len, parts)) >= wanted:
            break
        pcm, rate_hz = read_wav(path)
        if rate_hz == CLOCK_HZ:
            parts.append(_from_bytes(pcm))
    if not parts:
        raise FileNotFoundError(f"no recordings in {SPEECH}: scripts/system-packages.sh test installs them")
    speech = np.concatenate(parts)[:wanted]
    noise = np.random.default_rng(_SEED).integers(-FLOOR, FLOOR + 1, len(speech))
    return np.clip(speech + noise, -32_768, 32_767)


@dataclass(frozen=True, slots=True)
class Talk:
    """One bridge with a call in each law."""

    name: str
    exact: bool
    """Nothing is resampled: each sample comes as it was sent."""
    speech: Samples
    calls: list[tuple[Law, CallHandle, Session, bytes]]
    """With what the agent says, in the format of its session."""

    async def deliver(self) -> None:
        for _, _, session, audio in self.calls:
            await session.say(audio)

    def figures(self) -> list[Figure]:
        return [
            figure
            for law, call, _, _ in self.calls
            for figure in judge(f"{self.name}, {law}", call.received, law.through(self.speech), self.exact)
        ]


@asynccontextmanager
async def _talk(agent: ScriptedAgent, speech: Samples, build: Build, audio: Audio) -> AsyncIterator[Talk]:
    talk = Talk(f"monologue {audio}, {build}", audio == "g711", speech, [])
    async with bridge_to(build, agent.url, audio) as bridge, Softphone() as phone, AsyncExitStack() as stack:
        for law in LAWS:
            one = conversation(phone, bridge.uri, agent, [law.format])
            call, session = await stack.enter_async_context(one)
            words = law.encode(_to_bytes(speech)) if talk.exact else _to_bytes(_upsampled(speech))
            talk.calls.append((law, call, session, words))
        yield talk


def judge(name: str, packets: Sequence[Packet], wanted: Samples, exact: bool) -> list[Figure]:
    """The recording of a call against what it should hold."""
    timeline = _from_bytes(by_timestamp(packets).pcm)
    lag = _lag(timeline, wanted, int(np.argmax(_loud(timeline))))
    heard = _cut(timeline, lag, len(wanted))
    step = _step(timeline) / _step(wanted)
    figures = [
        at_most(f"{name}: longest gap on the wire", _longest_gap_ms(packets, lag, len(wanted)), GAP_MS, "ms"),
        at_most(f"{name}: longest silence that was not sent", _longest_silence_ms(heard), GAP_MS, "ms"),
        at_most(f"{name}: largest step, of the source's", step, 1.0 if exact else RESAMPLED_STEP, "×"),
    ]
    if exact:
        return [*figures, exactly(f"{name}: samples that differ", int((heard != wanted).sum()), 0)]
    return [*figures, *_likeness(name, timeline, wanted, lag)]


def _likeness(name: str, timeline: Samples, wanted: Samples, lag: int) -> list[Figure]:
    """Shape, level and pitch of what was resampled on its way."""
    heard = _cut(timeline, lag, len(wanted))
    correlation = float(np.corrcoef(heard, wanted)[0, 1])
    level_db = 20 * math.log10(float(np.std(heard) / np.std(wanted))) if heard.any() else math.inf
    last = len(wanted) - _COMPARED
    drift = _lag(timeline[last:], wanted[last:], lag) - lag
    return [
        at_least(f"{name}: correlation with the source", correlation, LEAST_CORRELATION),
        at_most(f"{name}: level off by", abs(level_db), LEVEL_DB, "dB"),
        exactly(f"{name}: drift over {LENGTH_S} s", drift, 0, "samples"),
    ]


def _lag(timeline: Samples, wanted: Samples, near: int) -> int:
    """Where in the timeline the sound begins: the best match of its first seconds around `near`."""
    start = max(0, near - _SEARCHED)
    window = timeline[start : near + _SEARCHED + _COMPARED]
    piece = wanted[:_COMPARED]
    size = 1 << (len(window) + len(piece)).bit_length()
    match = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(piece, size)), size)
    return start + int(np.argmax(match[: max(1, len(window) - len(piece) + 1)]))


def _longest_gap_ms(packets: Sequence[Packet], lag: int, samples: int) -> float:
    """Between arrivals from the sound's first packet to its last."""
    origin = packets[0].timestamp
    inside = [p.at_ns for p in packets if lag <= timestamp_delta(p.timestamp, origin) < lag + samples]
    return max(((later - earlier) / 1e6 for earlier, later in pairwise(inside)), default=math.inf)


def _longest_silence_ms(heard: Samples) -> float:
    edges = np.flatnonzero(np.diff(np.concatenate([[True], _loud(heard), [True]])))
    runs = edges[1::2] - edges[::2]
    return float(runs.max(initial=0) * 1000 / CLOCK_HZ)


def _loud(sound: Samples) -> npt.NDArray[np.bool_]:
    return np.abs(sound) > SILENCE


def _step(sound: Samples) -> float:
    """The largest from one sample to the next: a click is one."""
    return float(np.abs(np.diff(sound)).max())


def _cut(timeline: Samples, start: int, length: int) -> Samples:
    """That part; what is missing at its end is silence."""
    part = timeline[start : start + length]
    return np.pad(part, (0, length - len(part)))


def _upsampled(speech: Samples) -> Samples:
    """At 24 kHz, band-limited to what it was, by way of its spectrum: no filter of ours."""
    spectrum = np.fft.rfft(speech)
    longer: Samples = np.fft.irfft(spectrum, len(speech) * UPSAMPLED) * UPSAMPLED
    return longer


def _to_bytes(sound: Samples) -> bytes:
    octets: bytes = np.clip(np.rint(sound), -32_768, 32_767).astype("<i2").tobytes()
    return octets


def _from_bytes(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64)
