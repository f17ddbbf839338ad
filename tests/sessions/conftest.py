"""An OpenAI session without a network: what the server says goes in, what we say comes out."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import trustme
from aiohttp import web

from telbridge.audio.formats import PCMU_8K, AudioFormat
from telbridge.call.events import AgentEvent, ReplyId
from telbridge.call.playout import Heard
from telbridge.sessions.base import Opening
from telbridge.sessions.connection import AgentConnection, make_http_session
from telbridge.sessions.link import Patience
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings
from tests.sessions.ws_bed import Call, Server, a_protocol

try:
    import uvloop
except ImportError:  # wherever it does not install
    uvloop = None

NOW_NS = 7_000_000


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The shell runs on both loops: their transports write at different moments."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if uvloop is not None:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


class OpenAISession:
    """The protocol under test with the server's vocabulary as methods."""

    def __init__(self, *, wire: AudioFormat = PCMU_8K, ready: bool = True, **settings: Any) -> None:
        self.all_sent: list[dict[str, Any]] = []
        opening = Opening("call-1", wire, {"OPENAI_API_KEY": "sk-secret"})
        self.follows(OpenAIRealtime(OpenAISettings(**settings), opening), ready=ready)

    def follows(self, protocol: OpenAIRealtime, *, ready: bool = True) -> None:
        """Go on with this one."""
        self.protocol = protocol
        if ready:
            self.receives("session.created", session={})
            self.receives("session.updated", session={})
            self.sent()

    def receives(self, type: str, /, **fields: Any) -> list[AgentEvent]:
        """A server event; returns what the call is told."""
        message = json.dumps({"type": type, "event_id": "event_1", **fields})
        return self.protocol.receive(message, now_ns=NOW_NS)

    def sent(self) -> list[dict[str, Any]]:
        """What we said since the last look."""
        messages = [json.loads(message) for message in self.protocol.data_to_send()]
        self.all_sent += messages
        return messages

    def calls(self, response: str, call_id: str, **fields: Any) -> list[AgentEvent]:
        """The agent asks for a tool."""
        call = {"call_id": call_id, "name": "balance", "arguments": '{"a":1}', **fields}
        item = {"type": "function_call", "status": "completed", **call}
        return self.receives("response.output_item.done", response_id=response, item=item)

    def takes_the_update(self, **session: Any) -> list[AgentEvent]:
        return self.receives("session.updated", session=session)

    def sent_types(self) -> list[str]:
        return [message["type"] for message in self.sent()]

    def begins(self, response: str) -> list[AgentEvent]:
        return self.receives("response.created", response={"id": response, "status": "in_progress"})

    def speaks(self, response: str, audio: bytes, *, item: str = "item_1") -> list[AgentEvent]:
        return self.receives(
            "response.output_audio.delta",
            response_id=response,
            item_id=item,
            output_index=0,
            content_index=0,
            delta=base64.b64encode(audio).decode(),
        )

    def ends(self, response: str, status: str = "completed", **details: Any) -> list[AgentEvent]:
        response_fields = {"id": response, "status": status, "status_details": details or None}
        return self.receives("response.done", response=response_fields)

    def hears_the_caller(self) -> list[AgentEvent]:
        return self.receives("input_audio_buffer.speech_started", audio_start_ms=400, item_id="item_u")

    def fails(self, code: str | None, **error: Any) -> list[AgentEvent]:
        fields = {"type": "invalid_request_error", "message": "words of the API", "code": code, **error}
        return self.receives("error", error=fields)

    def heard(self, reply: int, ms: int) -> list[tuple[str, int]]:
        """Reports a flush at so many ms; the truncations that follow, as (item, ms)."""
        self.protocol.report_heard([Heard(ReplyId(reply), ms * 8, 0, 8000)])
        truncations = self.sent()
        assert all(one["type"] == "conversation.item.truncate" for one in truncations)
        return [(one["item_id"], one["audio_end_ms"]) for one in truncations]


@pytest.fixture
def openai_session() -> Callable[..., OpenAISession]:
    return OpenAISession


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """Who signs the certificates of the tests' servers, and the file that says so."""
    authority = trustme.CA()
    root = tmp_path_factory.mktemp("authority") / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    return authority, root


@pytest.fixture(params=["ws", "wss"])
async def server(request: pytest.FixtureRequest, authority: tuple[trustme.CA, Path]) -> AsyncIterator[Server]:
    """In the clear and behind TLS: sessions must not know the difference."""
    the_server = Server()
    app = web.Application()
    app.router.add_get("/v1/realtime", the_server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = None
    if request.param == "wss":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority[0].issue_cert("127.0.0.1").configure_cert(tls)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    the_server.url = f"{request.param}://127.0.0.1:{port}/v1/realtime"

    yield the_server
    await runner.cleanup()


@pytest.fixture
def trusted(authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts that are made from now on trust the tests' servers."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))


@pytest.fixture
async def http(trusted: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with make_http_session() as session:
        yield session


@pytest.fixture
async def dial(http) -> AsyncIterator[Callable[..., Call]]:
    """Starts a session; when the test is over nothing of it may be left running."""
    calls: list[Call] = []

    def start(url: str, *, reconnect_after_s: Sequence[float] = (), **options: float) -> Call:
        protocol = a_protocol(url)
        patience = Patience(**{"connect_s": 2.0, "setup_s": 2.0, "close_s": 0.2, **options})
        call = Call(
            AgentConnection(
                protocol,
                http,
                log=structlog.get_logger(),
                patience=patience,
                reconnect_after_s=reconnect_after_s,
            )
        )
        calls.append(call)
        return call

    yield start
    assert all(call.task.done() for call in calls)
    assert not http.connector._acquired
