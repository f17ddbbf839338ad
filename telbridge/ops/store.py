"""The database of records: SQLite or PostgreSQL, by SQLAlchemy Core. Everything here blocks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from telbridge.ops.asking import RecordRefused, StoreDown, Wanted
from telbridge.ops.schema import SchemaIsNewer, calls, migrate
from telbridge.ops.verdict import judge, worst_gap_ms

CONNECT_S: Final = 5
DEAF_MS: Final = 15_000
"""A server that acknowledges nothing for so long is gone (tcp(7), TCP_USER_TIMEOUT)."""
BUSY_S: Final = 10
"""SQLite: for another process to end its transaction."""
CALLERS_MOST: Final = 500_000
"""Answered calls that are looked at for who returns, the newest ones."""


class Store:
    """Safe to use from several threads. Every method raises StoreDown."""

    def __init__(self, url: str) -> None:
        """`url`: sqlite:///… or postgresql://…, with its password. Connects to nothing yet."""
        self._url = url
        self._engine = _engine(url)
        self._ready = False

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """All of them or none. One that is there already stays as it is. RecordRefused."""
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        with self._transaction() as connection:
            connection.execute(
                insert(calls).on_conflict_do_nothing(index_elements=[calls.c.call_id]),
                [_row(record) for record in records],
            )

    def get(self, call_id: str) -> dict[str, Any] | None:
        """The record of a call."""
        with self._transaction() as connection:
            record = connection.scalar(select(calls.c.record).where(calls.c.call_id == call_id))
        return record if isinstance(record, dict) else None

    def find(self, wanted: Wanted, most: int) -> list[dict[str, Any]]:
        """The columns of the newest calls of that kind, newest first."""
        columns = [column for column in calls.c if column is not calls.c.record]
        query = select(*columns).where(*_conditions(wanted))
        query = query.order_by(calls.c.ended_at.desc(), calls.c.call_id).limit(most)
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def answered_by_caller(self) -> Counter[str]:
        """How many answered calls each caller had, of the newest CALLERS_MOST; hidden numbers none."""
        newest = (
            select(calls.c.caller)
            .where(calls.c.answered, calls.c.caller != "")
            .order_by(calls.c.ended_at.desc())
            .limit(CALLERS_MOST)
            .subquery()
        )
        query = select(newest.c.caller, func.count()).group_by(newest.c.caller)
        with self._transaction() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(query)})

    def known(self, call_ids: Collection[str]) -> set[str]:
        """Those of them whose record is here."""
        query = select(calls.c.call_id).where(calls.c.call_id.in_(call_ids))
        with self._transaction() as connection:
            return set(connection.scalars(query))

    def forget_before(self, moment: datetime) -> int:
        """Delete what ended before; returns how many."""
        with self._transaction() as connection:
            return connection.execute(delete(calls).where(calls.c.ended_at < moment)).rowcount

    def close(self) -> None:
        """Safe twice."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """The first one brings the schema up to date."""
        try:
            with self._engine.begin() as connection:
                if not self._ready:
                    migrate(connection)
                yield connection
            self._ready = True
        except (DataError, IntegrityError) as error:
            raise RecordRefused(_one_line(error)) from error
        except (SQLAlchemyError, SchemaIsNewer, OSError) as error:
            raise StoreDown(_one_line(error)) from error


def _engine(url: str) -> Engine:
    parts = make_url(url)
    if parts.get_backend_name() == "postgresql":
        return create_engine(
            parts.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=2,
            connect_args={"connect_timeout": CONNECT_S, "tcp_user_timeout": DEAF_MS},
        )
    _make_private(Path(parts.database or ""))
    engine = create_engine(parts, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _make_private(file: Path) -> None:
    """It holds numbers and words; what SQLite puts beside it gets the same rights. StoreDown."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreDown(f"{file}: {error.strerror}") from error


def _on_connect(connection: Any, _: Any) -> None:
    """The driver begins no transactions of its own; other processes may read while one writes; what is
    committed survives a power failure, for its file in the spool is gone then."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    for name in ("ingress", "trunk", "agent", "dialplan", "caller", "called", "ending", "whose", "worst"):
        if (value := getattr(wanted, name)) is not None:
            yield calls.c[name] == value
    if wanted.before is not None:
        yield calls.c.ended_at < wanted.before
    if wanted.since is not None:
        yield calls.c.ended_at >= wanted.since


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of any age: what it lacks is empty. RecordRefused if it is none."""
    try:
        return _columns(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordRefused(f"{type(error).__name__}: {error}") from error


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
    verdict = judge(record)
    turns = record.get("turns") or []
    texts = ("call_id", "ingress", "trunk", "agent", "dialplan", "caller", "called", "ending")
    return {
        **{name: _text(record.get(name)) for name in texts},
        "started_at": datetime.fromisoformat(record.get("started_at") or record["ended_at"]),
        "ended_at": datetime.fromisoformat(record["ended_at"]),
        "answered": record.get("answered_ms") is not None,
        "duration_ms": int(record.get("duration_ms") or 0),
        "turns": len(turns),
        "interruptions": sum(1 for turn in turns if turn.get("interruption")),
        "worst_gap_ms": worst_gap_ms(record),
        "mos": (record.get("rtp") or {}).get("mos"),
        "worst": verdict.kind,
        "whose": verdict.whose.value,
        "record": record,
    }


def _text(value: Any) -> str:
    """What any database takes: callers choose what stands in their headers."""
    return str(value or "").replace("\0", "").encode("utf-8", "replace").decode()


def _one_line(error: Exception) -> str:
    """The driver's own words: SQLAlchemy's hold the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0]
