"""Whatever ends a session, nothing of it goes on running."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog
from aiohttp import web

from telbridge.call.events import SessionLost
from telbridge.sessions.base import HttpRequest
from telbridge.sessions.connection import LOSSES, AgentConnection
from tests.sessions.ws_bed import NOW, a_protocol, turns


async def test_a_bug_in_time_passed_comes_out_of_run_and_closes_the_socket(server, http):
    async def script(ws):
        await server.set_up(ws)
        while await server.hear(ws):
            pass

    def bug(*, now_ns):
        raise TimeoutError("a bug that looks like a deadline")

    server.script = script
    protocol = a_protocol(server.url)
    protocol.deadline_ns = lambda: time.monotonic_ns() + 20_000_000
    protocol.time_passed = bug
    with pytest.raises(TimeoutError, match="a bug"):
        await AgentConnection(protocol, http, log=structlog.get_logger()).run(lambda event: None)
    await server.left.wait()
    assert not http.connector._acquired


@pytest.mark.parametrize("wait_s", [0.0, 30.0])
async def test_close_during_an_http_step_that_hangs_ends_at_once(http, wait_s):
    async def handle(request):
        await asyncio.sleep(30)

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    protocol = a_protocol("ws://127.0.0.1:1")
    protocol.next_step = lambda: HttpRequest("POST", url, after_s=wait_s)
    protocol.http_answered = lambda status, headers, body: None
    session = AgentConnection(protocol, http, log=structlog.get_logger())
    task = asyncio.create_task(session.run(lambda event: None))
    await asyncio.sleep(0.05)
    session.close()
    async with asyncio.timeout(8):
        assert (await task).detail == "closed by us"
    await runner.cleanup()
    assert not http.connector._acquired


async def test_reconnects_leave_no_timer_and_no_task(server, dial):
    async def script(ws):
        await server.set_up(ws)
        server.transport.abort()

    server.script = script
    call = dial(server.url, reconnect_after_s=NOW)
    await call.end()
    await turns(20)
    assert sum(isinstance(event, SessionLost) for event in call.events) == LOSSES
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks() - {asyncio.current_task()}]
    assert not [name for name in names if "Link" in name or "Agent" in name]
    loop = asyncio.get_running_loop()
    mine = [h for h in getattr(loop, "_scheduled", []) if not h.cancelled() and "sessions" in repr(h)]
    assert not mine
