"""The tables of records, and how they came to be: steps that are taken once each, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    func,
    insert,
    inspect,
    select,
    text,
)

LOCK: Final = 0x7E1B_51D6
"""Of PostgreSQL's advisory locks, the one held while the schema changes: any number, but always this."""


class SchemaIsNewer(Exception):
    """A later telbridge has changed the database: this one must not write to it."""


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, also in SQLite, which knows none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


metadata: Final = MetaData()
calls: Final = Table(
    "calls",
    metadata,
    Column("call_id", String, primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime, nullable=False),
    Column("ingress", String, nullable=False),
    Column("trunk", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("dialplan", String, nullable=False),
    Column("caller", String, nullable=False),
    Column("called", String, nullable=False),
    Column("ending", String, nullable=False),
    Column("answered", Boolean, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("worst_gap_ms", Float),
    Column("mos", Float),
    Column("worst", String, nullable=False),
    Column("whose", String, nullable=False),
    Column("record", JSON, nullable=False),
)
"""What lists and counts ask for stands in columns; everything is in `record`."""
_versions: Final = Table("telbridge_schema", metadata, Column("version", Integer, primary_key=True))


_FIRST: Final = """
CREATE TABLE calls (
    call_id VARCHAR NOT NULL PRIMARY KEY,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ingress VARCHAR NOT NULL,
    trunk VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    dialplan VARCHAR NOT NULL,
    caller VARCHAR NOT NULL,
    called VARCHAR NOT NULL,
    ending VARCHAR NOT NULL,
    answered BOOLEAN NOT NULL,
    duration_ms INTEGER NOT NULL,
    turns INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    worst_gap_ms FLOAT,
    mos FLOAT,
    worst VARCHAR NOT NULL,
    whose VARCHAR NOT NULL,
    record JSON NOT NULL
)"""

STEPS: Final[Sequence[Sequence[str]]] = (
    (_FIRST,),
    (
        # By time for lists and retention, by caller for who returns.
        "CREATE INDEX calls_ended_at ON calls (ended_at)",
        "CREATE INDEX calls_caller ON calls (caller)",
    ),
)
"""SQL that both databases know. What a step says has been done out there: change it by another step."""


def migrate(connection: Connection, steps: Sequence[Sequence[str]] = STEPS) -> int:
    """Take the steps that are missing, in the connection's transaction; returns how many. One process at a
    time does so. SchemaIsNewer if the database has taken more than there are."""
    _lock(connection)
    if not inspect(connection).has_table(_versions.name):
        _versions.create(connection)
    taken = connection.scalar(select(func.coalesce(func.max(_versions.c.version), 0))) or 0
    if taken > len(steps):
        raise SchemaIsNewer(f"the database is of version {taken}, this telbridge knows {len(steps)}")
    for version, statements in enumerate(steps[taken:], taken + 1):
        for statement in statements:
            connection.execute(text(statement))
        connection.execute(insert(_versions).values(version=version))
    return len(steps) - taken


def _lock(connection: Connection) -> None:
    """SQLite's transaction was begun as a writer's: nobody else writes."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
