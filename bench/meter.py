"""How exactly the speech meter finds words, and what it costs: recorded people (Debian's Asterisk prompts,
package asterisk-core-sounds-en-wav) on lines with noise, against labels made of energy alone."""

from __future__ import annotations

import random
import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.figures import Figure, at_most, percentile, told
from telbridge.audio.formats import PCM_8K, PCMU_8K, AudioFormat
from telbridge.audio.speech import FRAME_MS, SpeechMeter
from telbridge.audio.transcoder import Transcoder
from telbridge.audio.wav import load_wav

SOUNDS: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPTS: Final = 150
LINES: Final = ((None, 0), (-65, 0), (-55, 0), (-50, 0), (-45, 0), (None, -12), (-50, -12))
"""Noise in dBFS, and how much softer than recorded people speak, in dB."""
COST_MAX_US: Final = 15.0
ONSET_P95_MAX_MS: Final = 40.0
OFFSET_P50_MAX_MS: Final = 20.0
"""On a good line, with noise of -55 dBFS at the most."""

Wave = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of speech, in ms."""

    begins: float
    ends: float


def energy_labels(wave: Wave) -> list[Stretch]:
    """Where a clean recording at 8 kHz has words, by nothing but energy: pieces of 5 ms within 26 dB of the
    speech's own level; pauses of 300 ms part them, and what is shorter than 60 ms is none."""
    pieces = np.sqrt((wave[: len(wave) // 40 * 40].reshape(-1, 40) ** 2).mean(axis=1))
    active = np.sqrt((pieces[pieces > np.percentile(pieces, 60)] ** 2).mean())
    (loud,) = np.nonzero(pieces > max(1.0, active * 10 ** (-26 / 20)))
    cuts = np.flatnonzero(np.diff(loud) > 60)
    found = [
        Stretch(5.0 * float(first), 5.0 * float(last + 1))
        for first, last in zip(loud[[0, *(cuts + 1)]], loud[[*cuts, -1]], strict=True)
    ]
    return [one for one in found if one.ends - one.begins >= 60]


def metered(wave: Wave, audio_format: AudioFormat = PCM_8K, message_ms: int = FRAME_MS) -> list[Stretch]:
    """What the meter says of it, in messages of so many ms, each of which arrives at its end."""
    pcm = np.clip(wave, -32768, 32767).astype("<i2").tobytes()
    audio = Transcoder(PCM_8K, audio_format).convert(pcm)
    meter = SpeechMeter(audio_format)
    size = audio_format.bytes_for_ms(message_ms)
    ended: dict[float, Stretch] = {}
    for number, start in enumerate(range(0, len(audio), size), 1):
        if meter.hear(audio[start : start + size], number * message_ms * 1_000_000):
            assert meter.onset_ns is not None
            assert meter.last_voiced_ns is not None
            begins = meter.onset_ns / 1e6
            ended[begins] = Stretch(begins, float("inf") if meter.speaking else meter.last_voiced_ns / 1e6)
    return list(ended.values())


async def measure() -> list[Figure]:
    """FileNotFoundError without the recordings."""
    prompts = list(_prompts())
    figures = [at_most("meter: a frame of G.711", _cost_us(PCMU_8K), COST_MAX_US, "us")]
    figures.append(at_most("meter: a frame of linear audio", _cost_us(PCM_8K), COST_MAX_US, "us"))
    for noise_dbfs, gain_db in LINES:
        onsets, offsets = _errors(prompts, noise_dbfs, gain_db)
        line = f"{'no noise' if noise_dbfs is None else f'noise {noise_dbfs} dBFS'}, speech {gain_db:+d} dB"
        good = gain_db == 0 and (noise_dbfs is None or noise_dbfs <= -55)
        for what, errors in (("onset", onsets), ("offset", offsets)):
            sizes = [abs(error) for error in errors]
            name = f"meter: {what}, {line}"
            figures.append(told(f"{name}: mean error", sum(errors) / len(errors), "ms"))
            p50, p95 = percentile(sizes, 50), percentile(sizes, 95)
            limit_p50 = OFFSET_P50_MAX_MS if good else float("inf")
            limit_p95 = ONSET_P95_MAX_MS if good and what == "onset" else float("inf")
            figures.append(_judged(f"{name}: error p50", p50, limit_p50))
            figures.append(_judged(f"{name}: error p95", p95, limit_p95))
    return figures


def _judged(name: str, value: float, limit: float) -> Figure:
    return told(name, value, "ms") if limit == float("inf") else at_most(name, value, limit, "ms")


def _prompts() -> Iterator[Wave]:
    """Words between two seconds of silence, beginning anywhere within a frame."""
    files = sorted(SOUNDS.glob("*.wav"))
    if not files:
        raise FileNotFoundError(f"{SOUNDS}: apt install asterisk-core-sounds-en-wav")
    dice = random.Random(3)
    for file in dice.sample(files, min(PROMPTS, len(files))):
        words = np.frombuffer(load_wav(file, PCM_8K), "<i2").astype(np.float64)
        yield np.concatenate([np.zeros(16_000 - dice.randrange(160)), words, np.zeros(16_000)])


def _errors(prompts: list[Wave], noise_dbfs: float | None, gain_db: float) -> tuple[list[float], list[float]]:
    """Of each label, how much later than it the nearest onset and the nearest offset were told."""
    dice = np.random.default_rng(2)
    onsets: list[float] = []
    offsets: list[float] = []
    for prompt in prompts:
        clean = prompt * 10 ** (gain_db / 20)
        level = 0.0 if noise_dbfs is None else 32_768 * 10 ** (noise_dbfs / 20)
        told_ms = metered(clean + dice.standard_normal(len(clean)) * level, PCMU_8K)
        for label in energy_labels(clean):
            onsets.append(min((one.begins - label.begins for one in told_ms), key=abs, default=np.inf))
            offsets.append(min((one.ends - label.ends for one in told_ms), key=abs, default=np.inf))
    return onsets, offsets


def _cost_us(audio_format: AudioFormat) -> float:
    """A frame's, half of them loud; the best of several runs."""
    dice = np.random.default_rng(1)
    waves = [dice.standard_normal(160) * level for level in (10, 10, 10, 2000, 5000, 300) * 20]
    encode = Transcoder(PCM_8K, audio_format)
    frames = [memoryview(encode.convert(wave.astype("<i2").tobytes())) for wave in waves]
    meter = SpeechMeter(audio_format)

    def all_of_them() -> None:
        for number, frame in enumerate(frames):
            meter.hear(frame, number * 20_000_000)

    return min(timeit.repeat(all_of_them, number=10, repeat=20)) / 10 / len(frames) * 1e6
