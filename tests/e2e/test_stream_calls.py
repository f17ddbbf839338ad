"""Calls by media stream through a real server and the embedded agent, as carriers and operators see them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K
from telbridge.audio.g711 import ulaw_to_pcm16
from telbridge.audio.wav import load_wav, write_wav
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.line import DialEnd
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.twiml import Dial
from telbridge.caller.streams.webhook import Account, Refusal
from telbridge.serving.apology import apology_path
from tests.e2e.bridge import Bridge, serving
from tests.e2e.heard import Samples, contains, say_until, tones_hz, until
from tests.e2e.test_providers import ANSWER_HZ, CONVERSATION, GOODBYE_HZ, GREETING_HZ, noise, talking_to
from tests.ports import free_port

DESK = "+15005550010"
TOKEN = "0123456789abcdef0123456789abcdef"
ECHO: dict[str, Any] = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}


@pytest.fixture(autouse=True)
def _auth_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)


@asynccontextmanager
async def phone() -> AsyncIterator[StreamPhone]:
    async with StreamPhone(account=Account(TEST_ACCOUNT, TOKEN)) as one:
        yield one


def heard(call: StreamCall) -> Samples:
    return np.frombuffer(b"".join(ulaw_to_pcm16(packet.payload) for packet in call.received), "<i2")


async def _until_heard(call: StreamCall, hz: int, ms: int = 50) -> None:
    await until(lambda: tones_hz(heard(call)).count(hz) * 50 >= ms)


def address(bridge: Bridge, kind: str) -> str:
    return bridge.twilio if kind == "twilio" else bridge.generic


@pytest.mark.parametrize("kind", ["twilio", "generic"])
async def test_an_echoing_agent_is_heard(kind: str, any_pjsua2: str, tmp_path: Path) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, phone() as one:
        call = await one.call(address(bridge, kind))
        await bridge.until_logged("answered")
        words = np.frombuffer(noise(0.5), "<i2")
        await say_until(call, bytes(1600) + noise(0.5), lambda: contains(heard(call), words) > 0.98)
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert (record["ingress"], record["ending"], record["codec"]) == (kind, "caller_hung_up", "pcmu/8000")
    assert call.facts.complaints == []


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("twilio", "openai_realtime"), ("twilio", "deepgram"), ("generic", "openai_realtime")],
)
async def test_a_whole_conversation(kind: str, provider: str, any_pjsua2: str, tmp_path: Path) -> None:
    """Greeting, interruption, answer, key, tool, goodbye; then we hang up, after the last word."""
    async with talking_to(provider, any_pjsua2, tmp_path, CONVERSATION) as bridge, phone() as one:
        call = await one.call(address(bridge, kind))
        await bridge.until_logged("answered")
        await _until_heard(call, GREETING_HZ)
        await call.play(noise(0.4) + bytes(8000))
        await bridge.until_logged("barge_in")
        await _until_heard(call, ANSWER_HZ, 450)
        await call.dtmf("5")
        ended = await asyncio.wait_for(call.wait_ended(), 30)
        (record,) = await bridge.records(1)
    order = [hz for hz, _ in groupby(tones_hz(heard(call)))]
    assert order == [GREETING_HZ, ANSWER_HZ, GOODBYE_HZ], record
    assert (record["ending"], record["detail"]) == ("agent_hung_up", "by its tool"), record
    assert record["faults"] == {}, bridge.logged("session_fault")
    assert (ended.by, ended.code) == ("peer", 1000)
    (clear,) = call.facts.clears
    cut = next(turn["interruption"] for turn in record["turns"] if turn["interruption"])
    assert cut["heard_ms"] == pytest.approx(clear.played / 8, abs=40)
    assert cut["heard_ms"] + cut["discarded_ms"] == pytest.approx(20_000, abs=20)
    assert cut["stop_ms"] <= 5.0
    assert tones_hz(heard(call)).count(GOODBYE_HZ) * 50 >= 550, "the goodbye was cut"


async def test_an_agent_that_cannot_be_reached_is_apologised_for(any_pjsua2: str, tmp_path: Path) -> None:
    words = load_wav(apology_path(), PCM_8K)[: 16 * 800]
    sorry = tmp_path / "sorry.wav"
    write_wav(sorry, [words], 8000)
    settings: dict[str, Any] = {
        "call": {"agent": "openai_realtime", "apology_wav": str(sorry), "connect_timeout_s": 1},
        "openai_realtime": {
            "url": f"ws://127.0.0.1:{free_port()}/v1/realtime",
            "api_key": '{ env = "HOME" }',
        },
    }
    async with serving(any_pjsua2, tmp_path, settings) as bridge, phone() as one:
        call = await one.call(bridge.twilio)
        ended = await asyncio.wait_for(call.wait_ended(), 30)
        (record,) = await bridge.records(1)
    assert record["ending"] == "agent_unreachable"
    assert ended.by == "peer"
    assert contains(heard(call), np.frombuffer(words, "<i2")) > 0.9


async def test_a_draining_server_takes_no_streams_and_ends_the_last_at_the_deadline(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with serving(any_pjsua2, tmp_path, {**ECHO, "serve": {"drain_s": 1.5}}) as bridge, phone() as one:
        call = await one.call(bridge.twilio)
        await bridge.until_logged("answered")
        bridge.process.terminate()
        await bridge.until_logged("worker_draining")
        with pytest.raises(Refusal, match="503"):
            await one.call(bridge.twilio)
        await asyncio.wait_for(call.wait_ended(), 30)
        assert await asyncio.wait_for(bridge.process.wait(), 30) == 0
        (record,) = await bridge.records(1)
    assert record["ending"] == "drained"


async def test_a_default_port_that_is_taken_keeps_no_phone_call_away(any_pjsua2: str, tmp_path: Path) -> None:
    """Who asked for that port by a setting is told instead."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ = {**os.environ, "TELBRIDGE__HTTP__PORT": str(port), "TELBRIDGE__SIP__PORT": str(free_port())}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "telbridge", "serve", stderr=asyncio.subprocess.PIPE, env=environ
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert f"http.port: cannot listen on 127.0.0.1:{port}" in said.decode()
    assert "Traceback" not in said.decode()


