"""Words that a dialplan asked for: which reply says them, and when they are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from telbridge.call.events import ReplyId

GREETING: Final = 0
LAST_WORDS: Final = -1
"""Tokens of utterances that no order stands behind."""


@dataclass(slots=True)
class _Utterance:
    token: int
    barge_in: bool
    complete: bool = False


class Utterances:
    """Each is asked for with a token of its owner, who is told once when it is over: heard, cut short, or
    never said."""

    def __init__(self, over: Callable[[int], None]) -> None:
        self._over = over
        self._asked: deque[_Utterance] = deque()
        self._saying: dict[ReplyId, _Utterance] = {}
        self._highest = ReplyId(0)
        self.protected = False
        """One of them must not be interrupted. Read for every frame."""

    def ask(self, token: int, *, barge_in: bool) -> None:
        """The agent was asked: its next new reply is taken for it."""
        self._asked.append(_Utterance(token, barge_in))
        self._protect()

    def own(self, token: int, reply: ReplyId, *, barge_in: bool) -> None:
        """It was queued as words of our own."""
        self._saying[reply] = _Utterance(token, barge_in, complete=True)
        self._protect()

    def began(self, reply: ReplyId) -> None:
        """The agent told of a reply, maybe not for the first time."""
        if reply > self._highest:
            self._highest = reply
            if self._asked:
                self._saying[reply] = self._asked.popleft()

    def complete(self, reply: ReplyId) -> None:
        """Nothing more will come of it."""
        if (one := self._saying.get(reply)) is not None:
            one.complete = True

    def settle(self, sounds: Callable[[ReplyId], bool]) -> None:
        """`sounds`: whether something of a reply is still to be heard."""
        if self._saying:
            self._end([reply for reply, one in self._saying.items() if one.complete and not sounds(reply)])

    def cut(self) -> None:
        """All that was being said has been thrown away."""
        self._end(list(self._saying))

    def lost(self) -> None:
        """What the agent was asked for will not come."""
        gone = list(self._asked)
        self._asked.clear()
        self._tell(gone)

    def _end(self, replies: list[ReplyId]) -> None:
        self._tell([self._saying.pop(reply) for reply in replies])

    def _tell(self, ended: list[_Utterance]) -> None:
        self._protect()
        for one in ended:
            self._over(one.token)

    def _protect(self) -> None:
        self.protected = any(not one.barge_in for one in (*self._asked, *self._saying.values()))
