"""How the conversation goes, for a peer that wants to know: who speaks, what was said, what was heard of it.

The agent's words are told as they are heard: from the first frame of a reply on, and once more when it is
over, whole or as far as the caller got. Pure book-keeping, but for `tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from telbridge.call.events import ReplyId, SessionEnd
from telbridge.call.playout import Heard
from telbridge.call.turns import Turn

Fact = str | int | bool
Tell = Callable[[str, Mapping[str, Fact]], None]

PASSED_ON: Final = frozenset(
    {
        "answered",
        "caller_speaking",
        "caller_stopped",
        "caller_said",
        "agent_speaking",
        "agent_stopped",
        "session_lost",
        "session_back",
    }
)
"""Events of the dialplan that are told by the same name."""


@dataclass(slots=True)
class _Reply:
    text: str = ""
    sounds: bool = False
    final: bool = False
    share: float | None = None
    """How much of it was heard, once it was cut."""


class Narration:
    """One call's; every event goes to `tell` with its facts."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._replies: dict[ReplyId, _Reply] = {}
        self._gaps_told = 0
        """Of the turns before this one nothing more is told."""

    def happened(self, event: str, facts: Mapping[str, str]) -> None:
        """An event by its name in a dialplan. Of its facts only words are told: errors are ours."""
        if event in PASSED_ON:
            self._tell(event, {"text": facts["text"]} if "text" in facts else {})

    def wrote(self, reply: ReplyId, text: str) -> None:
        """All that a reply says so far, by the API."""
        entry = self._replies.setdefault(reply, _Reply())
        if entry.share is not None and entry.text and len(text) < len(entry.text):
            entry.share = 1.0  # An API that shortens the words itself knows better what was heard.
        entry.text = text
        self._say(reply, entry)

    def began(self, reply: ReplyId, turns: Sequence[Turn]) -> None:
        """Its first frame is out."""
        for number in range(len(turns) - 1, self._gaps_told - 1, -1):
            gap_ms = turns[number].gap_ms
            if reply in turns[number].replies and gap_ms is not None:
                self._gaps_told = number + 1
                self._tell("turn", {"gap_ms": round(gap_ms)})
        entry = self._replies.setdefault(reply, _Reply())
        entry.sounds = True
        self._say(reply, entry)

    def settle(self, sounds: Callable[[ReplyId], bool]) -> None:
        """`sounds`: whether something of a reply is still to be heard."""
        for reply, entry in self._replies.items():
            if entry.sounds and not entry.final and not sounds(reply):
                entry.final = True
                self._say(reply, entry)

    def cut(self, heard: Sequence[Heard], *, interrupted: bool) -> None:
        """All that was being said has been thrown away. `interrupted`: because the caller spoke."""
        if heard and interrupted:
            facts = {
                "heard_ms": sum(fate.heard_ms for fate in heard),
                "discarded_ms": sum(fate.discarded_ms for fate in heard),
            }
            self._tell("interrupted", facts)
        for fate in heard:
            entry = self._replies.setdefault(fate.reply, _Reply())
            total = fate.heard_samples + fate.discarded_samples
            entry.share = fate.heard_samples / total if total else 0.0
            entry.final = True
            self._say(fate.reply, entry)

    def ended(self, end: SessionEnd) -> None:
        """We are about to hang up."""
        self._tell("ended", {"cause": end.ending.value})

    def _say(self, reply: ReplyId, entry: _Reply) -> None:
        if not entry.sounds or not entry.text:
            return
        text = entry.text if entry.share is None else beginning(entry.text, entry.share)
        facts: dict[str, Fact] = {"reply": reply, "text": text, "final": entry.final}
        if entry.share is not None:
            facts["cut"] = True
        self._tell("agent_said", facts)


def beginning(text: str, share: float) -> str:
    """The first words of `text`, about so much of it: the word that was cut is left out. Speech runs evenly
    enough for that to be within a word or two."""
    if share >= 1:
        return text
    limit = int(len(text) * share)
    if limit and text[limit : limit + 1].isspace():
        return text[:limit].rstrip()
    return text[:limit].rpartition(" ")[0].rstrip()
