"""An agent that hangs up by a tool: its goodbye is heard to the end before the call is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

PARTING_S: Final = 1.5
"""An agent that hung up by a tool may still say goodbye: so long after its last reply it has not."""


class Goodbye:
    """Nothing is waited for until the tool was called."""

    def __init__(self, longest_s: float, said: Callable[[], None]) -> None:
        """`longest_s`: for the goodbye to begin. `said`: it is over, or will not come."""
        self._longest_s, self._said = longest_s, said
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False

    def ask(self) -> None:
        """The tool was called."""
        self._asked = True
        self._expect(self._longest_s)

    def reply_done(self) -> None:
        if self._asked:
            self._expect(PARTING_S)

    def take_back(self) -> None:
        """Who speaks up again has not finished; the agent may call the tool again."""
        self._asked = False
        self.wait()

    def wait(self) -> None:
        """The goodbye has begun, or the tool's own reply has ended: wait for what follows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, within_s: float) -> None:
        self.wait()
        self._timer = self._loop.call_later(within_s, self._said)
