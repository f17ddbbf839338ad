"""Two voices on one clock: late frames, gaps, clocks that run away, what was never heard."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.two_tracks import Track, TwoTracks

RATE = 8_000
FRAME = 160
MS = RATE // 1000
LOUD = np.full(FRAME, 5_000, "<i2").tobytes()
QUIET = bytes(2 * FRAME)


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2")


def edges(pcm: bytes) -> list[int]:
    """Where sound begins and ends, in ms."""
    loud = np.concatenate([[0], (np.abs(samples(pcm)) > 1_000).astype(int), [0]])
    return [int(at) // MS for at in np.flatnonzero(np.diff(loud))]


def test_a_frame_stands_where_the_clock_says() -> None:
    track = Track(RATE)
    for number in range(50):
        track.follow(LOUD, 300 * MS + number * FRAME)
    assert edges(track.take(2_000 * MS)) == [300, 1_300]


@given(late=st.lists(st.integers(0, 60), min_size=49, max_size=49))
@settings(deadline=None, max_examples=50)
def test_frames_that_are_late_make_neither_gap_nor_shift(late: list[int]) -> None:
    """By up to 60 ms, in their order, one in eight punctual: what an event loop or a network does."""
    track, before = Track(RATE), 0
    for number in range(49):
        to_a_punctual_one = -number % 8 * 20
        before = max(before, number * FRAME + min(late[number], to_a_punctual_one) * MS)
        track.follow(LOUD, before)
    assert edges(track.take(2_000 * MS)) == [0, 980]


def test_a_stall_loses_nothing_and_a_pause_stays_a_pause() -> None:
    track = Track(RATE)
    for number in range(50):
        track.follow(LOUD, number * FRAME)
    for _ in range(41):  # 800 ms come at once, when they are over.
        track.follow(LOUD, 90 * FRAME)
    for number in range(91, 100):
        track.follow(LOUD, number * FRAME)
    for number in range(200, 220):  # Two seconds of nothing.
        track.follow(LOUD, number * FRAME)
    assert edges(track.take(5_000 * MS)) == [0, 2_000, 4_000, 4_400]


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_runs_away_is_followed_for_half_an_hour(ppm: int) -> None:
    """Talk and pauses by turns."""
    track = Track(RATE)
    rng = random.Random(1)
    step = FRAME * (1 + ppm / 1e6)
    for number in range(90_000):
        at = int(number * step)
        talks = number % 250 < 150
        track.follow(LOUD if talks else QUIET, at + rng.randrange(0, 5 * MS))
        if number % 500 == 0:
            track.take(max(0, at - 2_000 * MS))
    assert abs(track.end - 90_000 * step) < 20 * MS


def test_words_are_left_whole_where_a_clock_is_slow() -> None:
    """What is put in goes where it is quiet."""
    track = Track(RATE)
    for number in range(3_000):
        track.follow(LOUD if number % 100 < 60 else QUIET, int(number * FRAME * 1.0003))
    words = np.array(edges(track.take(3_000 * FRAME))).reshape(-1, 2)
    assert set(words[:, 1] - words[:, 0]) == {1_200}


def test_what_was_sent_ahead_and_thrown_away_was_not_heard() -> None:
    track = Track(RATE)
    for _ in range(15):  # 300 ms at once.
        track.queue(LOUD, 0)
    track.take_back(200 * MS)
    track.queue(LOUD, 500 * MS)
    assert edges(track.take(1_000 * MS)) == [0, 100, 500, 520]


def test_what_was_taken_cannot_be_taken_back() -> None:
    track = Track(RATE)
    track.queue(LOUD, 0)
    assert len(samples(track.take(FRAME))) == FRAME
    track.take_back(10 * FRAME)
    assert track.end == FRAME


def test_a_cut_ends_what_is_in_flight() -> None:
    track = Track(RATE)
    for _ in range(15):
        track.queue(LOUD, 0)
    track.cut(50 * MS)
    assert edges(track.take(1_000 * MS)) == [0, 50]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=60), st.integers(1, 7))
@settings(deadline=None)
def test_both_channels_are_always_as_long_as_what_was_taken(
    frames: list[tuple[bool, int]], every: int
) -> None:
    tracks, at, taken = TwoTracks(RATE), 0, 0
    for number, (is_left, later_ms) in enumerate(frames):
        at += later_ms * MS
        if is_left:
            tracks.left.follow(LOUD, at)
        else:
            tracks.right.queue(LOUD, at)
        if number % every == 0:
            taken += len(tracks.take(at))
            assert taken == 4 * at
    assert taken + len(tracks.take(at + 100 * MS)) == 4 * (at + 100 * MS)
