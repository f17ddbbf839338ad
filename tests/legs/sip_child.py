"""The bridge under test: a SIP endpoint whose calls echo.

Settings and manners as JSON in argv; facts and events as JSON lines on stdout; commands likewise on stdin.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import sys
import threading
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from telbridge.legs.sip.endpoint import SipEndpoint
from telbridge.legs.sip.leg import SipLeg
from telbridge.legs.sip.library import SipUnavailable
from telbridge.legs.sip.settings import SipSettings


def say(kind: str, **fields: Any) -> None:
    print(json.dumps({"kind": kind, **fields}, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)


class Echo:
    def __init__(self, raise_after: int | None) -> None:
        self.last, self.frames, self.raise_after = bytes(320), 0, raise_after
        self.taken = 0

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        self.last, self.frames = bytes(frame), self.frames + 1
        if self.frames == self.raise_after:
            raise RuntimeError("a bug of the test's")

    def downlink(self, now_ns: int) -> bytes:
        self.taken += 1
        return self.last


class Child:
    def __init__(self, settings: SipSettings, manners: dict[str, Any]) -> None:
        self.settings, self.manners = settings, manners
        self.legs: dict[str, SipLeg] = {}
        self.media: dict[str, Echo] = {}
        self.endpoint = self.new_endpoint()

    def new_endpoint(self) -> SipEndpoint:
        return SipEndpoint(self.settings, self.on_call, structlog.get_logger())

    def on_call(self, leg: SipLeg) -> None:
        facts = leg.facts
        self.legs[facts.call_id] = leg
        say("call", **dataclasses.asdict(facts), codec=str(facts.wire_format))
        if facts.called == "on-call-bug":
            raise RuntimeError("a bug of the test's")
        # As in a worker: the call attaches a moment later.
        asyncio.get_running_loop().call_soon(self.serve, leg)

    def serve(self, leg: SipLeg) -> None:
        called = leg.facts.called
        media = self.media[leg.facts.call_id] = Echo(10 if called == "bug" else None)
        leg.attach(media, partial(self.on_event, leg))
        leg.ring()
        if called.startswith("reject-"):
            leg.reject(int(called.removeprefix("reject-")))
        elif called == "busy":
            leg.reject(503, retry_after_s=7)
        elif called not in ("ring", "never-attached"):
            leg.answer()

    def on_event(self, leg: SipLeg, event: Any) -> None:
        media = self.media[leg.facts.call_id]
        facts = dataclasses.asdict(event)
        say("event", name=type(event).__name__, call=leg.facts.call_id, taken=media.taken, **facts)
        if type(event).__name__ == "LegEnded":
            quality = leg.quality()
            say("quality", call=leg.facts.call_id, **(dataclasses.asdict(quality) if quality else {}))
            lates = (leg.ring, leg.answer, leg.hang_up, leg.flush, partial(leg.reject, 486))
            for late in (*lates, partial(leg.transfer, "sip:a@b", timeout_s=1.0)):
                late()
            leg.send_dtmf("1", tone_ms=100, gap_ms=60)
            del self.legs[leg.facts.call_id]
            self.media.pop(leg.facts.call_id, None)

    async def command(self, what: dict[str, Any]) -> None:
        match what["do"]:
            case "hang_up":
                self.legs[what["call"]].hang_up()
            case "transfer":
                self.legs[what["call"]].transfer(what["target"], timeout_s=what.get("timeout_s", 20.0))
            case "send_dtmf":
                timing = {"tone_ms": what.get("tone_ms", 100), "gap_ms": what.get("gap_ms", 60)}
                self.legs[what["call"]].send_dtmf(what["digits"], **timing)
            case "quality":
                quality = self.legs[what["call"]].quality()
                say("quality", call=what["call"], **(dataclasses.asdict(quality) if quality else {}))
            case "drain":
                self.endpoint.drain()
            case "restart":
                await self.endpoint.stop()
                await self.endpoint.stop()
                self.endpoint = self.new_endpoint()
                self.endpoint.start()
            case "count":
                pass
            case "stall":
                threading.Event().wait(what["seconds"])
        say("done", do=what["do"], **self.footprint())

    def footprint(self) -> dict[str, Any]:
        gc.collect()
        import pjsua2

        objects = [thing for thing in gc.get_objects() if isinstance(thing, pjsua2.Call)]
        return {
            "counters": dataclasses.asdict(self.endpoint.counters),
            "live_calls": self.endpoint.live_calls,
            "pjsua_calls": len(objects),
            "media_ports": sum(isinstance(thing, pjsua2.AudioMediaPort) for thing in gc.get_objects()),
            "taken": {call: media.taken for call, media in self.media.items()},
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "fds": len(list(Path("/proc/self/fd").iterdir())),
            "rss_kb": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        }


async def run(settings: SipSettings, manners: dict[str, Any]) -> None:
    child = Child(settings, manners)
    child.endpoint.start()
    say("ready", **child.endpoint.describe())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        await child.command(json.loads(line))
    await child.endpoint.stop()
    say("stopped")


def main() -> None:
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=_plain)],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    settings, manners = SipSettings.model_validate_json(sys.argv[1]), json.loads(sys.argv[2])
    runner: Any = asyncio.run
    if manners.get("uvloop"):
        import uvloop

        runner = uvloop.run
    try:
        runner(run(settings, manners))
    except SipUnavailable as error:
        say("unavailable", why=str(error))
        sys.exit(3)


if __name__ == "__main__":
    main()
