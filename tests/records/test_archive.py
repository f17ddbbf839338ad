"""From a worker's hands to the database: through the disk, and whatever is down meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from telbridge.ops import archive as archive_module
from telbridge.ops import spool
from telbridge.ops.archive import Archive
from telbridge.ops.asking import StoreDown, Wanted
from telbridge.ops.spool import Spool
from telbridge.ops.store import Store
from tests.records.conftest import Postgres
from tests.records.made import record

SOON_S = 10.0


@contextmanager
def running(url: str, folder: Path, retention_days: int = 0) -> Iterator[Archive]:
    archive = Archive(url, folder, retention_days)
    archive.start()
    yield archive
    archive.stop()


def until(there: Callable[[], bool]) -> None:
    """The archive works in a thread of its own and tells nobody."""
    deadline = time.monotonic() + SOON_S
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def kept(url: str) -> list[str]:
    store = Store(url)
    try:
        return sorted(row["call_id"] for row in store.find(Wanted(), 10_000))
    finally:
        store.close()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- the disk


async def test_what_a_worker_put_waits_whole_under_the_name_of_its_call(tmp_path: Path) -> None:
    folder, ours = tmp_path / "deep" / "spool", record("../c/1", caller="Zoë")
    await Spool(folder).put(ours)
    assert left(folder) == ["..%2Fc%2F1.json"]
    assert [waiting.record for waiting in spool.waiting(folder)] == [ours]
    assert spool.read(folder, "../c/1") == ours


async def test_the_file_of_lines_gets_every_record_too(tmp_path: Path) -> None:
    worker = Spool(tmp_path / "spool", tmp_path / "lines" / "calls.jsonl")
    for call_id in ("c1", "c2"):
        await worker.put(record(call_id, caller="Zoë"))
    lines = (tmp_path / "lines" / "calls.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["call_id"] for line in lines] == ["c1", "c2"]
    assert "Zoë" in lines[0]


async def test_a_disk_that_refuses_costs_a_log_line_and_no_call(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with capture_logs() as lines:
        await Spool(tmp_path / "spool").put(record("c1"))
    assert [(line["event"], line["call_id"]) for line in lines] == [("record_lost", "c1")]


def test_a_process_that_dies_while_it_writes_leaves_no_half_record(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from telbridge.ops import spool\n"
        "os.fsync = lambda _: os._exit(9)\n"
        "spool.write(Path(sys.argv[1]), {'call_id': 'c1', 'ended_at': 'now'})"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert list(spool.waiting(tmp_path)) == []


def test_what_is_no_record_is_put_aside_for_a_person(tmp_path: Path) -> None:
    contents = {"a": "{half", "b": "[1]", "c": '{"call_id": "c"}', "d": json.dumps(record("d"))}
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(content)
    assert [waiting.record["call_id"] for waiting in spool.waiting(tmp_path)] == ["d"]
    assert left(tmp_path / "refused") == ["a.json", "b.json", "c.json"]


# ---------------------------------------------------------------- to the database


def test_what_waits_is_carried_and_then_gone_from_the_disk(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool.write(folder, record("before"))
    with running(url, folder) as archive:
        until(lambda: kept(url) == ["before"])
        spool.write(folder, record("c2"))
        archive.wake()
        until(lambda: left(folder) == [])
        assert (archive.get("c2") or {})["call_id"] == "c2"
        assert archive.get("never") is None
        spool.write(folder, record("last"))
    assert kept(url) == ["before", "c2", "last"]


def test_more_than_one_batch_is_carried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "BATCH", 3)
    for number in range(8):
        spool.write(tmp_path / "spool", record(f"c{number}"))
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with running(url, tmp_path / "spool"):
        pass
    assert len(kept(url)) == 8


def test_a_record_that_the_database_refuses_holds_up_no_other(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    for name in ("a", "b", "c"):
        spool.write(folder, record(name, **({"ended_at": "yesterday"} if name == "b" else {})))
    with capture_logs() as lines, running(url, folder):
        until(lambda: left(folder) == ["refused"])
    assert kept(url) == ["a", "c"]
    assert left(folder / "refused") == ["b.json"]
    assert [line["call_id"] for line in lines if line["event"] == "record_not_taken"] == ["b"]


def test_no_record_is_missing_after_the_database_was_down(postgres: Postgres, tmp_path: Path) -> None:
    url, folder = postgres.new_database(), tmp_path / "spool"
    with capture_logs() as lines, running(url, folder) as archive:
        for number in range(60):
            spool.write(folder, record(f"c{number:02}"))
            archive.wake()
            if number == 20:
                postgres.stop()
            if number == 40:
                until(lambda: archive.down)
                assert (archive.get("c40") or {})["call_id"] == "c40"
                with pytest.raises(StoreDown):
                    archive.find(Wanted(), 9)
                postgres.start()
        until(lambda: left(folder) == [])
    assert kept(url) == [f"c{number:02}" for number in range(60)]
    events = [line["event"] for line in lines]
    assert (events.count("records_wait"), events.count("records_go_on")) == (1, 1)


def test_a_crash_between_the_database_and_the_disk_doubles_nothing(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    store = Store(url)
    store.add([record("c1")])
    store.close()
    spool.write(folder, record("c1"))
    with running(url, folder):
        pass
    assert (kept(url), left(folder)) == (["c1"], [])


def test_records_past_their_days_are_deleted(url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    store = Store(url)
    store.add(
        [
            record("old", ended_at=(now - timedelta(days=31)).isoformat()),
            record("young", ended_at=(now - timedelta(days=29)).isoformat()),
        ]
    )
    store.close()
    with running(url, tmp_path / "spool", retention_days=30):
        until(lambda: kept(url) == ["young"])
