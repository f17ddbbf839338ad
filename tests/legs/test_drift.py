"""How far a peer's clock is off ours, from what came when."""

from __future__ import annotations

import random

import pytest

from telbridge.legs.drift import Drift

MS = 1_000_000
FRAME_NS = 20 * MS


def after(seconds: float, ppm: float, *, jitter_ms: float = 0.0, shortest_s: float = 60) -> Drift:
    """A peer whose clock is so much faster sends for so long, over a network that delays by chance."""
    dice, drift = random.Random(4), Drift(shortest_s)
    frames = round(seconds * 50 * (1 + ppm / 1e6))
    for number in range(1, frames + 1):
        sent_ns = number * FRAME_NS / (1 + ppm / 1e6)
        drift.note(number * FRAME_NS, round(sent_ns + dice.uniform(0, jitter_ms) * MS))
    return drift


@pytest.mark.parametrize("ppm", [-200, -30, 0, 50, 400])
def test_it_is_known_to_some_ppm_after_minutes_whatever_the_jitter(ppm: float) -> None:
    assert after(180, ppm).ppm == pytest.approx(ppm, abs=1)
    assert after(180, ppm, jitter_ms=30).ppm == pytest.approx(ppm, abs=5)


def test_a_short_call_proves_nothing() -> None:
    assert after(59, 100).ppm is None


def test_a_pause_begins_it_anew() -> None:
    drift = after(100, 100)
    assert drift.ppm is not None
    drift.note(100 * 50 * FRAME_NS, 130_000 * MS)  # On hold for half a minute.
    assert drift.ppm is None


def test_a_peer_that_sends_other_frames_than_we_think_has_no_clock_at_all() -> None:
    assert after(200, 5_000).ppm is None
