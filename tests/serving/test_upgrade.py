"""What an upgrade asks of the processes, and what stops it, with processes that only pretend."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telbridge.config import Settings
from telbridge.serving import planning
from telbridge.serving.children import ChildFailed
from telbridge.serving.upgrade import cannot_change
from tests.serving.pretended import (
    hold_up_dispatcher,
    let_calls_end,
    let_dispatcher_go_on,
    plan_to_be,
    running,
    settings_of,
    starting,
    told,
    until,
)


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


async def test_a_worker_counts_once_the_dispatcher_gives_it_calls(folder: Path) -> None:
    settings = settings_of(folder)
    plan_to_be(folder, settings)
    hold_up_dispatcher(folder)
    async with starting(settings) as (serving, ready):
        await until(lambda: told(folder) == [("up", 1)])
        assert serving._not_ready() == ["no worker is ready"] and not ready.is_set()
        let_dispatcher_go_on(folder)
        await asyncio.wait_for(ready.wait(), 30)
        assert serving._not_ready() == []

        hold_up_dispatcher(folder)
        upgrade = asyncio.create_task(serving.upgrade())
        await until(lambda: told(folder) == [("up", 1), ("up", 2)])
        assert serving._workers.retiring == 0, "the old one takes the calls"
        let_dispatcher_go_on(folder)
        await upgrade
        assert serving._workers.retiring == 1
        let_calls_end(folder)


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
