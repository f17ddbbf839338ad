"""How many streams may come, here and at the other workers, and which worker takes the next. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SETTLE_NS: Final = 100_000_000
"""A worker that was given a call has told so by then."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker tells of itself."""

    streams: int = 0
    """Those that were promised count."""
    calls: int = 0
    """All, by SIP too."""
    closing: bool = False
    """It takes no new calls."""
    ari: bool = False
    """It has the connection to Asterisk, which takes one alone."""
    known: bool = True
    """It has told all that."""


UNKNOWN: Final = Load(closing=True, known=False)
"""A worker that is there and has not told anything yet."""


class Room:
    """One worker's book: its own calls as they are, the other workers' as they were told."""

    def __init__(
        self,
        name: str,
        most: int,
        *,
        live: Callable[[], int],
        by_sip: Callable[[], int],
        clock: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        """`name`: of this worker. `most`: streams of all workers together. `live` and `by_sip`: how many of
        ours there are. `on_change`: the others are to be told."""
        self.name = name
        self._most, self._live, self._by_sip = most, live, by_sip
        self._clock, self._on_change = clock, on_change
        self._promised: dict[str, None] = {}
        self._others: dict[str, Load] = {}
        self._given: deque[tuple[int, str]] = deque()
        self.closing = self.has_ari = False
        self.no_room: Counter[str] = Counter()
        """Calls refused, by why: "full" or "draining"."""

    # ------------------------------------------------------------ ours

    @property
    def load(self) -> Load:
        streams = self._live() + len(self._promised)
        return Load(streams, streams + self._by_sip(), self.closing, self.has_ari)

    @property
    def promised(self) -> int:
        """Calls whose webhooks were answered and whose streams have not come."""
        return len(self._promised)

    def has_room(self, *, although_closing: bool = False) -> bool:
        """For one more stream; counted where there is none."""
        others = sum(load.streams for load in self._others.values())
        closed = self.closing and not although_closing
        if closed or self.load.streams + others >= self._most:
            self.no_room["draining" if closed else "full"] += 1
            return False
        return True

    def promise(self, call: str) -> bool:
        """Keep a place for this call's stream; False: there is none."""
        if call not in self._promised and not self.has_room():
            return False
        self._promised[call] = None
        self._on_change()
        return True

    def may_come(self, call: str) -> bool:
        """The stream of this call: a promise holds while we close, too."""
        return call in self._promised or self.has_room()

    def let_go(self, call: str) -> None:
        """Its stream is there, or did not come."""
        if call in self._promised:
            del self._promised[call]
            self._on_change()

    def close(self) -> None:
        self.closing = True
        self._on_change()

    def take_ari(self, taken: bool) -> None:
        """We have the connection to Asterisk now, or somebody else."""
        self.has_ari = taken
        self._on_change()

    # ------------------------------------------------------------ the others'

    def told(self, name: str, load: Load) -> None:
        self._others[name] = load

    def gone(self, name: str) -> None:
        self._others.pop(name, None)

    @property
    def workers(self) -> int:
        """With this one."""
        return 1 + len(self._others)

    @property
    def others_take_calls(self) -> bool:
        return any(not load.closing for load in self._others.values())

    @property
    def is_to_take_ari(self) -> bool:
        """Nobody who takes calls has it, and we are the first of these."""
        others = self._others.values()
        if self.closing or self.has_ari or not all(load.known for load in others):
            return False
        takers = {name: load for name, load in self._others.items() if not load.closing}
        return not any(load.ari for load in takers.values()) and all(self.name < name for name in takers)

    def roomiest(self) -> str:
        """The worker that is to take the next call: of those that take any the least loaded, ours if it is
        one of several. What was given away a moment ago counts, whether it was told of already or not: so
        that a burst is spread."""
        now_ns = self._clock()
        while self._given and self._given[0][0] <= now_ns - SETTLE_NS:
            self._given.popleft()
        given = Counter(name for _, name in self._given)
        loads = {self.name: self.load, **self._others}
        takers = {name: load.calls + given[name] for name, load in loads.items() if not load.closing}
        if not takers:
            return self.name
        least = min(takers.values())
        best = sorted(name for name, calls in takers.items() if calls == least)
        # Behind ours in a circle: otherwise all workers would give to the same one at the same moment.
        chosen = min(best, key=lambda name: (name < self.name, name))
        self._given.append((now_ns, chosen))
        return chosen
