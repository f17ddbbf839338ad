"""A collector of OpenTelemetry's: takes spans over OTLP/HTTP as real ones do (opentelemetry-proto)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

LONG_S = 30.0


class Collector:
    """Keeps what it got."""

    def __init__(self) -> None:
        self.url = ""
        self.resource: dict[str, str] = {}
        self._spans: list[Any] = []
        self._changed = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        message = ExportTraceServiceRequest.FromString(await request.read())
        async with self._changed:
            for of_resource in message.resource_spans:
                self.resource = {
                    each.key: each.value.string_value for each in of_resource.resource.attributes
                }
                for of_scope in of_resource.scope_spans:
                    self._spans += of_scope.spans
            self._changed.notify_all()
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    async def spans(self, count: int, trace_id: bytes | None = None) -> list[Any]:
        """Once there are so many, of this trace or at all."""

        def found() -> list[Any]:
            return [span for span in self._spans if trace_id in (None, span.trace_id)]

        async with asyncio.timeout(LONG_S), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    try:
        yield collector
    finally:
        await runner.cleanup()