async def test_the_command_calls_as_twilio_does(any_pjsua2: str, tmp_path: Path) -> None:
    words, recording = tmp_path / "words.wav", tmp_path / "call.wav"
    write_wav(words, [noise(0.5)], 8000)
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge:
        status, output = await _command(bridge.twilio, "--wav", str(words), "--record", str(recording))
        (record,) = await bridge.records(1)
    assert status == 0, output
    for rung in (
        "POST /twilio/voice",
        "stream opened, start",
        "agent speaks",
        "most buffered",
        "recorded in",
    ):
        assert rung in output, output
    assert record["ingress"] == "twilio"
    assert recording.stat().st_size > 16_000


async def test_the_command_says_why_a_call_is_refused(
    any_pjsua2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge:
        monkeypatch.setenv("TWILIO_AUTH_TOKEN", "another")
        status, output = await _command(bridge.twilio)
        assert bridge.logged("twilio_refused", why="wrong signature", path="/twilio/voice")
    assert status == 1
    assert "refused: webhook answered 403" in output
    assert "Traceback" not in output
    status, output = await _command("twilio+ws://127.0.0.1:9/twilio/stream")
    assert (status, "Traceback" in output) == (1, False), output


async def _command(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "telbridge",
        "call",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


SENT_ON = f"""
[[step]]
on = "request"
reply = {{ tone_hz = {ANSWER_HZ}, ms = 600, words = "Nobody is there." }}
"""


async def test_a_caller_whom_nobody_takes_comes_back_to_the_same_agent(
    any_pjsua2: str, tmp_path: Path
) -> None:
    """Sent on by a key, brought back and spoken to, sent on to somebody who is there; one record."""
    folder = tmp_path / "dialplans"
    folder.mkdir()
    dialplan = f"""
        keys.0 = {{ transfer = "{DESK}" }}
        on.transfer_failed = [{{ tag = "failed {{{{ cause }}}}" }}, {{ reply = "Say that nobody is there." }}]
    """
    (folder / "desk.toml").write_text(dialplan, "utf-8")
    ends = iter((DialEnd("busy"), DialEnd("answered", talk_s=0.5)))

    async def on_dial(_: Dial) -> DialEnd:
        return next(ends)

    settings = {"dialplans": {"folder": str(folder)}}
    async with (
        talking_to("openai_realtime", any_pjsua2, tmp_path, SENT_ON, settings) as bridge,
        StreamPhone(account=Account(TEST_ACCOUNT, TOKEN), on_dial=on_dial) as one,
    ):
        call = await one.call(bridge.twilio)
        await bridge.until_logged("answered")
        await call.dtmf("0")
        line = one.line(call)
        assert line is not None
        again = await asyncio.wait_for(line.stream(2), 30)
        assert again is not None
        await _until_heard(again, ANSWER_HZ, 550)
        await again.dtmf("0")
        (record,) = await bridge.records(1)
        await asyncio.wait_for(line.wait_over(), 30)
    assert tones_hz(heard(again)).count(ANSWER_HZ) * 50 >= 550, "the agent was not heard again"
    assert record["ending"] == "transferred"
    assert record["tags"] == ["failed 486"]
    assert record["carrier"]["DialCallStatus"] == "busy", record["carrier"]
    assert line.log[-4:] == [f"dial {DESK}", "dial ended: answered", "hangup", "over"]
    assert call.facts.complaints == again.facts.complaints == []
