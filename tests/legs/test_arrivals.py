"""When a frame came, by how much stood in the jitter buffer before and after each read."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.legs.sip.arrivals import Arrivals

MS = 1_000_000
TICK = 20 * MS


class Line:
    """A jitter buffer whose frames are pieces of 10 ms, read every 20 ms."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.stands: deque[int] = deque()
        self.now_ns = 0
        self._before_ns = 0

    def tick(self, came_ns: list[int], *, during: int | None = None) -> tuple[int, int | None]:
        """Packets came then, since the last tick; one more while the frame is read. What is told of the frame
        that is read, and when it really came."""
        self.now_ns = self._before_ns + TICK
        self._before_ns = self.now_ns
        for at_ns in came_ns:
            self.stands.extend([at_ns] * 2)
        self.arrivals.look(len(self.stands), self.now_ns)
        really = [self.stands.popleft() for _ in range(2)][-1] if self.stands else None
        if during is not None:
            self.stands.extend([during] * 2)
        return self.arrivals.taken(len(self.stands), self.now_ns), really


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 19)), min_size=5, max_size=60))
@settings(deadline=None)
def test_off_by_half_a_tick_at_most_whatever_stands_there(packets: list[tuple[int, int]]) -> None:
    line = Line()
    for count, into_ms in packets:
        told, really = line.tick([line.now_ns + into_ms * MS] * count)
        assert abs(told - (line.now_ns if really is None else really)) <= TICK // 2


def test_a_packet_that_comes_while_a_frame_is_read_moves_no_other() -> None:
    line = Line()
    for _ in range(3):
        line.tick([line.now_ns + 5 * MS])
    line.tick([line.now_ns + 5 * MS], during=line.now_ns + TICK)
    for _ in range(5):
        told, really = line.tick([line.now_ns + 5 * MS])
        assert really is not None
        assert abs(told - really) <= TICK // 2


def test_what_the_jitter_buffer_throws_away_is_the_oldest() -> None:
    line = Line()
    line.tick([1 * MS] * 4)
    line.stands.popleft()
    line.stands.popleft()
    told, really = line.tick([line.now_ns + 10 * MS])
    assert (told, really) == (10 * MS, 1 * MS)


def test_after_a_stall_of_ours_nobody_knows() -> None:
    arrivals = Arrivals()
    arrivals.look(0, TICK)
    arrivals.look(4, TICK + 500 * MS)
    assert arrivals.taken(2, TICK + 500 * MS) == TICK + 500 * MS
