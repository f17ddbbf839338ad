"""Keys in the audio: every key, both laws, bad lines, and nothing that is no key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from telbridge.audio.dtmf import HIGH_HZ, KEYS, LOW_HZ, DtmfDetector, Tone
from telbridge.audio.formats import PCM_8K
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.audio.wav import load_wav
from tests.conftest import SOUNDS

Samples = NDArray[np.float64]
FRAME = 320
ALL_KEYS = "".join(KEYS)
LAWS = {
    "pcmu": lambda pcm: ulaw_to_pcm16(pcm16_to_ulaw(pcm)),
    "pcma": lambda pcm: alaw_to_pcm16(pcm16_to_alaw(pcm)),
}


def quiet(ms: float) -> Samples:
    return np.zeros(int(8 * ms))


def key(
    digit: str, ms: float, *, dbfs: float = -12.0, twist_db: float = 0.0, off: tuple[float, float] = (0, 0)
) -> Samples:
    """`dbfs` of the two tones together, each half the amplitude of a full-scale sine at 0; `off`: share by
    which each frequency is wrong; `twist_db`: the high tone above the low one."""
    row = next(at for at, keys in enumerate(KEYS) if digit in keys)
    time = np.arange(int(8 * ms)) / 8000
    half = 32_768 * 10 ** (dbfs / 20) / 2
    low = 10 ** (-twist_db / 40) * np.sin(2 * np.pi * LOW_HZ[row] * (1 + off[0]) * time)
    high = 10 ** (twist_db / 40) * np.sin(
        2 * np.pi * HIGH_HZ[KEYS[row].index(digit)] * (1 + off[1]) * time + 1
    )
    return half * (low + high)


def pcm(*parts: Samples) -> bytes:
    return np.clip(np.concatenate(parts), -32_768, 32_767).astype("<i2").tobytes()


def heard(audio: bytes) -> list[Tone]:
    detector, audio = DtmfDetector(), audio + bytes(-len(audio) % FRAME)
    return [tone for at in range(0, len(audio), FRAME) for tone in detector.feed(audio[at : at + FRAME])]


def digits(audio: bytes) -> str:
    return "".join(tone.digit for tone in heard(audio))


@pytest.mark.parametrize("law", LAWS)
def test_every_key_is_heard_through_both_laws(law: str) -> None:
    audio = pcm(quiet(50), *(part for digit in ALL_KEYS for part in (key(digit, 60), quiet(50))), quiet(60))
    assert digits(LAWS[law](audio)) == ALL_KEYS


@settings(deadline=None, max_examples=400)
@given(
    digit=st.sampled_from(ALL_KEYS),
    law=st.sampled_from(sorted(LAWS)),
    lead=st.integers(160, 480),
    tone_ms=st.integers(40, 300),
    gap_ms=st.integers(40, 300),
    dbfs=st.floats(-25, -4),
    twist_db=st.floats(-6, 6),
    off=st.tuples(st.floats(-0.015, 0.015), st.floats(-0.015, 0.015)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_key_within_q24_is_heard_as_often_as_it_is_pressed(
    digit: str,
    law: str,
    lead: int,
    tone_ms: int,
    gap_ms: int,
    dbfs: float,
    twist_db: float,
    off: tuple[float, float],
    seed: int,
) -> None:
    """Twice the same key: 40 ms of tone, 40 ms of gap, wherever they lie in the frames; noise 20 dB below."""
    tone = key(digit, tone_ms, dbfs=dbfs, twist_db=twist_db, off=off)
    line = np.concatenate([np.zeros(lead), tone, quiet(gap_ms), tone, quiet(100)])
    noise = np.random.default_rng(seed).standard_normal(len(line)) * np.sqrt(np.mean(tone**2) / 100)
    found = heard(LAWS[law](pcm(line + noise)))
    assert [one.digit for one in found] == [digit, digit]
    assert all(abs(one.duration_ms - tone_ms) <= 20 for one in found)


@settings(deadline=None)
@given(
    digit=st.sampled_from(ALL_KEYS),
    ms=st.floats(1, 22),
    lead=st.integers(0, 160),
    times=st.integers(1, 4),
)
def test_a_click_of_a_tone_is_no_key(digit: str, ms: float, lead: int, times: int) -> None:
    assert not digits(pcm(np.zeros(160 + lead), *[key(digit, ms), quiet(60)] * times))


@given(digit=st.sampled_from(ALL_KEYS), lead=st.integers(0, 160))
@settings(deadline=None)
def test_a_drop_out_of_ten_ms_does_not_make_two_keys(digit: str, lead: int) -> None:
    assert digits(pcm(np.zeros(160 + lead), key(digit, 60), quiet(10), key(digit, 60), quiet(80))) == digit


@pytest.mark.parametrize("digit", ALL_KEYS)
def test_tones_that_do_not_fit_are_no_key(digit: str) -> None:
    for wrong in (
        key(digit, 200, twist_db=14),
        key(digit, 200, twist_db=-14),
        key(digit, 200, off=(0, 0.035)),
        key(digit, 200, off=(0, -0.035)),
        key(digit, 200, off=(0.05, 0)),
        key(digit, 200, off=(-0.05, 0)),
        key(digit, 200, dbfs=-50),
        key(digit, 200) + key("1" if digit != "1" else "5", 200),
    ):
        assert not digits(pcm(quiet(40), wrong, quiet(80)))


def test_one_key_after_the_other_without_a_gap() -> None:
    assert digits(pcm(quiet(30), *(key(digit, 80) for digit in "159D"), quiet(80))) == "159D"


def test_noise_and_single_tones_are_no_keys() -> None:
    rng = np.random.default_rng(7)
    time = np.arange(8000 * 20) / 8000
    sweep = 8000 * np.sin(2 * np.pi * (300 + 65 * time) * time)
    assert not digits(pcm(rng.standard_normal(8000 * 60) * 4000))
    assert not digits(pcm(sweep))
    assert not digits(pcm(*(9000 * np.sin(2 * np.pi * hz * time[:1600]) for hz in (*LOW_HZ, *HIGH_HZ, 425))))
    assert not digits(pcm(6000 * np.sin(2 * np.pi * 350 * time) + 6000 * np.sin(2 * np.pi * 440 * time)))


@pytest.mark.skipif(not SOUNDS.is_dir(), reason="needs Debian's asterisk-core-sounds-en-wav")
def test_speech_is_no_key() -> None:
    """Talk-off: all that Debian's recorded voice says, half an hour with its ten thousand vowels."""
    seconds = 0.0
    for file in sorted(SOUNDS.rglob("*.wav")):
        audio = load_wav(Path(file), PCM_8K)
        seconds += len(audio) / 16_000
        assert not digits(audio), file.name
    assert seconds > 1000


