"""Where pretended processes live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from telbridge.serving import supervisor, workers
from tests.serving.pretended import PRETENDED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PRETENDED.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "PRELOAD", ())
    monkeypatch.setattr(supervisor, "PLANNING", "pretended_planning")
    monkeypatch.setattr(workers, "WORKER", "pretended_worker")
    monkeypatch.setattr(workers, "DISPATCHER", "pretended_dispatcher")
    monkeypatch.setattr(workers, "_CAP", workers.Job("cap", "pretended_cap"))
    return tmp_path
