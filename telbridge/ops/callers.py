"""Who has called before, as far as the records tell: a dialplan may greet a returning caller differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from telbridge.ops import spool
from telbridge.ops.asking import not_made_yet


class Callers:
    """Counts of one worker, by number as records keep it. A hidden number is nobody's."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def read(self, url: str, waiting: Path) -> None:
        """Add the answered calls of a database, and of what still waits for it. Blocks. StoreDown."""
        found = {entry.record["call_id"]: entry.record for entry in spool.waiting(waiting)}
        counts, known = _kept(url, found)
        for call_id, record in found.items():
            if call_id not in known and record.get("answered_ms") is not None and record.get("caller"):
                counts[record["caller"]] += 1
        self._counts.update(counts)

    def before(self, caller: str) -> int:
        """How many answered calls there were."""
        return self._counts[caller] if caller else 0

    def called(self, caller: str) -> None:
        """One more."""
        self._counts[caller] += 1


def _kept(url: str, waiting: Collection[str]) -> tuple[Counter[str], set[str]]:
    """Of the database: the counts, and which of those that wait it has already."""
    if not_made_yet(url):
        return Counter(), set()
    from telbridge.ops.store import Store

    store = Store(url)
    try:
        return store.answered_by_caller(), store.known(waiting)
    finally:
        store.close()
