"""Between telbridge and an agent API: passes everything on, and keeps what telbridge said and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict, CIMultiDictProxy

_OWN = frozenset({"connection", "upgrade", "content-length", "transfer-encoding"})


class WireLog:
    """A proxy in front of `target` (host:port); it keeps the Host, so that our address is given out."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.port = 0
        self.said: list[tuple[int, dict[str, Any]]] = []
        """JSON that telbridge sent, with the monotonic time in ns."""
        self._more = asyncio.Condition()

    async def until_said(
        self, wanted: Callable[[dict[str, Any]], bool], within_s: float = 30.0
    ) -> tuple[int, dict[str, Any]]:
        """The first message that is wanted. TimeoutError with what was said instead."""

        def found() -> tuple[int, dict[str, Any]] | None:
            return next(((at_ns, message) for at_ns, message in self.said if wanted(message)), None)

        try:
            async with asyncio.timeout(within_s), self._more:
                await self._more.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise AssertionError([message for _, message in self.said][-8:]) from None
        there = found()
        assert there is not None
        return there

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._socket(request, http)
            url = f"http://{self._target}{request.path_qs}"
            body = await request.read()
            async with http.request(
                request.method, url, headers=_passed_on(request.headers), data=body
            ) as answer:
                return web.Response(
                    status=answer.status, body=await answer.read(), headers=_passed_on(answer.headers)
                )

    async def _socket(self, request: web.Request, http: aiohttp.ClientSession) -> web.WebSocketResponse:
        headers = {
            name: value
            for name, value in _passed_on(request.headers).items()
            if not name.lower().startswith("sec-websocket")
        }
        protocols = tuple(
            part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if part
        )
        far = await http.ws_connect(
            f"ws://{self._target}{request.path_qs}", headers=headers, protocols=protocols, max_msg_size=0
        )
        near = web.WebSocketResponse(protocols=(far.protocol,) if far.protocol else (), max_msg_size=0)
        await near.prepare(request)
        back = asyncio.create_task(_pass_on(far, near))
        await self._listen(near, far)
        await far.close()
        await back
        return near

    async def _listen(self, near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse) -> None:
        async for message in near:
            if message.type is WSMsgType.TEXT:
                async with self._more:
                    self.said.append((time.monotonic_ns(), json.loads(message.data)))
                    self._more.notify_all()
                await far.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await far.send_bytes(message.data)


def _passed_on(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OWN)


async def _pass_on(far: aiohttp.ClientWebSocketResponse, near: web.WebSocketResponse) -> None:
    async for message in far:
        if message.type is WSMsgType.TEXT:
            await near.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await near.send_bytes(message.data)
    await near.close(code=far.close_code or 1000)


@asynccontextmanager
async def wire_log(agent_port: int, port: int = 0) -> AsyncIterator[WireLog]:
    """The proxy on that port, else on one of its own."""
    log = WireLog(f"127.0.0.1:{agent_port}")
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", log.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    log.port = runner.addresses[0][1]
    yield log
    await runner.cleanup()
