"""Which delay may go, and when: a live agent's after a stall, nobody else's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from telbridge.audio.formats import PCM_8K
from telbridge.call.standing import (
    EVERY_FRAMES,
    KEPT_MS,
    LEAD_MS,
    LITTLE_FRAMES,
    MOST_WINDOWS,
    PAUSE_FRAMES,
    WINDOW_FRAMES,
    Standing,
)

MS = PCM_8K.bytes_for_ms(1)
FRAME_MS = 20


@pytest.fixture
def standing() -> Standing:
    return Standing(PCM_8K, FRAME_MS * MS)


def waits(standing: Standing, ms: int, windows: int) -> None:
    for _ in range(windows * WINDOW_FRAMES):
        standing.waits(ms * MS)


def test_what_stands_for_a_window_after_a_gap_may_go_but_for_what_is_kept(standing: Standing) -> None:
    standing.gap(500 * MS)
    waits(standing, 500, 1)
    assert standing.surplus == 0, "it may have risen just so"
    waits(standing, 500, 1)
    assert standing.surplus == (500 - KEPT_MS) // FRAME_MS * FRAME_MS * MS


@pytest.mark.parametrize("ms", range(KEPT_MS, KEPT_MS + FRAME_MS))
def test_less_than_a_frame_beyond_what_is_kept_stays(standing: Standing, ms: int) -> None:
    """Only whole frames go: who waited for the next one in order to shorten would do so for ever."""
    standing.gap(500 * MS)
    waits(standing, ms, 4)
    assert not standing.may_go


def test_no_more_may_go_than_silence_was_heard(standing: Standing) -> None:
    standing.gap(100 * MS)
    waits(standing, 100 + LEAD_MS, 2)
    assert standing.surplus == 100 * MS


def test_a_little_silence_now_and_then_adds_up(standing: Standing) -> None:
    for _ in range(8):
        standing.jitter(13 * MS, alone=True)
    assert standing.owed == 13 * 8 // FRAME_MS * FRAME_MS * MS
    standing.over()
    standing.jitter(13 * MS, alone=True)
    assert standing.owed == 0


def test_who_is_far_ahead_is_left_alone(standing: Standing) -> None:
    standing.gap(100 * MS)
    waits(standing, 101 + LEAD_MS, 20)
    assert standing.surplus == 0


def test_what_is_being_played_without_any_coming_is_a_burst(standing: Standing) -> None:
    standing.gap(2_000 * MS)
    for ms in range(10_000, 0, -20):
        standing.waits(ms * MS)
        assert standing.surplus == 0


def test_an_agent_that_is_gaining_is_left_alone(standing: Standing) -> None:
    """It delivers a tenth faster than it is heard."""
    standing.gap(2_000 * MS)
    for frame in range(500):
        standing.waits((20 + 2 * frame) * MS)
        assert standing.surplus == 0


def test_speech_goes_every_so_often(standing: Standing) -> None:
    standing.gap(500 * MS)
    waits(standing, 500, 2)
    went = []
    for _ in range(WINDOW_FRAMES):
        standing.waits(500 * MS - 20 * MS * sum(went))
        went.append(standing.may_go)
        if standing.may_go:
            standing.went(20 * MS)
    assert sum(went) == -(-WINDOW_FRAMES // EVERY_FRAMES)


def test_a_little_waits_for_a_pause_but_not_for_ever(standing: Standing) -> None:
    standing.gap(20 * MS)
    waits(standing, 100, 2)
    assert standing.surplus == LITTLE_FRAMES * FRAME_MS * MS
    for _ in range(PAUSE_FRAMES):
        assert not standing.may_go
        standing.waits(100 * MS)
    assert standing.may_go


def a_gap(standing: Standing) -> None:
    standing.gap(100 * MS)


def a_gap_and_a_little(standing: Standing) -> None:
    """As over streams, where the carrier is dry for no whole number of frames."""
    standing.jitter(13 * MS, alone=False)
    standing.gap(100 * MS)


def jitter(standing: Standing) -> None:
    for _ in range(20):
        standing.jitter(5 * MS, alone=True)


@pytest.mark.parametrize("runs_dry", [a_gap, a_gap_and_a_little, jitter])
def test_who_runs_dry_as_soon_as_something_went_is_watched_for_longer(
    standing: Standing, runs_dry: Callable[[Standing], None]
) -> None:
    patience = []
    for _ in range(6):
        runs_dry(standing)
        windows = 0
        while not standing.surplus:
            windows += 1
            waits(standing, 140, 1)
        patience.append(windows - 1)
        standing.went(100 * MS)
    assert patience == [1, 2, 4, MOST_WINDOWS, MOST_WINDOWS, MOST_WINDOWS]


def test_a_stall_is_no_reason_to_wait_longer(standing: Standing) -> None:
    for _ in range(6):
        standing.gap(500 * MS)
        waits(standing, 540, 2)
        assert standing.surplus
        standing.went(500 * MS)


def test_a_reply_owes_nothing_for_the_one_before(standing: Standing) -> None:
    standing.gap(500 * MS)
    waits(standing, 500, 3)
    standing.over()
    assert (standing.owed, standing.surplus) == (0, 0)
