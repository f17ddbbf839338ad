"""[records]: what is kept of calls, where, and for how long."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telbridge.sessions.credentials import SecretRef

_DATABASES: Final = ("sqlite", "postgresql")
_WANTED: Final = '"postgresql://user@host/name" or "sqlite:////path/records.db"'


class RecordsSection(BaseModel):
    """[records]: what is kept of calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: Annotated[
        str | None,
        Field(
            description='"postgresql://user@host/name" or "sqlite:////path/records.db"; default: SQLite in '
            "`folder`"
        ),
    ] = None
    password: Annotated[SecretRef | None, Field(description="of the database's user")] = None
    folder: Annotated[
        Path | None,
        Field(
            description="where records wait for the database, and the default database; default: "
            "where `path` is, else the user's state folder"
        ),
    ] = None
    path: Annotated[
        Path | None, Field(description="file to which every record is also appended (JSON Lines)")
    ] = None
    transcripts: Annotated[bool, Field(description="keep what was said in the record")] = True
    numbers: Annotated[
        Literal["plain", "hashed"],
        Field(description="telephone numbers in records and on the admin port; hashed: by `secret`"),
    ] = "plain"
    secret: Annotated[
        SecretRef | None, Field(description="key of the hash; the same number has the same hash")
    ] = None
    retention_days: Annotated[
        int, Field(ge=0, description="records older than this are deleted; 0 keeps them for ever")
    ] = 90

    @field_validator("database")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in _DATABASES or (parts.scheme == "sqlite" and not parts.path.strip("/")):
            raise ValueError(f"{_without_password(url)!r} is not accepted: write {_WANTED}")
        if parts.password:
            raise ValueError(
                'a password must not stand here: write password = { env = "NAME" } or { file = "/path" }'
            )
        if parts.scheme == "postgresql" and find_spec("psycopg") is None:
            raise ValueError("needs the PostgreSQL driver: pip install 'telbridge[postgres]'")
        return url

    @model_validator(mode="after")
    def _hashing_needs_a_key(self) -> RecordsSection:
        if self.numbers == "hashed" and self.secret is None:
            raise ValueError('numbers = "hashed" needs `secret`: write secret = { env = "NAME" }')
        return self

    def home(self, environ: Mapping[str, str] = os.environ) -> Path:
        """The folder: as set, or in the user's state folder (XDG base directory specification)."""
        if self.folder is not None:
            return self.folder
        if self.path is not None:
            return self.path.parent
        state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "telbridge"

    def spool(self) -> Path:
        """Where records wait for the database."""
        return self.home() / "spool"

    def where(self) -> str:
        """The database's URL, without its password."""
        return self.database or f"sqlite:///{(self.home() / 'records.db').absolute()}"

    def url(self, environ: Mapping[str, str] = os.environ) -> str:
        """The database's URL with its password. SecretMissing if that is not there."""
        if self.password is None:
            return self.where()
        parts = urlsplit(self.where())
        user, _, host = parts.netloc.rpartition("@")
        secret = quote(self.password.resolve("records.password", environ), safe="")
        return urlunsplit(parts._replace(netloc=f"{user}:{secret}@{host}"))

    def key(self, environ: Mapping[str, str] = os.environ) -> bytes | None:
        """Of the hash of telephone numbers; None where they are kept as they are. SecretMissing."""
        if self.numbers == "plain" or self.secret is None:
            return None
        return self.secret.resolve("records.secret", environ).encode()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if not parts.password else url.replace(f":{parts.password}@", ":…@")
