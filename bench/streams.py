"""What a call by media stream costs and how late its echo is, beside a bare aiohttp echo of the same."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.figures import Figure, at_most, percentile, told
from bench.phone import undisturbed
from bench.processes import CpuClock, CpuShare, child, child_pid, echo_bridge, worker_pid
from telbridge.caller.streams.dialects import TwilioDialect
from telbridge.caller.streams.phone import CALLED, CALLER, TEST_ACCOUNT
from telbridge.caller.streams.webhook import Account, new_sid, post, read_twiml, sign, voice_form

CALLS: Final = 60
SETTLE_S: Final = 3.0
STEADY_S: Final = 15.0
MULTIPLE: Final = 3.5
ADDED_P95_MS: Final = 5.0
SPOKEN, CYCLE = 10, 40
"""Frames: 200 ms of every 800. The pauses let the bridge give back what a stall of this machine left."""
_QUIET: Final = b"\xff" * 160
_PAYLOAD: Final = '"payload":"'
_TOKEN: Final = "0123456789abcdef0123456789abcdef"


@dataclass(slots=True)
class Echoes:
    """Of all calls: by how much later each payload came back."""

    late_ms: list[float] = field(default_factory=list)
    sent: int = 0
    gaps_ms: list[float] = field(default_factory=list)
    """Between our own sendings."""
    counting: bool = False


class _Caller:
    """Speaks in random payloads, pauses, and knows them again. Parses no JSON: the load must stay light."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Any], dialect: TwilioDialect, echoes: Echoes):
        self._socket, self._dialect, self._echoes = socket, dialect, echoes
        self._out: dict[str, int] = {}

    async def talk(self, phase_s: float) -> None:
        loop = asyncio.get_running_loop()
        begin, number, last_ns = loop.time() + phase_s, 0, 0
        while not self._socket.closed:
            await asyncio.sleep(max(0.0, begin + number * 0.02 - loop.time()))
            number += 1
            spoken = number % CYCLE < SPOKEN
            payload = random.randbytes(160) if spoken else _QUIET
            message = self._dialect.media(payload)
            assert isinstance(message, str)
            now_ns = time.monotonic_ns()
            if self._echoes.counting and spoken:
                self._out[base64.b64encode(payload).decode()] = now_ns
                self._echoes.sent += 1
            if self._echoes.counting:
                self._echoes.gaps_ms.append((now_ns - last_ns) / 1e6)
            last_ns = now_ns
            await self._socket.send_str(message)

    async def listen(self) -> None:
        async for message in self._socket:
            text = message.data
            at = text.find(_PAYLOAD)
            if at >= 0:
                at += len(_PAYLOAD)
                sent_ns = self._out.pop(text[at : text.index('"', at)], None)
                if sent_ns is not None:
                    self._echoes.late_ms.append((time.monotonic_ns() - sent_ns) / 1e6)
            elif '"mark"' in text:
                name = text.split('"name":"')[1].split('"')[0]
                await self._socket.send_str(str(self._dialect.mark(name)))


async def measure() -> list[Figure]:
    os.environ["TWILIO_AUTH_TOKEN"] = _TOKEN
    async with child("bench.stream_floor") as floor:
        (bare,), floor_echoes = await _load(
            f"http://127.0.0.1:{floor['port']}", [floor["pid"]], webhook=False
        )
    async with echo_bridge("built") as bridge:
        pids = [worker_pid(bridge), child_pid(bridge.process.pid, "telbridge.agent")]
        (worker, agent), echoes = await _load(f"http://127.0.0.1:{bridge.http_port}", pids, webhook=True)
    added = percentile(echoes.late_ms, 95) - percentile(floor_echoes.late_ms, 95)
    return [
        told(f"streams: bare aiohttp echo, {CALLS} calls, a call", bare.used / CALLS, "% of a core"),
        told(f"streams: bridge's worker, {CALLS} calls, a call", worker.used / CALLS, "% of a core"),
        at_most("streams: bridge as a multiple of the bare echo", worker.used / bare.used, MULTIPLE, "×"),
        told("streams: bare echo p50", percentile(floor_echoes.late_ms, 50), "ms"),
        told("streams: bare echo p95", percentile(floor_echoes.late_ms, 95), "ms"),
        told("streams: echo through bridge and agent p50", percentile(echoes.late_ms, 50), "ms"),
        told("streams: echo through bridge and agent p95", percentile(echoes.late_ms, 95), "ms"),
        at_most("streams: p95 added by bridge and agent", added, ADDED_P95_MS, "ms"),
        told("streams: payloads that did not come back whole", 100 - _share(echoes), "%"),
        told("streams: the worker waited for a core", worker.waited, "% of the time"),
        told("streams: echoing agent meanwhile", agent.used, "% of a core"),
        told("streams: the caller's own message gap p99", percentile(echoes.gaps_ms, 99), "ms"),
    ]


def _share(echoes: Echoes) -> float:
    return 100 * len(echoes.late_ms) / max(1, echoes.sent)


async def _load(base: str, pids: list[int], *, webhook: bool) -> tuple[list[CpuShare], Echoes]:
    """CPU of these processes while all calls talk, and their echoes."""
    echoes = Echoes()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        _talking(http, base, echoes, webhook=webhook),
    ):
        with undisturbed():
            await asyncio.sleep(SETTLE_S)
            echoes.counting = True
            before = [CpuClock.read(pid) for pid in pids]
            await asyncio.sleep(STEADY_S)
            used = [clock.since() for clock in before]
            echoes.counting = False
            await asyncio.sleep(0.3)
    if _share(echoes) < 80:
        raise RuntimeError(f"only {_share(echoes):.0f} % of the payloads came back")
    return used, echoes


@asynccontextmanager
async def _talking(
    http: aiohttp.ClientSession, base: str, echoes: Echoes, *, webhook: bool
) -> AsyncIterator[None]:
    sockets, tasks = [], []
    for number in range(CALLS):
        call_sid, url, parameters = new_sid("CA"), base + "/twilio/stream", {}
        if webhook:
            account = Account(TEST_ACCOUNT, _TOKEN)
            form = voice_form(account, call_sid, CALLER, CALLED)
            twiml = read_twiml(await post(http, account, base + "/twilio/voice", form))
            url, parameters = twiml.url, dict(twiml.parameters)
        headers = {"X-Twilio-Signature": sign(_TOKEN, url)}
        socket = await http.ws_connect(url, headers=headers, compress=0)
        dialect = TwilioDialect(new_sid("MZ"), call_sid, TEST_ACCOUNT, parameters)
        for message in dialect.opening():
            await socket.send_str(str(message))
        caller = _Caller(socket, dialect, echoes)
        sockets.append(socket)
        tasks += [
            asyncio.create_task(caller.talk(0.02 * number / CALLS)),
            asyncio.create_task(caller.listen()),
        ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for socket in sockets:
            await socket.close()
