"""What the replies of an Azure Voice Live session have said so far. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.call.events import ReplyId

KEPT: Final = 64
"""Replies remembered; one that old was said long ago. Bounds what a broken peer can make us keep."""


class Words:
    """Of each reply, part by part; a part is told in pieces, and once more as a whole."""

    def __init__(self) -> None:
        self._parts: dict[ReplyId, dict[tuple[str, int], str]] = {}

    def add(self, reply: ReplyId, part: tuple[str, int], piece: str) -> str | None:
        """The next words of a part. All that the reply has said, if that is more than before."""
        parts = self._of(reply)
        return self._put(parts, part, parts.get(part, "") + piece)

    def settle(self, reply: ReplyId, part: tuple[str, int], whole: str) -> str | None:
        """All words of a part, which count."""
        return self._put(self._of(reply), part, whole)

    def _of(self, reply: ReplyId) -> dict[tuple[str, int], str]:
        parts = self._parts.setdefault(reply, {})
        if len(self._parts) > KEPT:
            del self._parts[next(iter(self._parts))]
        return parts

    @staticmethod
    def _put(parts: dict[tuple[str, int], str], part: tuple[str, int], words: str) -> str | None:
        if parts.get(part, "") == words:
            return None
        parts[part] = words
        return " ".join(one.strip() for one in parts.values() if one.strip())
