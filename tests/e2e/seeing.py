"""What an operator sees of a server with several workers: health, logs at a level of choice, traces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from telbridge import __version__
from tests.e2e.bridge import Bridge
from tests.otlp import Collector, collecting
from tests.serving.test_web import Server, answers
from tests.serving.test_web import serving as serving_web

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CARRIED = ("Traceparent", f"00-{TRACE}-{PARENT}-01")
LONG_S = 60.0


class Watch:
    """A collector of traces, and a server that the dialplan asks."""

    def __init__(self, collector: Collector, crm: Server, folder: Path) -> None:
        self._collector, self._crm = collector, crm
        self._plan = folder / "desk.toml"
        self._plan.write_text(f'on.answered = {{ webhook = "{crm.url}/hook" }}\n', "utf-8")

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            "dialplans": {"folder": str(self._plan)},
            "tracing": {"enabled": True, "endpoint": self._collector.url},
        }

    async def health(self, bridge: Bridge) -> None:
        async with aiohttp.ClientSession(bridge.admin) as http:
            for path, told in (
                ("/live", {"live": True}),
                ("/ready", {"ready": True, "why": []}),
                ("/version", {"telbridge": __version__}),
            ):
                async with http.get(path) as answer:
                    assert (answer.status, await answer.json()) == (200, told)

    async def levels(self, bridge: Bridge, processes: set[str]) -> None:
        """They change in all processes."""
        async with (
            aiohttp.ClientSession(bridge.admin) as http,
            http.put("/log-level", data="debug") as answer,
        ):
            assert (answer.status, await answer.text()) == (200, "debug\n")
        lines = await bridge.until_logged("log_level", count=len(processes), within_s=LONG_S, now="debug")
        assert {line.get("process", "agent") for line in lines} == processes

    async def trace(self, bridge: Bridge, private: str) -> None:
        """Of the call that came with one: the same in the log, in the record, at the collector, at the server
        that was asked."""
        (ended,) = bridge.logged("call_ended", trace_id=TRACE)
        record = await bridge.kept(ended["call_id"])
        assert record["trace_id"] == TRACE
        of_it = await self._collector.spans(4, bytes.fromhex(TRACE))
        spans = {span.name: span for span in of_it}
        root, asked = spans["call"], spans["webhook"]
        assert root.parent_span_id.hex() == PARENT
        assert {span.parent_span_id for span in of_it if span is not root} == {root.span_id}
        told = [headers["traceparent"] for _, _, headers, _ in self._crm.requests]
        assert f"00-{TRACE}-{asked.span_id.hex()}-01" in told
        assert len({header[3:35] for header in told}) == len(told), "each call has its own"
        (session,) = record["sessions"]
        setup_ns = (
            spans["session.configure"].end_time_unix_nano - spans["session.connect"].start_time_unix_nano
        )
        assert abs(setup_ns / 1e6 - session["connect_ms"] - session["configure_ms"]) < 1
        assert private not in repr(of_it)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Watch]:
    async with collecting() as collector, serving_web(answers({})) as crm:
        yield Watch(collector, crm, folder)
