"""What may be asked of the database of records, and how it fails: without the weight of the database itself,
which takes a third of a second to import."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit


class StoreDown(Exception):
    """The database does not answer, or not as it should; records wait."""


class RecordRefused(Exception):
    """The database will not take one of these records, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls; None leaves it open."""

    ingress: str | None = None
    trunk: str | None = None
    agent: str | None = None
    dialplan: str | None = None
    caller: str | None = None
    called: str | None = None
    ending: str | None = None
    whose: str | None = None
    worst: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    """Ended earlier than this: the next page."""


def not_made_yet(url: str) -> bool:
    """A SQLite database that nobody has written to."""
    parts = urlsplit(url)
    return parts.scheme == "sqlite" and not Path(unquote(parts.path[1:])).exists()
