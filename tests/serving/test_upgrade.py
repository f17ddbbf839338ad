"""What an upgrade asks of the processes, and what stops it, with processes that only pretend."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telbridge.config import Settings
from telbridge.serving import planning, supervisor, workers
from telbridge.serving.births import Nursery
from telbridge.serving.children import ChildFailed
from telbridge.serving.supervisor import Supervisor
from telbridge.serving.upgrade import cannot_change
from tests.e2e.bridge import free_port

PRETENDED = {
    "pretended_cap": """
def main():
    print(1024, flush=True)
""",
    # It hears what it is told, and tells a file of it.
    "pretended_dispatcher": """
import json, sys
def main():
    sys.stdin.readline()
    print(json.dumps({"event": "ready", "sip": "here", "inner_port": 1}), flush=True)
    for line in sys.stdin:
        with open("dispatcher.log", "a") as log:
            log.write(line)
        order = json.loads(line)
        if order["do"] == "retire":
            print(json.dumps({"event": "retired", "number": order["number"]}), flush=True)
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
    say(event="ready", sip_port=start["number"], max_calls=9, pjsua2="none")
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
async def running(settings: Settings) -> AsyncIterator[Supervisor]:
    ready = asyncio.Event()
    made = Supervisor(settings, lambda _: ready.set(), Nursery())
    serving = asyncio.create_task(made.run())
    await asyncio.wait_for(ready.wait(), 30)
    try:
        yield made
    finally:
        made.stop()
        await asyncio.wait_for(serving, 60)


def told(folder: Path) -> list[tuple[str, int]]:
    """What the dispatcher has heard."""
    lines = (folder / "dispatcher.log").read_text("utf-8").splitlines()
    return [(order["do"], order["number"]) for order in map(json.loads, lines)]


def let_calls_end(folder: Path) -> None:
    (folder / "calls_are_over").touch()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.02)


async def test_the_new_take_over_and_the_old_stay_until_their_last_call(folder: Path) -> None:
    settings = settings_of(folder)
    plan_to_be(folder, settings)
    async with running(settings) as serving:
        url = f"http://127.0.0.1:{settings.admin.port}/upgrade"
        async with aiohttp.ClientSession() as http:
            async with http.post(url) as answer:
                assert answer.status == 403, "a page of another site could have sent this"
            async with http.post(url, headers={"Telbridge-Command": "upgrade"}) as answer:
                assert await answer.json() == {"version": "9.9", "workers": 1, "retiring": 1}
        await until(lambda: told(folder) == [("up", 1), ("up", 2), ("retire", 1)])
        let_calls_end(folder)
        await until(lambda: serving._workers.retiring == 0)
        assert serving._not_ready() == []
        await until(lambda: told(folder)[-1] == ("gone", 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"log": {"level": "error"}}, "this worker does not like its settings"),
        ({"sip": {"dispatcher": True, "port": 5070}}, r"sip\.port cannot change while calls go on: restart"),
        ({"ari": {"url": "http://127.0.0.1:8088"}}, r"\[ari\]: .*: restart instead"),
    ],
)
async def test_what_is_wrong_with_the_new_leaves_the_old_as_they_were(
    folder: Path, change: Mapping[str, Any], why: str
) -> None:
    settings = settings_of(folder)
    changed = settings_of(folder, **change)
    plan_to_be(folder, settings.model_copy(update={name: getattr(changed, name) for name in change}))
    let_calls_end(folder)
    async with running(settings) as serving:
        before = serving._workers._workers[1].pid
        with pytest.raises(ChildFailed, match=why):
            await serving.upgrade()
        assert serving._workers._workers[1].pid == before and serving._not_ready() == []
        await until(lambda: serving._workers.retiring == 0)
        plan_to_be(folder, settings)
        assert (await serving.upgrade())["workers"] == 1, "a second try is possible"


async def test_mistakes_in_files_and_code_that_does_not_load_are_told(folder: Path) -> None:
    settings = settings_of(folder)
    async with running(settings) as serving:
        (folder / "plan.json").write_text('{"error": "telbridge.toml: sip.prot: no such setting"}', "utf-8")
        with pytest.raises(ChildFailed, match=r"telbridge\.toml: sip\.prot"):
            await serving.upgrade()
        (folder / "pretended_planning.py").write_text("import this_is_gone", "utf-8")
        with pytest.raises(ChildFailed, match="No module named 'this_is_gone'"):
            await serving.upgrade()
        let_calls_end(folder)


async def test_a_worker_that_owns_the_port_is_not_replaced(folder: Path) -> None:
    settings = settings_of(folder, sip={})
    async with running(settings) as serving:
        with pytest.raises(ChildFailed, match=r"set sip\.dispatcher = true and restart once"):
            await serving.upgrade()


def test_the_plan_names_the_mistakes_of_settings_and_dialplans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, dialplans = tmp_path / "telbridge.toml", tmp_path / "dialplans"
    dialplans.mkdir()
    monkeypatch.setattr(sys, "argv", ["planning", str(file)])

    def error() -> str:
        planning.main()
        return str(json.loads(capsys.readouterr().out)["error"])

    file.write_text("[sip]\nprot = 5070\n", "utf-8")
    assert "sip.prot: no such setting" in error()
    file.write_text(f'[dialplans]\nfolder = "{dialplans}"\n', "utf-8")
    (dialplans / "line.toml").write_text("greeting = ", "utf-8")
    assert "line.toml:1" in error()


def test_settings_of_processes_that_stay_may_not_change() -> None:
    before = Settings().model_dump(mode="json")
    again = {**before, "sip": {**before["sip"], "transports": before["sip"]["transports"][::-1], "news": 1}}
    assert list(cannot_change(before, again)) == []
    again["records"] = {**before["records"], "path": "elsewhere"}
    again["sip"]["allow"] = ["203.0.113.0/24"]
    assert list(cannot_change(before, again)) == ["records.path", "sip.allow"]
