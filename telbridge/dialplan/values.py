"""Values of expressions: text, numbers, truth, tables, nothing, and digits that must not be seen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Masked:
    """Digits that may be compared but never shown; `repr` and templates give nothing of them away."""

    secret: str = field(repr=False)

    def __str__(self) -> str:
        return HIDDEN


HIDDEN: Final = "****"

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?")

Value: TypeAlias = "str | int | float | bool | Mapping[str, Any] | tuple[Any, ...] | Masked | None"

Scope: TypeAlias = Mapping[str, Any]
"""What expressions can see, by name."""

LONGEST: Final = 20_000
"""Characters of any text that comes out of a template."""
BIGGEST: Final = 10**15
"""Numbers beyond are none: their sums would not be exact, and their digits without an end."""
DEEPEST: Final = 30
"""Tables within tables of what comes from outside."""


def from_outside(value: Any, depth: int = 0) -> Any:
    """JSON of a server or of an agent, such that nothing here can fail on it: what is too deep or is no JSON
    becomes nothing, text loses halves of characters, which no encoding takes."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return value if -BIGGEST < value < BIGGEST else None
    if depth >= DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {whole(str(key)): from_outside(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [from_outside(item, depth + 1) for item in value]
    return None


def whole(text: str) -> str:
    """Without lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def text(value: Value) -> str:
    """As it stands in a text: nothing for what is missing, JSON for tables."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (Mapping, tuple, list)):
        return json.dumps(_plain(value), ensure_ascii=False)[:LONGEST]
    return whole(str(value)[:LONGEST])


def number(value: Value) -> float | int | None:
    """A number, or text that reads as one; nothing beyond BIGGEST."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -BIGGEST < value < BIGGEST:
        return value
    return None


def equal(left: Value, right: Value) -> bool:
    """Equal as a person would say: keyed digits are text, and "5" is 5. Masked digits may be compared."""
    left, right = _open(left), _open(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if isinstance(left, (str, int, float)) and isinstance(right, (str, int, float)):
        numbers = number(left), number(right)
        return None not in numbers and numbers[0] == numbers[1]
    return bool(left == right)


def truth(value: Value) -> bool:
    """Empty, 0, false and missing are false."""
    return bool(value.secret) if isinstance(value, Masked) else bool(value)


def contains(whole: Value, part: Value) -> bool:
    """Part of a text, one of a list, a name in a table."""
    whole, part = _open(whole), _open(part)
    if isinstance(whole, str):
        return isinstance(part, str) and part.casefold() in whole.casefold()
    if isinstance(whole, tuple):
        return any(equal(item, part) for item in whole)
    return isinstance(whole, Mapping) and isinstance(part, str) and part in whole


def ordered(operator: str, left: Value, right: Value) -> bool:
    """<, <=, >, >=: as numbers where both are some, else as text; false for what has no order."""
    left, right = _open(left), _open(right)
    pair: tuple[Any, Any] = (number(left), number(right))
    if None in pair:
        if not isinstance(left, str) or not isinstance(right, str):
            return False
        pair = (left, right)
    one, other = pair
    if operator == "<":
        return bool(one < other)
    if operator == "<=":
        return bool(one <= other)
    return bool(one > other) if operator == ">" else bool(one >= other)


def member(value: Value, name: str) -> Value:
    """A name in a table, nothing if it isn't there. Names of headers have no case."""
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return _frozen(value[name])
    wanted = name.casefold().replace("-", "_")
    for key, found in value.items():
        if str(key).casefold().replace("-", "_") == wanted:
            return _frozen(found)
    return None


def _open(value: Value) -> Value:
    return value.secret if isinstance(value, Masked) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _frozen(value: Any) -> Value:
    if isinstance(value, list):
        return tuple(value)
    if value is None or isinstance(value, (str, int, float, Mapping, tuple, Masked)):
        return value
    return str(value)


# ------------------------------------------------------------------ filters


def _first(value: Value, count: Value) -> Value:
    return text(value)[: max(0, int(number(count) or 0))]


def _last(value: Value, count: Value) -> Value:
    size = max(0, int(number(count) or 0))
    return text(value)[-size:] if size else ""


def _default(value: Value, other: Value) -> Value:
    return value if truth(value) else other


@dataclass(frozen=True, slots=True)
class Filter:
    """What stands after a `|`."""

    arguments: int
    run: Callable[..., Value]
    what: str


FILTERS: Final[Mapping[str, Filter]] = {
    "first": Filter(1, _first, "the first characters: `caller | first(3)`"),
    "last": Filter(1, _last, "the last characters: `caller | last(4)`"),
    "upper": Filter(0, lambda value: text(value).upper(), "in capitals"),
    "lower": Filter(0, lambda value: text(value).lower(), "in small letters"),
    "title": Filter(0, lambda value: text(value).title(), "each word with a capital"),
    "trim": Filter(0, lambda value: text(value).strip(), "without space around it"),
    "spaced": Filter(0, lambda value: " ".join(text(value)[:500]), "with spaces, to be read digit by digit"),
    "number": Filter(0, number, "as a number"),
    "length": Filter(0, lambda value: len(text(value)), "how many characters"),
    "default": Filter(1, _default, "another value if it is empty: `vars.name | default('guest')`"),
    "json": Filter(0, lambda value: json.dumps(_plain(value), ensure_ascii=False)[:LONGEST], "as JSON"),
    "url": Filter(0, lambda value: quote(text(value), safe=""), "for use in a URL"),
}
