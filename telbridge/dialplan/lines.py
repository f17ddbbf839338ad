"""Where in a TOML text each key stands. For texts that tomllib has accepted: it checks nothing itself."""

from __future__ import annotations

import re
import tomllib
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of every table, key and entry of a list."""
    return _Scanner(text).run()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Of a path, or of the nearest table around it; 1 for the file itself."""
    for size in range(len(path), 0, -1):
        if path[:size] in lines:
            return lines[path[:size]]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._entries: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(newlines=True):
            if self._text.startswith("[[", self._at):
                table = self._header(2, entry=True)
            elif self._text[self._at] == "[":
                table = self._header(1, entry=False)
            else:
                self._pair(table)
        return self._lines

    def _header(self, brackets: int, *, entry: bool) -> Path:
        self._at += brackets
        line = self._line()
        path: Path = ()
        keys = self._keys()
        for index, key in enumerate(keys):
            path = (*path, key)
            self._lines.setdefault(path, line)
            if entry and index == len(keys) - 1:
                self._entries[path] = self._entries.get(path, -1) + 1
            if path in self._entries:
                path = (*path, self._entries[path])
                self._lines.setdefault(path, line)
        self._at += brackets
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._lines[path] = line
        self._at += 1  # =
        self._value(path)

    def _keys(self) -> list[str]:
        """`a."b c".d`, up to what follows it."""
        keys: list[str] = []
        while True:
            self._skip(newlines=False)
            if self._text[self._at] in "\"'":
                start = self._at
                self._string()
                keys.append(str(tomllib.loads(f"k = {self._text[start : self._at]}")["k"]))
            else:
                bare = _BARE.match(self._text, self._at)
                assert bare is not None
                keys.append(bare[0])
                self._at = bare.end()
            self._skip(newlines=False)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(newlines=False)
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._list(path)
        elif first == "{":
            self._inline(path)
        else:
            plain = _PLAIN.match(self._text, self._at)
            assert plain is not None
            self._at = plain.end()

    def _list(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip(newlines=True) and self._text[self._at] != "]":
            self._lines[(*path, index)] = self._line()
            self._value((*path, index))
            self._skip(newlines=True)
            if self._text[self._at] == ",":
                self._at += 1
                index += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._skip(newlines=True) and self._text[self._at] != "}":
            self._pair(path)
            self._skip(newlines=True)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _string(self) -> None:
        quote = self._text[self._at]
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(fence)
        while not self._text.startswith(fence, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        self._at += len(fence)
        while len(fence) == 3 and self._text.startswith(quote, self._at):
            self._at += 1  # A long string may end in quotes of its own.

    def _skip(self, *, newlines: bool) -> bool:
        """Over space and comments; whether anything is left."""
        space = " \t\n" if newlines else " \t"
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#" and newlines:
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif char in space:
                self._at += 1
            else:
                return True
        return False

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
