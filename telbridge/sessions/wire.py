"""Reading JSON that somebody else wrote: every access says what was wrong, in words fit for a log."""

from __future__ import annotations

import orjson


class Malformed(Exception):
    """The peer broke its contract. The text names fields and types, never their values."""


def parse(message: str | bytes) -> dict[str, object]:
    """One JSON object; Malformed for anything else."""
    try:
        fields: object = orjson.loads(message)
    except ValueError as fault:
        raise Malformed(f"not JSON ({type(fault).__name__}, {len(message)} long)") from None
    if not isinstance(fields, dict):
        raise Malformed(f"JSON but no object: {type(fields).__name__}")
    return fields


def text(fields: dict[str, object], key: str) -> str:
    """A string that must be there."""
    found = fields.get(key)
    if not isinstance(found, str):
        raise Malformed(f"`{key}` is {_name(found)}, not a string")
    return found


def optional_text(fields: dict[str, object], key: str) -> str | None:
    """A string, or None for null, absent or odd."""
    found = fields.get(key)
    return found if isinstance(found, str) else None


def count(fields: dict[str, object], key: str) -> int:
    """A whole number >= 0; absent is 0."""
    found = fields.get(key, 0)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise Malformed(f"`{key}` is {_name(found)}, not a whole number")
    return found


def table(fields: dict[str, object], key: str) -> dict[str, object]:
    """An object that must be there."""
    found = fields.get(key)
    if not isinstance(found, dict):
        raise Malformed(f"`{key}` is {_name(found)}, not an object")
    return found


def optional_table(fields: dict[str, object], key: str) -> dict[str, object]:
    """An object, or an empty one for null, absent or odd."""
    found = fields.get(key)
    return found if isinstance(found, dict) else {}


def _name(found: object) -> str:
    return "missing" if found is None else type(found).__name__
