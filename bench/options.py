"""What may be asked of a section on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """None: what the section takes by itself."""

    calls: tuple[int, ...] | None = None
    """Of `load` the ladder; of the others the number of calls is the first."""
    seconds: float | None = None
    """Of one measurement."""
    only: tuple[str, ...] = ()
    """Parts of a section, by their names; () for all."""
    uri: str = ""
    """Of `peer`: whom to call."""
    pids: tuple[int, ...] = ()
    """Of `peer`: the processes that are its cost."""

    def count(self, default: int) -> int:
        return self.calls[0] if self.calls else default

    def wants(self, part: str, among: Sequence[str]) -> bool:
        """Whether this one of them is asked for, or none of them in particular."""
        return part in self.only or not any(one in self.only for one in among)
