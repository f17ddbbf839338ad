"""Returning callers are known from the records."""

from __future__ import annotations

from pathlib import Path

from telbridge.ops import spool
from telbridge.ops.callers import Callers
from telbridge.ops.store import Store
from tests.records.made import record


def test_answered_calls_count_in_the_database_and_on_their_way_to_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    store = Store(url)
    missed, hidden = record("c", caller="+492", answered_ms=None), record("d", caller="")
    store.add([record("a"), record("b"), missed, hidden])
    store.close()
    for call_id, answered_ms in (("b", 1.0), ("e", 1.0), ("f", None)):  # b is in both
        spool.write(tmp_path / "spool", record(call_id, answered_ms=answered_ms))
    known = Callers()
    known.read(url, tmp_path / "spool")
    assert [known.before(caller) for caller in ("+491701", "+492", "", "+499")] == [3, 0, 0, 0]
    known.called("+499")
    assert known.before("+499") == 1


def test_without_records_nobody_has_called(tmp_path: Path) -> None:
    known = Callers()
    known.read(f"sqlite:///{tmp_path / 'records.db'}", tmp_path / "spool")
    assert known.before("+491701") == 0
    assert not (tmp_path / "records.db").exists()