@pytest.mark.parametrize("seed", range(200))
def test_babble_is_no_key(seed: int) -> None:
    """Vowels as a voice makes them: harmonics of a gliding pitch under three formants, 90 Hz wide.

    Ten minutes of them, always the same: of 2.5 hours none was a key, but who searches finds one.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(8000 * 3) / 8000
    pitch = rng.uniform(80, 320) * 2 ** (rng.uniform(0, 0.4) * np.sin(2 * np.pi * rng.uniform(0.3, 4) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 8000
    voice = np.zeros_like(time)
    formants = rng.uniform([300, 900, 2200], [900, 2200, 3300])
    for number in range(1, 30):
        hz = pitch * number
        gain = sum(1 / np.sqrt(1 + ((hz - formant) / 45) ** 2) for formant in formants) / np.sqrt(number)
        voice += np.where(hz < 3800, gain * np.sin(number * phase), 0)
    assert not digits(pcm(voice / np.abs(voice).max() * 12_000))


@given(st.lists(st.binary(min_size=FRAME, max_size=FRAME), max_size=20))
@settings(deadline=None)
def test_any_audio_is_taken(frames: list[bytes]) -> None:
    detector = DtmfDetector()
    for frame in frames:
        assert all(tone.digit in ALL_KEYS for tone in detector.feed(memoryview(frame)))
