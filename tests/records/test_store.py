"""The database of records: the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text

from telbridge.ops import schema
from telbridge.ops.asking import RecordRefused, StoreDown, Wanted
from telbridge.ops.store import Store, _engine
from tests.records.made import NOON, answered, record


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The database itself, before any Store."""
    engine = _engine(url)
    yield engine
    engine.dispose()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["call_id"] for row in rows]


# ---------------------------------------------------------------- migrations


def test_the_steps_lead_to_the_tables_that_the_code_knows(engine: Engine) -> None:
    with engine.begin() as connection:
        assert schema.migrate(connection) == len(schema.STEPS)
    with engine.begin() as connection:
        assert schema.migrate(connection) == 0
        inspector = inspect(connection)
        found = {column["name"]: column["nullable"] for column in inspector.get_columns("calls")}
        indexes = {index["name"] for index in inspector.get_indexes("calls")}
        key = inspector.get_pk_constraint("calls")["constrained_columns"]
    assert found == {column.name: column.nullable for column in schema.calls.c}
    assert key == ["call_id"]
    assert indexes == {"calls_ended_at", "calls_caller"}


def test_an_older_database_keeps_its_calls(engine: Engine, store: Store) -> None:
    with engine.begin() as connection:
        schema.migrate(connection, schema.STEPS[:1])
        connection.execute(
            text(
                "INSERT INTO calls VALUES ('old', '2026-11-20 12:00:00', '2026-11-20 12:00:30', 'sip', '', "
                "'', '', '', '', 'caller_hung_up', TRUE, 30000, 1, 0, NULL, NULL, 'fine', '', "
                '\'{"call_id": "old"}\')'
            )
        )
    store.add([record("new")])
    assert ids(store.find(Wanted(), 9)) == ["new", "old"]
    assert store.get("old") == {"call_id": "old"}


def test_many_may_come_to_an_empty_database_at_once(url: str) -> None:
    stores = [Store(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: stores[number].add([record(f"c{number}")]), range(4)))
    assert len(stores[0].find(Wanted(), 9)) == 4
    for store in stores:
        store.close()


def test_the_database_of_a_later_telbridge_is_left_alone(engine: Engine, store: Store) -> None:
    with engine.begin() as connection:
        schema.migrate(connection, [*schema.STEPS, ["CREATE TABLE later (x INTEGER)"]])
    with pytest.raises(StoreDown, match="version 3, this telbridge knows 2"):
        store.add([record()])


def test_a_step_that_fails_changes_nothing(engine: Engine, store: Store) -> None:
    with pytest.raises(Exception, match="nowhere"), engine.begin() as connection:
        schema.migrate(connection, [["CREATE TABLE half (x INTEGER)", "INSERT INTO nowhere VALUES (1)"]])
    store.add([record()])
    with engine.begin() as connection:
        assert not inspect(connection).has_table("half")


# ---------------------------------------------------------------- records


def test_a_record_comes_back_as_it_went(store: Store) -> None:
    record_ = record(
        caller="Zoë 📞", detail="tab\there", turns=[answered(5000.0, more={"caller_text": "née"})]
    )
    store.add([record_])
    assert store.get("c1") == record_
    (row,) = store.find(Wanted(), 9)
    assert (row["caller"], row["ended_at"], row["ended_at"] - row["started_at"]) == (
        "Zoë 📞",
        NOON,
        timedelta(seconds=30),
    )
    assert (row["turns"], row["worst_gap_ms"], row["answered"], row["worst"]) == (1, 606.0, True, "fine")


def test_a_record_that_comes_again_changes_nothing(store: Store) -> None:
    store.add([record("c1"), record("c2")])
    store.add([record("c2", ending="drained"), record("c3")])
    assert ids(store.find(Wanted(), 9)) == ["c1", "c2", "c3"]
    assert (store.get("c2") or {})["ending"] == "caller_hung_up"


def test_what_callers_put_into_their_headers_breaks_nothing(store: Store) -> None:
    store.add([record("c1", caller="+49\x00170", signalling_id="\x00\ud800", detail="\udcff")])
    assert (store.get("c1") or {})["signalling_id"] == "\x00\ud800"
    assert ids(store.find(Wanted(caller="+49170"), 9)) == ["c1"]


def test_no_record_is_refused_in_a_word_and_none_of_its_batch_is_there(store: Store) -> None:
    with pytest.raises(RecordRefused, match="ValueError"):
        store.add([record("c1"), record("c2", ended_at="yesterday")])
    assert store.get("c1") is None


def test_calls_are_found_by_what_they_were_newest_first_and_page_by_page(store: Store) -> None:
    store.add(
        [
            record("a", minute=1, agent="openai_realtime"),
            record("b", minute=2, ending="agent_lost"),
            record("c", minute=3, caller="+492"),
            record("d", minute=4, ingress="twilio"),
        ]
    )
    assert ids(store.find(Wanted(), 2)) == ["d", "c"]
    page = NOON + timedelta(minutes=3)
    assert ids(store.find(Wanted(before=page), 2)) == ["b", "a"]
    assert ids(store.find(Wanted(since=page), 9)) == ["d", "c"]
    assert ids(store.find(Wanted(agent="openai_realtime"), 9)) == ["a"]
    assert ids(store.find(Wanted(ending="agent_lost", whose="agent"), 9)) == ["b"]
    assert ids(store.find(Wanted(caller="+492", ingress="twilio"), 9)) == []


def test_answered_calls_are_counted_by_caller(store: Store) -> None:
    store.add(
        [
            record("a", caller="+491"),
            record("b", caller="+491"),
            record("c", caller="+491", answered_ms=None),
            record("d", caller=""),
        ]
    )
    assert store.answered_by_caller() == {"+491": 2}


def test_old_records_are_forgotten(store: Store) -> None:
    store.add([record("old", minute=0), record("new", minute=10)])
    assert store.forget_before(NOON + timedelta(minutes=5)) == 1
    assert ids(store.find(Wanted(), 9)) == ["new"]


def test_what_is_no_database_says_so_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    file.write_text("this is no database" * 100)
    with pytest.raises(StoreDown, match="file is not a database"):
        Store(f"sqlite:///{file}").get("c1")
    with pytest.raises(StoreDown, match="Is a directory"):
        Store(f"sqlite:///{tmp_path}")


def test_nobody_else_on_the_machine_reads_the_records(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'state' / 'records.db'}")
    store.add([record()])
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {0}
    store.close()
