"""The header fields of a SIP message, in their order, found by name at once. Pure.

`sipmessage` compares a name with all that are there, each time in small letters: that was a third of what a
message cost the dispatcher.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sipmessage.message import COMPACT_FORMS

NAMES_KEPT: Final = 1_024
_NAME: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]++")
"""RFC 3261 §25.1, token."""


class Headers:
    """Names are alike in small letters and in large ones. Fields of one name stand together, where the first
    of them stood."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}

    @classmethod
    def parse(cls, lines: str) -> Headers:
        """Unfolded lines, with full names for the short ones (RFC 3261 §7.3). ValueError for one that is no
        header field."""
        headers = cls()
        fields = headers._fields
        for line in lines.split("\r\n") if lines else ():
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("a line without a colon")
            key, name = _named(name.rstrip(" \t"))
            if (field := fields.get(key)) is None:
                fields[key] = name, [value.strip()]
            else:
                field[1].append(value.strip())
        return headers

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first of that name."""
        field = self._fields.get(name.lower())
        return default if field is None else field[1][0]

    def __getitem__(self, name: str) -> str:
        """The first of that name. KeyError without one."""
        return self._fields[name.lower()][1][0]

    def getlist(self, name: str) -> list[str]:
        """All of that name."""
        field = self._fields.get(name.lower())
        return [] if field is None else field[1]

    def set(self, name: str, value: str) -> None:
        """This in place of all of that name, which stays as it is written."""
        self.setlist(name, [value])

    def setlist(self, name: str, values: list[str]) -> None:
        """These in place of all of that name; at least one."""
        key = name.lower()
        field = self._fields.get(key)
        self._fields[key] = name if field is None else field[0], values

    def remove(self, name: str) -> None:
        """All of that name."""
        self._fields.pop(name.lower(), None)

    def __str__(self) -> str:
        """With the empty line behind them."""
        lines = [f"{name}: {value}\r\n" for name, values in self._fields.values() for value in values]
        return "".join(lines) + "\r\n"


@lru_cache(NAMES_KEPT)
def _named(name: str) -> tuple[str, str]:
    """In small letters, and as it is written. ValueError if it is no token."""
    if _NAME.fullmatch(name) is None:
        raise ValueError("a header's name is no token")
    full = COMPACT_FORMS.get(name.lower(), name)
    return full.lower(), full
