"""A supervisor whose processes only pretend: no modules to load, no pjsua2, no port but the admin's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from telbridge.config import Settings
from telbridge.serving import planning
from telbridge.serving.births import Nursery
from telbridge.serving.supervisor import Supervisor
from tests.ports import free_port

PRETENDED = {
    "pretended_cap": """
def main():
    print(1024, flush=True)
""",
    # It hears what it is told, and tells a file of it.
    "pretended_dispatcher": """
import json, os, sys, time
def main():
    sys.stdin.readline()
    print(json.dumps({"event": "ready", "sip": "here", "inner_port": 1}), flush=True)
    for line in sys.stdin:
        with open("dispatcher.log", "a") as log:
            log.write(line)
        order = json.loads(line)
        while order["do"] == "up" and os.path.exists("dispatcher_is_slow"):
            time.sleep(0.02)
        print(json.dumps({"event": "obeyed", "order": order}), flush=True)
""",
    # One call each; it ends when a file says so.
    "pretended_worker": """
import json, os, select, sys, time
def say(**line): print(json.dumps(line), flush=True)
def main():
    start = json.loads(sys.stdin.readline())
    if start["settings"]["log"]["level"] == "error":
        say(event="failed", error="this worker does not like its settings")
        return 1
    say(event="ready", sip_port=start["number"], max_calls=9, sip="here")
    retired = False
    while not (retired and os.path.exists("calls_are_over")):
        if select.select([sys.stdin], [], [], 0.02)[0]:
            line = sys.stdin.readline()
            if not line:
                return 0
            retired |= "retire" in line
""",
    "pretended_planning": """
def main():
    print(open("plan.json").read(), flush=True)
""",
}


def settings_of(folder: Path, **sections: Mapping[str, Any]) -> Settings:
    given = {
        "call": {"agent": "deepgram"},
        "records": {"folder": str(folder)},
        "admin": {"port": free_port()},
        "sip": {"dispatcher": True},
        "log": {"level": "info"},
    }
    return Settings.model_validate({**given, **sections})


def plan_to_be(folder: Path, settings: Settings, *, local: bool = False, version: str = "9.9") -> None:
    made = planning.plan(settings, [settings.sip], local=local)
    text = json.dumps({**asdict(made), "version": version})
    (folder / "plan.json").write_text(text, "utf-8")


@asynccontextmanager
async def starting(settings: Settings) -> AsyncIterator[tuple[Supervisor, asyncio.Event]]:
    """With what is set once it says that it serves."""
    ready = asyncio.Event()
    made = Supervisor(settings, lambda _: ready.set(), Nursery())
    serving = asyncio.create_task(made.run())
    try:
        yield made, ready
    finally:
        made.stop()
        await asyncio.wait_for(serving, 60)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Supervisor]:
    async with starting(settings) as (made, ready):
        await asyncio.wait_for(ready.wait(), 30)
        yield made


def told(folder: Path) -> list[tuple[str, int]]:
    """What the dispatcher has heard."""
    log = folder / "dispatcher.log"
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return [(order["do"], order["number"]) for order in map(json.loads, lines)]


def let_calls_end(folder: Path) -> None:
    (folder / "calls_are_over").touch()


def hold_up_dispatcher(folder: Path) -> None:
    """It hears of a worker, and does not take it yet."""
    (folder / "dispatcher_is_slow").touch()


def let_dispatcher_go_on(folder: Path) -> None:
    (folder / "dispatcher_is_slow").unlink()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.02)
