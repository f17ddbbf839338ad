"""The running agent: the vendor's own client against it, and its process seen from outside."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings

PCMU: Any = {"type": "audio/pcmu"}
PCMU_BOTH: Any = {"input": {"format": PCMU}, "output": {"format": PCMU}}
Judge = Callable[[dict[str, Any]], None]


def client_of(port: int, key: str = "k") -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=f"http://127.0.0.1:{port}/v1")


@asynccontextmanager
async def connected(settings: AgentSettings, **options: Any) -> AsyncIterator[Any]:
    """The vendor's client on a session of an agent of its own."""
    async with (
        serve(settings) as port,
        client_of(port) as client,
        client.realtime.connect(model="gpt-realtime-2.1", **options) as connection,
    ):
        yield connection


async def until(connection: Any, kind: str, judge: Judge | None = None) -> dict[str, Any]:
    """Receive up to the first event of a kind; each one judged."""
    while True:
        message: dict[str, Any] = json.loads(await connection.recv_bytes())
        if judge is not None:
            judge(message)
        if message["type"] == kind:
            return message


def script_file(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return AgentSettings(brain="script", script=path)


async def test_the_vendors_client_hears_its_own_audio(judge: Judge) -> None:
    async with connected(AgentSettings(brain="echo")) as connection:
        await until(connection, "session.created", judge)
        await connection.session.update(session={"type": "realtime", "audio": PCMU_BOTH})
        await until(connection, "session.updated", judge)
        frames = [b64encode(bytes([n]) * 160).decode() for n in range(20)]
        for frame in frames:
            await connection.input_audio_buffer.append(audio=frame)
        heard = [(await until(connection, "response.output_audio.delta", judge))["delta"] for _ in frames]
        assert heard == frames


async def test_the_echo_answers_in_the_format_that_was_asked_for(judge: Judge) -> None:
    async with connected(AgentSettings(brain="echo")) as connection:
        audio: Any = {"input": {"format": PCMU}, "output": {"format": {"type": "audio/pcma"}}}
        await connection.session.update(session={"type": "realtime", "audio": audio})
        await connection.input_audio_buffer.append(audio=b64encode(b"\xff" * 160).decode())
        delta = await until(connection, "response.output_audio.delta", judge)
        assert b64decode(delta["delta"]) == b"\xd5" * 160


async def test_a_minute_arrives_in_one_burst_and_speech_started_behind_it(
    tmp_path: Path, judge: Judge
) -> None:
    settings = script_file(
        tmp_path,
        """
        [[step]]
        on = "request"
        reply = { tone_hz = 440, ms = 60000, words = "A long story." }
        [[step]]
        on = "reply_started"
        after_ms = 30
        event = "speech_started"
        """,
    )
    async with connected(settings) as connection:
        await connection.session.update(session={"type": "realtime", "audio": PCMU_BOTH})
        await connection.response.create()
        octets, kind = 0, ""
        while kind != "input_audio_buffer.speech_started":
            message = json.loads(await connection.recv_bytes())
            judge(message)
            kind = message["type"]
            octets += len(b64decode(message["delta"])) if kind == "response.output_audio.delta" else 0
        assert octets == 60 * 8000


@pytest.mark.parametrize(("misdeed", "code"), [("close", 1011), ("expire", 1001), ("abort", None)])
async def test_a_script_can_end_the_session(tmp_path: Path, misdeed: str, code: int | None) -> None:
    settings = script_file(tmp_path, f'[[step]]\non = "configured"\nmisdeed = "{misdeed}"')
    async with connected(settings) as connection:
        await connection.session.update(session={"type": "realtime"})
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as caught:
            await until(connection, "never")
        assert (caught.value.rcvd.code if caught.value.rcvd else None) == code


async def test_a_script_can_leave_updates_unanswered(tmp_path: Path) -> None:
    async with connected(script_file(tmp_path, 'updates = "ignore"')) as connection:
        await until(connection, "session.created")
        await connection.session.update(session={"type": "realtime"})
        await connection.input_audio_buffer.clear()
        assert json.loads(await connection.recv_bytes())["type"] == "input_audio_buffer.cleared"


async def test_the_beta_header_is_answered_by_close_4000() -> None:
    async with serve(AgentSettings(brain="echo")) as port, client_of(port) as client:
        headers = {"OpenAI-Beta": "realtime=v1"}
        async with client.realtime.connect(model="m", extra_headers=headers) as connection:
            with pytest.raises(ConnectionClosedError) as caught:
                await connection.recv()
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 4000


async def test_a_wrong_key_is_refused_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    async with serve(AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")) as port:
        async with client_of(port, "right") as client, client.realtime.connect(model="m") as connection:
            await until(connection, "session.created")
        async with client_of(port, "wrong") as client:
            with pytest.raises(InvalidStatus):
                await client.realtime.connect(model="m").enter()


async def test_a_session_expires(judge: Judge) -> None:
    async with connected(AgentSettings(brain="echo", max_session_s=0.05)) as connection:
        error = await until(connection, "error", judge)
        assert error["error"]["code"] == "session_expired"
        with pytest.raises(ConnectionClosedOK) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001


async def test_a_client_that_reads_nothing_is_still_heard(tmp_path: Path) -> None:
    """Audio that cannot be written must not keep the reader from reading."""
    settings = script_file(
        tmp_path,
        '[[step]]\non = "request"\nreply = { silence = true, ms = 1800000, chunk_ms = 1000 }\n'
        '[[step]]\non = "text"\nmisdeed = "abort"',
    )
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]}
    async with (
        serve(settings) as port,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{port}/v1/realtime?model=m", max_msg_size=0) as socket,
    ):
        await socket.send_json({"type": "response.create"})
        await socket.send_json({"type": "conversation.item.create", "item": item})
        with pytest.raises(ConnectionError):
            while True:
                await asyncio.sleep(0)
                await socket.send_json({"type": "input_audio_buffer.clear"})


async def start_process(*arguments: str, **options: Any) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telbridge.agent", *arguments, stdout=asyncio.subprocess.PIPE, **options
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def test_the_process_says_when_it_is_ready_and_ends_on_sigterm() -> None:
    process, ready = await start_process("--brain", "echo")
    assert ready["event"] == "ready"
    async with client_of(ready["port"]) as client, client.realtime.connect(model="m") as connection:
        await until(connection, "session.created")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()
    assert await process.wait() == 0
    assert process.stdout is not None and await process.stdout.read() == b""


async def test_the_process_ends_with_its_parent() -> None:
    process, _ = await start_process("--brain", "echo", "--exit-with-parent", stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--brain", "script"], "brain `script` needs `script`"),
        (["--brain", "chat"], "brain `chat` needs `chat.url`"),
        (["--brain", "script", "--script", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
    ],
)
async def test_the_process_says_what_is_wrong_in_one_line(arguments: list[str], said: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telbridge.agent", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert said in errors.decode() and errors.count(b"\n") == 1


async def test_what_a_client_offers_as_subprotocol_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    offered = ("realtime", "openai-insecure-api-key.sk-secret")
    async with serve(AgentSettings(brain="echo")) as port, aiohttp.ClientSession() as http:
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=gpt-realtime-2.1"
        async with http.ws_connect(url, protocols=offered) as socket:
            await socket.receive()
    assert "subprotocols" in caplog.text
    assert "sk-secret" not in caplog.text
