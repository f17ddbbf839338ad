"""Audio that waits in the jitter buffer: what a stall leaves there is read or skipped, nothing else is."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.legs.sip.backlog import (
    EVERY_TICKS,
    KEPT_PIECES,
    MAX_OWED,
    OWED_TICKS,
    WINDOW_TICKS,
    Backlog,
)


def frame(peak: int) -> memoryview:
    samples = np.zeros(160, "<i2")
    samples[80] = -peak
    return memoryview(samples.tobytes())


PIECES = 2
QUIET, LOUD = frame(0), frame(8000)
KEPT_FRAMES = KEPT_PIECES // PIECES


class Line:
    """A jitter buffer that holds pieces of 10 ms, as frames of 20, and the leg's reading of it: see
    SipLeg.listen."""

    def __init__(self) -> None:
        self.backlog = Backlog(PIECES)
        self.buffer: deque[memoryview] = deque()
        self.heard: list[memoryview] = []
        self.invented = 0

    def comes(self, *frames: memoryview) -> None:
        self.buffer.extend(frames)

    def tick(self, due: int = 1) -> None:
        self.backlog.tick(due, self._waiting)
        self._read()
        while self.backlog.takes_another(self._waiting):
            self._read()

    @property
    def _waiting(self) -> int:
        return PIECES * len(self.buffer)

    def _read(self) -> None:
        if not self.buffer:
            self.invented += 1
            return
        read = self.buffer.popleft()
        if self.backlog.joins(read, self._waiting):
            read = self.buffer.popleft()
        self.heard.append(read)


@pytest.fixture
def line() -> Line:
    return Line()


def run(line: Line, ticks: int, sound: memoryview) -> None:
    for _ in range(ticks):
        line.comes(sound)
        line.tick()


def test_a_steady_line_is_read_frame_by_frame(line: Line) -> None:
    run(line, 500, QUIET)
    assert (line.backlog.gone, line.invented, len(line.buffer)) == (0, 0, 0)


def test_what_came_during_our_stall_is_read_at_once(line: Line) -> None:
    run(line, 10, LOUD)
    line.comes(*[LOUD] * 6)
    line.tick(due=6)
    assert (len(line.buffer), line.invented, len(line.heard)) == (0, 0, 16)


def test_what_comes_late_after_a_stall_of_the_whole_machine_is_read_in_place_of_invented_frames(
    line: Line,
) -> None:
    run(line, 10, LOUD)
    line.tick(due=6)  # the packets are still with the kernel
    assert line.invented == 1
    line.comes(*[LOUD] * 6)
    line.tick()
    assert (len(line.buffer), line.invented) == (0, 1)


def test_frames_that_never_come_are_not_owed_for_ever(line: Line) -> None:
    run(line, 10, LOUD)
    line.tick(due=6)
    run(line, OWED_TICKS, LOUD)
    line.comes(LOUD, LOUD, LOUD)
    before = len(line.heard)
    line.tick()
    assert len(line.heard) == before + 1


def test_what_stands_after_a_stall_of_the_caller_goes_at_once_in_a_pause(line: Line) -> None:
    line.comes(*[QUIET] * 20)
    run(line, WINDOW_TICKS, QUIET)
    assert (line.backlog.gone, len(line.buffer)) == (1, 19)
    run(line, 19, QUIET)
    assert (line.backlog.gone, len(line.buffer)) == (20, 0)


def test_a_line_that_is_never_quiet_is_made_shorter_every_so_often(line: Line) -> None:
    line.comes(*[LOUD] * 25)
    gone = []
    for _ in range(WINDOW_TICKS + 25 * EVERY_TICKS):
        line.comes(LOUD)
        before = line.backlog.gone
        line.tick()
        gone.append(line.backlog.gone - before)
    assert line.buffer == deque()
    assert sum(gone) == 25
    assert max(sum(gone[at : at + EVERY_TICKS]) for at in range(len(gone))) == 1


def test_a_line_whose_keys_are_tones_is_made_shorter_in_pauses_only(line: Line) -> None:
    line.comes(*[LOUD] * 6)
    run(line, WINDOW_TICKS - 1, LOUD)
    line.backlog.tick(1, 12)
    assert not line.backlog.joins(LOUD, 12, loud_too=False)
    assert line.backlog.joins(QUIET, 12, loud_too=False)


def test_jitter_is_no_surplus(line: Line) -> None:
    """Packets in pairs: the buffer holds two frames and one in turn."""
    for _ in range(200):
        line.comes(QUIET, QUIET)
        line.tick()
        line.tick()
    assert (line.backlog.gone, line.invented) == (0, 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 20), st.sampled_from((QUIET, LOUD))),
        max_size=300,
    )
)
def test_whatever_comes_nothing_is_read_twice_and_little_more_than_was_missed(
    script: list[tuple[int, int, memoryview]],
) -> None:
    line = Line()
    came = 0
    ticks = 0
    for frames, due, sound in script:
        line.comes(*[sound] * frames)
        came += frames
        ticks += due
        line.tick(due)
        assert line.backlog.surplus <= MAX_OWED
    assert len(line.heard) + len(line.buffer) + line.backlog.gone >= came
    assert len(line.heard) <= min(came, ticks)
