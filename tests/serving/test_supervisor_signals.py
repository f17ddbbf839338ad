"""SIGHUP: from the supervisor to a worker that can take it, and to no other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from telbridge.config import Settings
from telbridge.serving import workers
from telbridge.serving.births import Nursery
from telbridge.serving.children import Child
from telbridge.serving.nursery import Job
from telbridge.serving.supervisor import Supervisor

WORKER = """
import json, os, signal, sys
def say(**line): os.write(1, json.dumps(line).encode() + b"\\n")
def hangup(*_): say(event="hangup")
def fail(*_): sys.exit(0)
def main():
    if len(sys.argv) > 1:
        say(event="begun")
        while not sys.stdin.readline(): pass
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGTERM, fail)
    say(event="ready", sip="here")
    while True: signal.pause()
"""


class Said:
    """What a child said after it was ready."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, message: Any) -> None:
        self.queue.put_nowait(message["event"])

    async def next(self) -> str:
        return await asyncio.wait_for(self.queue.get(), 30)


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of a worker that is none."""
    (tmp_path / "pretended_worker.py").write_text(WORKER, "utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return "pretended_worker"


async def test_a_signal_to_the_supervisor_reaches_the_worker_and_ends_nobody(
    pretended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, said = asyncio.Event(), Said()
    monkeypatch.setattr(workers, "WORKER", pretended)
    monkeypatch.setattr(workers, "Child", lambda *args, **more: Child(*args, **{**more, "on_message": said}))
    settings = Settings.model_validate({"call": {"agent": "deepgram"}, "records": {"folder": tmp_path}})
    supervisor = Supervisor(settings, lambda _: ready.set(), Nursery())
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(ready.wait(), 30)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        assert await said.next() == "hangup"
    assert not running.done()
    supervisor.stop()
    await asyncio.wait_for(running, 30)


async def test_a_worker_that_is_still_starting_is_left_alone(pretended: str) -> None:
    """It has no handler yet, so that the signal would end it; and it is about to read the files anyway."""
    begun, go, said = asyncio.Event(), asyncio.Event(), Said()

    async def first_line() -> str:
        begun.set()
        await go.wait()
        return "{}"

    nursery = Nursery()
    child = Child(
        nursery, lambda: Job("worker", pretended, ["waits"]), first_line=first_line, on_message=said
    )
    starting = asyncio.create_task(child.start())
    await asyncio.wait_for(begun.wait(), 30)
    child.hang_up()
    go.set()
    await asyncio.wait_for(starting, 30)
    assert child.restarts == 0
    child.hang_up()
    assert await said.next() == "hangup"
    await child.stop(5)
    await nursery.aclose()


class Terminal:
    """The terminal that the supervisor was started in."""

    is_open = True

    def isatty(self) -> bool:
        return self.is_open


async def test_a_closed_terminal_ends_what_was_started_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(Settings(), lambda _: None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    supervisor._on_hangup(True)
    assert not supervisor._stop.is_set()
    terminal.is_open = False
    supervisor._on_hangup(False)  # started by a service manager: it never had one
    assert not supervisor._stop.is_set()
    supervisor._on_hangup(True)
    assert supervisor._stop.is_set()
