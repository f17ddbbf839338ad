"""What stands at the carrier: sent, not yet played. Pure, in nanoseconds; every time is passed in.

A carrier plays what it gets in real time behind a buffer of its own. We send at most a small lead ahead of
that, so that little is lost when it is cleared. Two sources tell how far it has played: our own clock, by
which a frame that was sent into an empty buffer begins at once, and marks, which come back when all before
them was played.

A mark is late by the way there and back and the carrier's own buffer, always alike (`_base_ns`); a round trip
alone is what a mark before any audio takes (`_round_trip_ns`). What a mark is late beyond that is speech that
the carrier still holds: the network stalled, or its clock is slower than ours.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

MS: Final = 1_000_000
MARK_EVERY_NS: Final = 200 * MS
MARK_PATIENCE_NS: Final = 5_000 * MS
"""A mark that is so late never comes: the peer does not answer marks."""
MARKS_OUT: Final = 64


class _Mark(NamedTuple):
    number: int
    sent_ns: int
    """Audio sent before it, since the start."""
    due_ns: int
    """When all before it is played, by our clock."""


class Lead:
    """One stream's downlink at the carrier."""

    def __init__(self, lead_ms: int, *, marks: bool) -> None:
        """`lead_ms`: at most so much audio unplayed. `marks`: the peer answers them."""
        self.marks_missing = False
        """The peer was asked for marks and did not answer: only our clock is left."""
        self.stopped = False
        """The peer takes nothing for now."""
        self._lead_ns = lead_ms * MS
        self._marks_wanted = marks
        self._sent_ns = self._heard_ns = 0
        self._end_ns = -1
        """When the last of what was sent is over, by our clock."""
        self._folded_ns = 0
        """Of the present stretch of speech: by how much late marks have moved its end."""
        self._base_ns: int | None = None
        self._round_trip_ns: int | None = None
        self._clear_sent_ns: int | None = None
        self._marks: deque[_Mark] = deque()
        self._numbers = 0
        self._marked_ns = 0
        self._marked_at_ns = -MARK_EVERY_NS

    # ------------------------------------------------------------ sending

    def room(self, frame_ns: int, dry_ns: int) -> bool:
        """Whether another frame may be sent; `dry_ns`: as it is now."""
        return not self.stopped and frame_ns - dry_ns <= self._lead_ns

    def sent(self, frame_ns: int, now_ns: int) -> bool:
        """A frame was sent; whether a mark is due: behind the first frame of a stretch of speech, and every
        200 ms."""
        if self._end_ns < now_ns and self._end(now_ns) < now_ns:
            self._end_ns, self._folded_ns = now_ns, 0
            if now_ns - self._marked_at_ns >= MARK_EVERY_NS:
                self._marked_ns = self._sent_ns - MARK_EVERY_NS  # The first frame gets a mark.
        self._end_ns += frame_ns
        self._sent_ns += frame_ns
        return self._sent_ns - self._marked_ns >= MARK_EVERY_NS

    def mark(self, now_ns: int) -> int | None:
        """Number of a mark behind all that was sent; None if the peer has none."""
        if not self._marks_wanted:
            return None
        self._numbers += 1
        self._marked_ns, self._marked_at_ns = self._sent_ns, now_ns
        self._marks.append(_Mark(self._numbers, self._sent_ns, max(now_ns, self._end_ns)))
        if len(self._marks) > MARKS_OUT:
            self._give_up_marks()
        return self._numbers

    # ------------------------------------------------------------ what the carrier tells

    def mark_played(self, number: int, now_ns: int) -> None:
        """A mark came back. Those of before a clear prove nothing and are unknown by now."""
        if not any(mark.number == number for mark in self._marks):
            return
        while (mark := self._marks.popleft()).number != number:
            pass
        self._heard_ns = max(self._heard_ns, mark.sent_ns)
        late_ns = max(0, now_ns - mark.due_ns)
        if mark.sent_ns == 0:
            self._round_trip_ns = late_ns
        elif self._base_ns is None:
            self._base_ns = late_ns
        else:
            self._fold(late_ns - self._base_ns)

    def cleared(self, now_ns: int) -> int:
        """All that it held is being thrown away: so much was not played."""
        unplayed_ns = self.unplayed(now_ns)
        self._heard_ns = self._sent_ns
        self._end_ns = min(self._end_ns, now_ns)
        self._folded_ns = 0
        self._marks.clear()
        return unplayed_ns

    def clear_sent(self, now_ns: int) -> None:
        """A clear is on its way."""
        self._clear_sent_ns = now_ns

    def clear_answered(self, now_ns: int) -> None:
        """The peer has obeyed it, at once: the round trip, for peers that leave a mark before any audio
        unanswered."""
        if self._clear_sent_ns is None:
            return
        took_ns, self._clear_sent_ns = now_ns - self._clear_sent_ns, None
        self._round_trip_ns = min(took_ns, self._round_trip_ns or took_ns)

    # ------------------------------------------------------------ what we know

    @property
    def outstanding(self) -> bool:
        """Whether anything was sent that is not known to have been played."""
        return self._sent_ns > self._heard_ns

    def finished(self, now_ns: int) -> bool:
        """Whether the caller has heard all of it."""
        return not self.outstanding if self._marks_wanted else self.unplayed(now_ns) == 0

    @property
    def round_trip_ms(self) -> float | None:
        return None if self._round_trip_ns is None else self._round_trip_ns / MS

    @property
    def late_ns(self) -> int:
        """Of the present stretch of speech: it is heard so much later than it was sent."""
        return self._folded_ns

    def unplayed(self, now_ns: int) -> int:
        """Of what was sent, so much has not been played when a message sent now arrives."""
        own_buffer_ns = max(0, (self._base_ns or 0) - (self._round_trip_ns or 0))
        limit_ns = self._sent_ns - self._heard_ns if self._marks_wanted else self._sent_ns
        return max(0, min(limit_ns, self._end(now_ns) + own_buffer_ns - now_ns))

    def dry_ns(self, now_ns: int) -> int:
        """How long there has been nothing left to play; negative while there is."""
        return now_ns - self._end(now_ns)

    def check(self, now_ns: int) -> None:
        """Now and then: a peer that never answers marks is left in peace."""
        if self._marks and now_ns - self._marks[0].due_ns - (self._base_ns or 0) > MARK_PATIENCE_NS:
            self._give_up_marks()

    # ------------------------------------------------------------ inside

    def _end(self, now_ns: int) -> int:
        """When the carrier has played all, to the best of our knowledge: a mark that is overdue already says
        how late the next one will be at least."""
        if self._base_ns is None or not self._marks:
            return self._end_ns
        overdue_ns = now_ns - self._marks[0].due_ns - self._base_ns
        return self._end_ns + overdue_ns if overdue_ns > 0 else self._end_ns

    def _fold(self, error_ns: int) -> None:
        """Later than usual: what was sent ends later. Earlier: take that back, and what is left of it was a
        way that is shorter than we thought."""
        assert self._base_ns is not None
        moved_ns = max(error_ns, -self._folded_ns)
        self._base_ns += error_ns - moved_ns
        self._folded_ns += moved_ns
        self._end_ns += moved_ns
        self._marks = deque(mark._replace(due_ns=mark.due_ns + moved_ns) for mark in self._marks)

    def _give_up_marks(self) -> None:
        self._marks_wanted = False
        self.marks_missing = True
        self._base_ns = None
        self._marks.clear()
