"""An agent that fails, however it fails: spoken words instead of silence, and the process lives."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav, write_wav
from telbridge.caller.handle import CallHandle
from telbridge.caller.softphone import Softphone
from telbridge.serving.apology import apology_path
from tests.e2e.bridge import Bridge, serving
from tests.e2e.heard import Samples, contains, heard, quiet_at_end_ms, tones_hz
from tests.ports import free_port

AT_ONCE = '[[step]]\non = "start"\nmisdeed = "{misdeed}"\n'
AT_GREETING = '[[step]]\non = "request"\nmisdeed = "{misdeed}"\n'

CASES = {
    "closes at once": (AT_ONCE.format(misdeed="close"), "agent_unreachable"),
    "breaks the connection at once": (AT_ONCE.format(misdeed="abort"), "agent_unreachable"),
    "sends garbage at once": (AT_ONCE.format(misdeed="garbage"), "agent_unreachable"),
    "sends no object at once": (AT_ONCE.format(misdeed="not_an_object"), "agent_unreachable"),
    "never takes the configuration": ('updates = "ignore"\n', "agent_unreachable"),
    "refuses the configuration": ('updates = "refuse"\n', "agent_refused"),
    "sends garbage instead of a greeting": (AT_GREETING.format(misdeed="garbage"), "agent_lost"),
    "sends audio of an unknown reply": (AT_GREETING.format(misdeed="strange_audio"), "agent_lost"),
    "sends no base64": (AT_GREETING.format(misdeed="bad_base64"), "agent_lost"),
    "closes in mid-call": (AT_GREETING.format(misdeed="close"), "agent_lost"),
    "breaks in mid-call": (AT_GREETING.format(misdeed="abort"), "agent_lost"),
    "expires": (AT_GREETING.format(misdeed="expire"), "agent_lost"),
}


class Misbehaving:
    """One bridge, and in this process one agent after the other, at the address where the bridge looks."""

    def __init__(self, bridge: Bridge, phone: Softphone, agent_port: int, folder: Path) -> None:
        self.bridge, self.phone, self.agent_port = bridge, phone, agent_port
        self._folder = folder
        self._calls = 0

    @asynccontextmanager
    async def agent(self, script: str) -> AsyncIterator[None]:
        file = self._folder / "script.toml"
        file.write_text(script, "utf-8")
        async with serve(AgentSettings(brain="script", script=file, port=self.agent_port)):
            yield

    async def call(self) -> CallHandle:
        self._calls += 1
        call = await self.phone.call(self.bridge.uri)
        await call.wait_answered(30)
        return call

    async def record(self) -> dict[str, Any]:
        """Of the last call."""
        return (await self.bridge.records(self._calls))[-1]


@asynccontextmanager
async def misbehaving(pjsua2: str, folder: Path) -> AsyncIterator[tuple[Misbehaving, Samples]]:
    """And the first words of the apology: the tests need not hear all of it."""
    sorry, words = folder / "sorry.wav", load_wav(apology_path(), PCM_8K)[: 16 * 800]
    write_wav(sorry, [words], 8000)
    agent_port = free_port()
    settings: dict[str, Any] = {
        "call": {
            "agent": "openai_realtime",
            "apology_wav": str(sorry),
            "setup_timeout_s": 1,
            "connect_timeout_s": 1,
            "reply_timeout_s": 1,
        },
        "openai_realtime": {"url": f"ws://127.0.0.1:{agent_port}/v1/realtime", "api_key": '{ env = "HOME" }'},
    }
    async with serving(pjsua2, folder, settings) as bridge, Softphone("127.0.0.1") as phone:
        yield Misbehaving(bridge, phone, agent_port, folder), np.frombuffer(words, "<i2")


async def test_the_caller_hears_an_apology_whatever_the_agent_does_and_the_server_goes_on(
    any_pjsua2: str, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    async with misbehaving(any_pjsua2, tmp_path) as (bed, words):
        for case, (script, ending) in CASES.items():
            with subtests.test(case):
                async with bed.agent(script):
                    call = await bed.call()
                    await call.wait_ended(30)
                record = await bed.record()
                assert record["ending"] == ending, record
                assert contains(heard(call), words) > 0.9, "no apology was heard"
                assert quiet_at_end_ms(heard(call)) >= 40, "or a phone cuts the last word off"
                assert bed.bridge.logged("apology", call_id=record["call_id"])
        assert not bed.bridge.logged("child_died")
        async with bed.agent('[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 300 }\n'):
            call = await bed.call()
            await call.play(bytes(16000))
            await call.hang_up()
        assert set(tones_hz(heard(call))) == {440}, "the next call is not fine"


async def test_an_agent_that_takes_the_connection_and_never_says_a_word_is_replaced_by_an_apology(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with misbehaving(any_pjsua2, tmp_path) as (bed, words):
        with socket.create_server(("127.0.0.1", bed.agent_port)):
            call = await bed.call()
            await call.wait_ended(30)
        assert contains(heard(call), words) > 0.9
        assert (await bed.record())["ending"] == "agent_unreachable"


async def test_thirty_seconds_of_audio_in_one_message_are_played_and_can_be_interrupted(
    any_pjsua2: str, tmp_path: Path
) -> None:
    script = AT_GREETING.format(misdeed="huge_audio")
    script += '[[step]]\non = "caller_starts"\nevent = "speech_started"\n'
    rng = np.random.default_rng(1)
    async with misbehaving(any_pjsua2, tmp_path) as (bed, _), bed.agent(script):
        call = await bed.call()
        await call.play(bytes(16000) + (rng.standard_normal(4000) * 3000).astype("<i2").tobytes())
        (cut,) = await bed.bridge.until_logged("barge_in")
        await call.hang_up()
    assert cut["heard_ms"] + cut["discarded_ms"] == pytest.approx(30_000, abs=2)
    assert set(tones_hz(heard(call))) == {440}


async def test_an_unknown_message_changes_nothing(any_pjsua2: str, tmp_path: Path) -> None:
    script = AT_ONCE.format(misdeed="unknown_event")
    script += '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 300 }\n'
    async with misbehaving(any_pjsua2, tmp_path) as (bed, _), bed.agent(script):
        call = await bed.call()
        await call.play(bytes(16000))
        await call.hang_up()
        assert (await bed.record())["faults"] == {"unknown_message": 1}
    assert set(tones_hz(heard(call))) == {440}
