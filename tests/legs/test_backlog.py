"""Audio that waits in the jitter buffer: what a stall leaves there is read or skipped, nothing else is."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.legs.sip.backlog import (
    KEPT_FRAMES,
    MAX_OWED,
    OWED_TICKS,
    QUIET_PEAK,
    WINDOW_TICKS,
    Backlog,
)


def frame(peak: int) -> memoryview:
    samples = np.zeros(160, "<i2")
    samples[80] = -peak
    return memoryview(samples.tobytes())


QUIET, LOUD = frame(0), frame(8000)


class Line:
    """A jitter buffer and the leg's reading of it: see SipLeg.listen."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.buffer: deque[memoryview] = deque()
        self.heard: list[memoryview] = []
        self.invented = 0

    def comes(self, *frames: memoryview) -> None:
        self.buffer.extend(frames)

    def tick(self, due: int = 1) -> None:
        self.backlog.tick(due, len(self.buffer))
        self._read()
        while self.backlog.takes_another(len(self.buffer)):
            self._read()

    def _read(self) -> None:
        if not self.buffer:
            self.invented += 1
            return
        read = self.buffer.popleft()
        if self.backlog.skips(read) and self.buffer:
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
    line.comes(*[QUIET] * (KEPT_FRAMES - 1))
    run(line, 500, QUIET)
    assert (line.backlog.skipped, line.invented, len(line.buffer)) == (0, 0, KEPT_FRAMES - 1)


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


def test_what_stands_after_a_stall_of_the_caller_is_skipped_in_the_next_pause(line: Line) -> None:
    line.comes(*[LOUD] * 6)
    run(line, WINDOW_TICKS, LOUD)
    assert (line.backlog.skipped, len(line.buffer)) == (0, 6)
    run(line, 12, QUIET)
    run(line, WINDOW_TICKS, LOUD)
    assert len(line.buffer) == KEPT_FRAMES - 1
    assert sum(heard is LOUD for heard in line.heard) == 6 + 2 * WINDOW_TICKS - len(line.buffer), (
        "nobody's word is skipped"
    )


def test_a_line_that_is_never_quiet_gives_its_quietest_frames(line: Line) -> None:
    noise = [frame(peak) for peak in (2000, 900, 3000, 1500)]
    line.comes(*noise)
    for tick in range(8 * WINDOW_TICKS):
        line.comes(noise[tick % 4])
        line.tick()
    assert len(line.buffer) == KEPT_FRAMES - 1
    assert all(int(np.abs(np.frombuffer(kept, "<i2")).max()) > QUIET_PEAK for kept in line.heard)


def test_jitter_is_no_surplus(line: Line) -> None:
    """Packets in pairs: the buffer holds 2 and 1 in turn."""
    for _ in range(200):
        line.comes(QUIET, QUIET)
        line.tick()
        line.tick()
    assert (line.backlog.skipped, line.invented) == (0, 0)


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
    assert len(line.heard) + len(line.buffer) + line.backlog.skipped >= came
    assert len(line.heard) <= min(came, ticks)
