"""`telbridge upgrade`: other workers come, and no call notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner, Result

from telbridge.caller.softphone import Softphone
from telbridge.cli import app
from tests.e2e.bridge import Bridge, serving
from tests.e2e.test_several_workers import ECHO, talk, worker_of


async def upgrade(bridge: Bridge) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["upgrade", "--url", bridge.admin])


async def test_new_workers_take_new_calls_and_old_ones_end_with_theirs(
    any_pjsua2: str, tmp_path: Path
) -> None:
    folder = tmp_path / "dialplans"
    folder.mkdir()
    (folder / "line.toml").write_text('greeting = ""\n[on]\nanswered = { tag = "old" }', "utf-8")
    settings = {**ECHO, "sip": {"dispatcher": True}, "dialplans": {"folder": str(folder)}}
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        old = await phone.call(bridge.uri)
        await old.wait_answered(10)
        assert worker_of(old) == 1

        (folder / "line.toml").write_text('greeting = ""\n[on]\nanswered = { tag = "new" }', "utf-8")
        done = await upgrade(bridge)
        assert done.exit_code == 0, done.output
        assert "1 new workers take the calls; 1 old ones" in done.output
        fresh = await phone.call(bridge.uri)
        await fresh.wait_answered(10)
        assert worker_of(fresh) == 2
        assert await talk(old, fresh)
        await old.hang_up()
        await bridge.until_logged("worker_retired", number=1)
        assert await talk(fresh)
        await fresh.hang_up()
        records = await bridge.records(2)
    assert [record["tags"] for record in records] == [["old"], ["new"]]
    assert [record["ending"] for record in records] == ["caller_hung_up"] * 2
    assert not bridge.logged("child_died")
