"""A call leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).parent / "leak_child.py"


def test_two_hundred_calls_leave_no_task_thread_socket_or_object_behind(pjsua2: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path / "calls.jsonl")],
        env={**os.environ, "TELBRIDGE_PJSUA2": pjsua2, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    before, after = (line for line in lines if "event" not in line)  # The others are a worker's own.
    grown = {what: (before.get(what, 0), n) for what, n in after.items() if n > before.get(what, 0)}
    assert not grown
