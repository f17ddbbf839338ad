"""Two frames become one: no click, and nothing of either end is touched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.fade import FROM_LINEAR, TO_LINEAR
from telbridge.audio.formats import PCM_8K, PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.shortening import TURN_MS, joined

FORMATS = (PCM_8K, PCMU_8K, PCMA_8K, PCM_24K)


def through(wave: npt.NDArray[np.float64], audio_format: AudioFormat) -> bytes:
    return FROM_LINEAR[audio_format.encoding](np.rint(wave).astype("<i2").tobytes())


def back(audio: bytes, audio_format: AudioFormat) -> npt.NDArray[np.int32]:
    return np.frombuffer(TO_LINEAR[audio_format.encoding](audio), "<i2").astype(np.int32)


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
@given(hz=st.floats(60, 900), level=st.integers(100, 30_000), frame_ms=st.sampled_from((10, 20, 30, 60)))
@settings(max_examples=30, deadline=None)
def test_a_voice_goes_on_without_a_step(
    audio_format: AudioFormat, hz: float, level: int, frame_ms: int
) -> None:
    size = audio_format.rate_hz * frame_ms // 1000
    voice = level * np.sin(2 * np.pi * hz * np.arange(4 * size) / audio_format.rate_hz)
    audio = through(voice, audio_format)
    frame = audio_format.bytes_for_ms(frame_ms)
    one = joined(audio[frame : 3 * frame], audio_format)
    assert len(one) == frame
    heard = back(audio[:frame] + one + audio[3 * frame :], audio_format)
    usual = np.abs(np.diff(back(audio, audio_format))).max()
    turn = audio_format.rate_hz * TURN_MS / 1000
    assert np.abs(np.diff(heard)).max() <= usual * 1.1 + level * np.pi / turn + 8


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_the_cut_is_in_the_pause_between_two_words(audio_format: AudioFormat) -> None:
    size = audio_format.rate_hz // 50
    first, second = np.full(size, 8000.0), np.full(size, -8000.0)
    quarter = size // 4
    first[-2 * quarter :] = 0
    second[:-quarter] = 0
    one = back(joined(through(np.concatenate((first, second)), audio_format), audio_format), audio_format)
    pause = slice(2 * quarter, 3 * quarter)
    assert np.abs(one[pause]).max() <= 8
    assert (one[: 2 * quarter] > 7000).all()
    assert (one[3 * quarter :] < -7000).all()
