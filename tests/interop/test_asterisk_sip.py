"""What only the SIP trunk can, with a real Asterisk between caller and telbridge: transfers into its
dialplan, keys to the caller, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.bridge import PATIENCE_S
from tests.e2e.heard import heard, tones_hz
from tests.e2e.test_calls import scripted
from tests.interop.asterisk import Pbx, the_pbx

WITH_HEADER: Final = """
[from-phones]
exten => 804,1,Dial(PJSIP/${EXTEN}@telbridge,30,b(headers^add^1))
 same => n,Hangup()
"""
GREETING: Final = '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 400, words = "Welcome." }\n'
STILL_THERE: Final = '[[step]]\non = "text"\nmatch = "pressed 9"\nreply = { tone_hz = 600, ms = 400 }\n'


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbx]:
    yield from the_pbx(tmp_path_factory.mktemp("pbx"), {"extensions.conf": WITH_HEADER})


def with_dialplan(folder: Path, dialplan: str) -> dict[str, Any]:
    file = folder / "plan.toml"
    file.write_text(f'greeting = "Welcome."\n{dialplan}', "utf-8")
    return scripted(folder, GREETING + STILL_THERE, dialplans={"folder": str(file)})


async def test_a_transfer_takes_the_caller_into_the_dialplan(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    settings = with_dialplan(tmp_path, 'keys.0.transfer = "200"\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, "700")
        await call.play(bytes(24000))
        await call.dtmf("0")
        (record,) = await bridge.records(1)
        await call.play(bytes(16000))
        assert call.ended is None, "the caller is with extension 200"
        await call.hang_up()
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, 1000], pbx.asterisk.console[-4000:]
    assert record["ending"] == "transferred", record


async def test_a_transfer_to_nobody_leaves_the_caller_with_the_agent(
    pbx: Pbx, any_pjsua2: str, tmp_path: Path
) -> None:
    settings = with_dialplan(
        tmp_path, 'keys.0.transfer = "299"\non.transfer_failed = { tag = "came back" }\n'
    )
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, "700")
        await call.play(bytes(24000))
        await call.dtmf("0")
        await call.play(bytes(32000))
        await call.dtmf("9")
        await call.play(bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert [hz for hz, _ in groupby(tones_hz(heard(call)))] == [440, 600], pbx.asterisk.console[-4000:]
    assert record["ending"] == "caller_hung_up", record
    assert "came back" in record["tags"], record


async def test_keys_of_ours_reach_the_caller(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    settings = with_dialplan(tmp_path, 'keys.1.send_dtmf = "12#"\n')
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, "700")
        await call.play(bytes(24000))
        await call.dtmf("1")
        async with asyncio.timeout(PATIENCE_S):
            while call.received_digits != "12#":  # noqa: ASYNC110 - the phone has no event for it
                await asyncio.sleep(0.05)
        await call.hang_up()
        await bridge.records(1)


async def test_headers_of_the_pbx_choose_the_dialplan(pbx: Pbx, any_pjsua2: str, tmp_path: Path) -> None:
    settings = with_dialplan(
        tmp_path, 'match.headers.X-Queue = "support"\non.answered = { tag = "support" }\n'
    )
    async with pbx.serving(any_pjsua2, tmp_path, settings) as (bridge, phone):
        call = await pbx.dial(phone, "804")
        await call.play(bytes(8000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert record["tags"] == ["support"], record
