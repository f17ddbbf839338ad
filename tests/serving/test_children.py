"""What the supervisor does with a child that hangs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from telbridge.serving import children
from telbridge.serving.births import Nursery
from telbridge.serving.children import Child
from telbridge.serving.nursery import Job

CHILD = """
import json, sys, time
def main():
    for event in sys.argv[1:]:
        print(json.dumps({"event": event, "has_pulse": "pulse" in sys.argv}), flush=True)
    while True:
        time.sleep(60)
"""


async def test_a_child_without_pulse_is_replaced_but_not_one_that_is_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quiet_child.py").write_text(CHILD, "utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setattr(children, "LOOK_S", 0.02)
    nursery = Nursery()
    said: list[Any] = []
    ready: asyncio.Queue[Any] = asyncio.Queue()

    def child(*events: str, **more: Any) -> Child:
        job = Job("quiet", "quiet_child", events)
        return Child(nursery, lambda: job, on_message=said.append, **more)

    never = child("ready", "news")
    ending = child("ready", "pulse", "last_pulse")
    hung = child("ready", "pulse", "pulse", on_ready=ready.put_nowait)
    for one in (never, ending, hung):
        await asyncio.wait_for(one.start(), 20)
    for _ in range(2):
        await asyncio.wait_for(ready.get(), 20)
    assert (never.restarts, ending.restarts) == (0, 0)
    assert [message["event"] for message in said] == ["news"], "a pulse is no news"
    await asyncio.gather(*(one.stop(10) for one in (never, ending, hung)))
    await nursery.aclose()
