"""Returning callers are known from the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telbridge.ops import callers
from telbridge.ops.callers import Callers


def written(folder: Path, *calls: tuple[str, float | None], more: str = "") -> Path:
    file = folder / "calls.jsonl"
    lines = [json.dumps({"caller": caller, "answered_ms": answered_ms}) for caller, answered_ms in calls]
    file.write_text("\n".join([*lines, more]) + "\n", "utf-8")
    return file


def test_answered_calls_count_and_hidden_numbers_do_not(tmp_path: Path) -> None:
    known = Callers()
    known.read(written(tmp_path, ("+491", 20.0), ("+491", 30.0), ("+492", None), ("", 20.0)))
    assert [known.before(caller) for caller in ("+491", "+492", "", "+499")] == [2, 0, 0, 0]
    known.called("+499")
    assert known.before("+499") == 1


def test_a_torn_line_costs_nobody_else(tmp_path: Path) -> None:
    known = Callers()
    known.read(written(tmp_path, ("+491", 20.0), more='{"caller": "+4'))
    known.read(written(tmp_path, ("+491", 20.0), more="[1]"))
    assert known.before("+491") == 2


def test_without_records_nobody_has_called(tmp_path: Path) -> None:
    known = Callers()
    known.read(tmp_path / "none.jsonl")
    assert known.before("+491") == 0


def test_of_a_long_file_the_newest_calls_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, *[("+491", 1.0)] * 10, ("+492", 1.0))
    monkeypatch.setattr(callers, "READ_MOST", 100)
    known = Callers()
    known.read(file)
    assert known.before("+492") == 1
    assert 0 < known.before("+491") < 10
