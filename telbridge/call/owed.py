"""An answer that the agent owes: when it does not come, the agent counts as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

UNANSWERED_TURNS: Final = 3


class Owed:
    """Nothing is owed while the caller holds the line: what was is owed again when they are back."""

    def __init__(self, timeout_s: float, overdue: Callable[[], None]) -> None:
        self._timeout_s, self._overdue = timeout_s, overdue
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._held = self._on_hold = False
        self._unanswered = 0

    @property
    def pending(self) -> bool:
        """Something is owed, or will be after the hold."""
        return self._timer is not None or self._on_hold

    @property
    def waited_for(self) -> bool:
        """The caller may expect an answer, owed or not."""
        return self._unanswered > 0 or self.pending

    def expect(self) -> None:
        """From now on."""
        self.nothing()
        if self._held:
            self._on_hold = True
        else:
            self._timer = self._loop.call_later(self._timeout_s, self._overdue)

    def caller_stopped(self) -> None:
        """A cough may rightly stay unanswered, so one silence proves nothing; several turns in a row do."""
        self._unanswered += 1
        if self._timer is None and self._unanswered >= UNANSWERED_TURNS:
            self.expect()

    def came(self) -> None:
        """An answer, to all that was said before."""
        self._unanswered = 0
        self.nothing()

    def nothing(self) -> None:
        """It has come, or will not be waited for."""
        self._on_hold = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hold(self) -> None:
        """The caller put us on hold."""
        pending = self.pending
        self.nothing()
        self._held, self._on_hold = True, pending

    def resume(self) -> None:
        """The caller is back."""
        self._held = False
        if self._on_hold:
            self.expect()
