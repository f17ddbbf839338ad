"""Who has called before, as far as the records tell: a dialplan may greet a returning caller differently."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final

READ_MOST: Final = 64_000_000
"""Octets of records that are looked at, the newest ones: some hundred thousand calls."""


class Callers:
    """Counts of one worker's records. A hidden number is nobody's."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def read(self, records: Path) -> None:
        """Add the answered calls of a file of records (JSON Lines). Blocks. Lines that are none are skipped;
        so is a file that is not there: nobody has called yet."""
        try:
            with records.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - READ_MOST))
                if size > READ_MOST:
                    file.readline()  # The middle of a record.
                counts = Counter(_caller(line) for line in file)
        except FileNotFoundError:
            return
        self._counts.update(counts)

    def before(self, caller: str) -> int:
        """How many answered calls there were."""
        return self._counts[caller] if caller else 0

    def called(self, caller: str) -> None:
        """One more."""
        self._counts[caller] += 1


def _caller(line: bytes) -> str:
    try:
        record = json.loads(line)
        return str(record["caller"]) if record["answered_ms"] is not None else ""
    except (ValueError, KeyError, TypeError):
        return ""
