"""The playout's clock, and echo against a caller."""

from __future__ import annotations

import numpy as np
import pytest

from telbridge.agent.levels import Samples, to_pcm
from telbridge.agent.speech.echo import OBSERVED_SAMPLES, EchoJudge, Playout, likeness

MS = 1_000_000
SECOND = 8_000


def voice(seed: int, seconds: float = 3.0) -> Samples:
    """Noise with the slow swell of syllables: as loud as speech, and like no other seed."""
    count = int(seconds * SECOND)
    noise = np.random.default_rng(seed).standard_normal(count)
    swell = 0.6 + 0.4 * np.sin(np.arange(count) * (2 * np.pi * 4 / SECOND))
    samples: Samples = (0.1 * noise * swell).astype(np.float32)
    return samples


def playing(samples: Samples) -> Playout:
    playout = Playout(keep_ms=600)
    playout.send(to_pcm(samples), now_ns=0)
    return playout


def judge_of(playout: Playout) -> EchoJudge:
    return EchoJudge(playout, margin_db=26, delay_ms=400)


def test_what_is_sent_in_a_burst_is_played_one_after_the_other() -> None:
    playout = playing(voice(1, 1.0))
    playout.send(to_pcm(voice(2, 1.0)), now_ns=0)
    assert playout.ends_ns() == 2000 * MS
    assert playout.speaks(1999 * MS) and not playout.speaks(2000 * MS)
    playout.send(to_pcm(voice(3, 1.0)), now_ns=5000 * MS)
    assert playout.ends_ns() == 6000 * MS


def test_a_cut_leaves_what_was_played() -> None:
    samples = voice(1, 2.0)
    playout = playing(samples)
    playout.cut(now_ns=500 * MS)
    assert playout.ends_ns() == 500 * MS
    assert np.allclose(playout.window(400 * MS, 1600)[:800], samples[3200:4000], atol=1e-4)
    assert not playout.window(500 * MS, 800).any()


@pytest.mark.parametrize("delay_ms", [0, 120, 390])
def test_an_echo_is_recognised_and_measured(delay_ms: int) -> None:
    spoken = voice(1)
    judge = judge_of(playing(spoken))
    start = SECOND
    came_back = 0.2 * spoken[start - delay_ms * 8 :][:OBSERVED_SAMPLES]  # -14 dB
    now_ns = (start + OBSERVED_SAMPLES) * 125_000
    assert not judge.is_echo(came_back[-256:], now_ns)
    judge.observe(came_back, now_ns)
    assert judge.echo_db == pytest.approx(-14, abs=0.5)
    assert judge.is_echo(came_back[-256:], now_ns)


def test_a_caller_is_not_taken_for_an_echo() -> None:
    judge = judge_of(playing(voice(1)))
    caller = voice(2)[:OBSERVED_SAMPLES]
    now_ns = 12_000 * 125_000
    judge.observe(caller, now_ns)
    assert judge.has_observed and judge.echo_db is None
    assert not judge.is_echo(caller[-256:], now_ns)
    assert not judge.is_echo(0.1 * caller[-256:], now_ns)  # 20 dB softer than the agent


def test_far_below_the_agent_is_echo_without_being_measured() -> None:
    judge = judge_of(playing(voice(1)))
    assert judge.is_echo(0.03 * voice(2)[:256], 8_000 * 125_000)


def test_when_nothing_is_played_nothing_is_echo() -> None:
    assert not judge_of(Playout(600)).is_echo(0.001 * voice(2)[:256], SECOND)


def test_likeness_is_one_for_the_same_sound_however_loud() -> None:
    whole = voice(1)
    like, level = likeness(0.01 * whole[4000:8096], whole)
    assert like == pytest.approx(1.0, abs=0.01) and level == pytest.approx(-40, abs=0.1)
    assert likeness(voice(2)[:4096], whole)[0] < 0.2
