"""The speech meter: where speech begins and ends, against labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.meter import Stretch, Wave, energy_labels, metered
from telbridge.audio.formats import PCM_8K, PCM_16K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.speech import BLOCK_FRAMES, BLOCKS, SpeechMeter
from telbridge.audio.wav import load_wav
from telbridge.serving.apology import apology_path, filler_path

MS_NS = 1_000_000


def noise(ms: float, level: float, seed: int = 1) -> Wave:
    return np.random.default_rng(seed).standard_normal(round(8 * ms)) * level


def bursts(seed: int, count: int, level: float, floor: float) -> tuple[Wave, list[Stretch]]:
    """Bursts at any moment on a line that hisses, and where they are."""
    dice = np.random.default_rng(seed)
    lengths = dice.uniform(150, 1500, count)
    pauses = dice.uniform(500, 1500, count + 1)
    wave = noise(pauses[0], 0)
    labels: list[Stretch] = []
    for length, pause in zip(lengths, pauses[1:], strict=True):
        begins = len(wave) / 8
        wave = np.concatenate([wave, noise(length, level, seed), noise(pause, 0)])
        labels.append(Stretch(begins, begins + length))
    return wave + noise(len(wave) / 8, floor, seed + 1), labels


@pytest.mark.parametrize("audio_format", [PCM_8K, PCMU_8K, PCMA_8K, PCM_16K], ids=str)
@pytest.mark.parametrize(("level", "floor"), [(3000, 0), (3000, 30), (300, 0), (1000, 100)])
def test_begin_and_end_are_told_to_the_frame(audio_format: AudioFormat, level: float, floor: float) -> None:
    """A frame has arrived when all of it has: what begins within it is up to 20 ms old."""
    wave, labels = bursts(5, 30, level, floor)
    stretches = metered(wave, audio_format)
    assert len(stretches) == len(labels)
    late = [
        (one.begins - label.begins, one.ends - label.ends)
        for one, label in zip(stretches, labels, strict=True)
    ]
    # What fills only a corner of its frame may be below the threshold; a resampler is some ms late.
    assert all(0 <= begin <= 40 and -20 <= end <= 30 for begin, end in late), late
    assert abs(np.mean([end for _, end in late])) < 15


@pytest.mark.parametrize("hiss", [0, 20, 60])
@pytest.mark.parametrize("prompt", [apology_path(), filler_path()], ids=["apology", "filler"])
def test_words_are_found_where_their_energy_is(prompt: Path, hiss: float) -> None:
    words = np.frombuffer(load_wav(prompt, PCM_8K), "<i2").astype(np.float64)
    clean = np.concatenate([np.zeros(16_000), words, np.zeros(16_000)])
    labels = energy_labels(clean)
    stretches = metered(clean + noise(len(clean) / 8, hiss), PCMU_8K)
    for label in labels:
        assert min(abs(one.begins - label.begins) for one in stretches) <= 60
        assert min(abs(one.ends - label.ends) for one in stretches) <= 130


def test_who_speaks_from_the_first_frame_on_is_heard() -> None:
    (one,) = metered(np.concatenate([noise(600, 3000), noise(1000, 0)]))
    assert (one.begins, one.ends) == pytest.approx((20, 600), abs=1)


@pytest.mark.parametrize("ends_ms", [605, 610, 617, 620])
def test_an_end_within_a_frame_is_found_to_five_ms(ends_ms: float) -> None:
    (one,) = metered(np.concatenate([noise(ends_ms, 3000), noise(1000, 0)]))
    assert 0 <= one.ends - ends_ms <= 5


def test_a_click_is_no_speech() -> None:
    wave = np.concatenate([noise(500, 0), noise(30, 8000), noise(1000, 0)])
    assert metered(wave) == []


def test_a_pause_within_a_word_does_not_end_it() -> None:
    wave = np.concatenate([noise(500, 0), noise(300, 3000), noise(140, 0), noise(300, 3000), noise(1000, 0)])
    assert len(metered(wave)) == 1


def test_a_click_after_a_word_is_none_of_it() -> None:
    wave = np.concatenate([noise(500, 0), noise(300, 3000), noise(100, 0), noise(20, 3000), noise(1000, 0)])
    (one,) = metered(wave)
    assert one.ends == pytest.approx(800, abs=20)


def test_what_never_pauses_becomes_the_floor() -> None:
    """A fan that is switched on is taken for speech for as long as the floor looks back, no longer."""
    wave = np.concatenate([noise(1000, 10), noise(8000, 900), noise(500, 4000), noise(3000, 900)])
    fan, words = metered(wave)
    looks_back_ms = BLOCKS * BLOCK_FRAMES * 20
    assert fan.begins == pytest.approx(1000, abs=20)
    assert fan.ends - fan.begins <= looks_back_ms + 500
    assert (words.begins, words.ends) == pytest.approx((9000, 9500), abs=30)


@given(sizes=st.lists(st.integers(1, 1000), max_size=60), level=st.integers(0, 40_000))
def test_messages_of_any_length_never_raise_and_time_never_goes_back(sizes: list[int], level: int) -> None:
    audio = np.clip(noise(1000, level), -32768, 32767).astype("<i2").tobytes()
    meter, now_ns, voiced_ns = SpeechMeter(PCM_8K), 0, 0
    for size in sizes:
        now_ns += 20 * MS_NS
        meter.hear(memoryview(audio)[:size], now_ns)
        if meter.last_voiced_ns is not None:
            assert meter.onset_ns is not None
            assert meter.onset_ns <= meter.last_voiced_ns
            assert voiced_ns <= meter.last_voiced_ns <= now_ns
            voiced_ns = meter.last_voiced_ns


def test_long_messages_are_looked_at_frame_by_frame() -> None:
    wave, labels = bursts(9, 10, 3000, 20)
    for one, label in zip(metered(wave, message_ms=100), labels, strict=True):
        assert (one.begins, one.ends) == pytest.approx((label.begins, label.ends), abs=40)


def test_mute_lines_and_clipping_are_told() -> None:
    meter = SpeechMeter(PCM_8K)
    for number, level in enumerate([0] * 10 + [3000] * 5 + [40_000] * 3):
        frame = np.clip(noise(20, level), -32768, 32767).astype("<i2").tobytes()
        meter.hear(frame, number * 20 * MS_NS)
    assert (meter.frames, meter.silent_frames, meter.clipped_frames) == (18, 10, 3)
