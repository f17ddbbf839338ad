"""A worker: one event loop, one pjsua2 endpoint, the calls that come to it.

Run by the supervisor as `python -m telbridge.serving.worker`: its start line comes on stdin, its ready line
goes to stdout, SIGTERM drains it, and it ends when stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import aiohttp
import structlog
import uvloop

from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.audio.transcoder import Transcoder
from telbridge.audio.wav import load_wav
from telbridge.call.call import Call, CallPlan
from telbridge.call.ports import Greeting, Leg
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.legs.sip.endpoint import SipEndpoint
from telbridge.legs.sip.library import SipUnavailable
from telbridge.ops import logging
from telbridge.ops.records import RecordFile, record_of
from telbridge.serving.apology import apology_path, filler_path
from telbridge.serving.ingress import Ingress
from telbridge.serving.messages import WorkerStart
from telbridge.serving.sessions import Sessions
from telbridge.sessions.connection import make_http_session

log = structlog.get_logger()

LAST_CALLS_S: Final = 4.5
"""After the drain deadline: calls that were asked to end get so long, and the length of the apology, to say
so and to write their records."""


class Worker:
    """Answers calls until it is told to stop."""

    def __init__(self, start: WorkerStart) -> None:
        settings = start.settings
        self._settings = settings
        self._sessions = Sessions(settings, start.agent_port)
        self._records = RecordFile(settings.records.file())
        self._plan = _plan(settings)
        self._calls: dict[str, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving = asyncio.Event()
        """Set once calls are answered."""
        self.idle = asyncio.Event()
        """Set while there is no call."""
        self.idle.set()
        self._http: aiohttp.ClientSession | None = None

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Serve until `stop`, then drain until the calls have ended, the deadline, or `hurry`."""
        async with make_http_session() as http:
            self._http = http
            endpoint = SipEndpoint(self._settings.sip, self._on_call, log=log)
            ingress = Ingress(self._settings, self._on_call, log)
            endpoint.start()
            refreshing = asyncio.create_task(self._sessions.keep_secrets_fresh())
            try:
                await ingress.start()
                self.serving.set()
                _say(event="ready", **endpoint.describe(), **ingress.describe())
                await stop.wait()
                endpoint.drain()
                ingress.drain()
                log.info("worker_draining", calls=len(self._calls))
                await self._drain(hurry)
            finally:
                refreshing.cancel()
                await ingress.stop()
                await endpoint.stop()

    def _on_call(self, leg: Leg) -> None:
        task = asyncio.create_task(self._serve(leg), name=leg.facts.call_id)
        self._tasks.add(task)
        self.idle.clear()
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._calls.pop(task.get_name(), None)
        if not self._tasks:
            self.idle.set()

    async def _serve(self, leg: Leg) -> None:
        """One call, walled off: whatever goes wrong in it ends it and no other."""
        facts = leg.facts
        call_log = log.bind(call_id=facts.call_id)
        call_log.info("call_arrived", ingress=facts.ingress, codec=str(facts.wire_format))
        try:
            assert self._http is not None
            session = self._sessions.new(facts, self._http, call_log)
            call = Call(
                leg, session, in_format(self._plan, leg.format), clock=time.monotonic_ns, log=call_log
            )
            self._calls[facts.call_id] = call
            summary = await call.run()
        except Exception:  # noqa: BLE001 - the wall between calls
            call_log.exception("call_bug")
            leg.hang_up()
            return
        record = record_of(summary, transcripts=self._settings.records.transcripts)
        await self._records.write(record)
        call_log.info(
            "call_ended",
            ending=summary.ending.value,
            duration_ms=record["duration_ms"],
            turns=len(record["turns"]),
            interruptions=sum(1 for turn in summary.turns if turn.interruption),
            underruns=summary.playout.underruns,
            rx_lost=summary.quality.rx_lost if summary.quality else None,
        )

    async def _drain(self, hurry: asyncio.Event) -> None:
        idle: asyncio.Task[Any] = asyncio.create_task(self.idle.wait())
        hurried: asyncio.Task[Any] = asyncio.create_task(hurry.wait())
        limit_s = self._settings.serve.drain_s
        await asyncio.wait([idle, hurried], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for call in list(self._calls.values()):
            call.end()
        await asyncio.wait([idle], timeout=LAST_CALLS_S + PCM_8K.ms_in(len(self._plan.apology)) / 1000)
        for task in (idle, hurried):
            task.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _plan(settings: Settings) -> CallPlan:
    section = settings.call
    greeting = Greeting(section.greeting, section.greeting_verbatim) if section.greeting else None
    return CallPlan(
        greeting=greeting,
        apology=_wav("apology_wav", section.apology_wav or apology_path()),
        filler=_wav("filler_wav", section.filler_wav or filler_path()),
        reply_timeout_s=section.reply_timeout_s,
    )


@lru_cache
def in_format(plan: CallPlan, format: AudioFormat) -> CallPlan:
    """The plan with our own words in a leg's format."""
    apology, filler = (Transcoder(PCM_8K, format).convert(words) for words in (plan.apology, plan.filler))
    return replace(plan, apology=apology, filler=filler)


def _wav(key: str, path: Path) -> bytes:
    try:
        return load_wav(path, PCM_8K)
    except (ValueError, OSError) as fault:
        raise ConfigErrors(
            [ConfigError("settings", f"call.{key}", str(fault), "name a readable WAV file")]
        ) from None


def _say(**message: Any) -> None:
    """One line to the supervisor."""
    print(json.dumps(message), flush=True)


async def _main(start: WorkerStart, stdin: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_term() -> None:
        (hurry if stop.is_set() else stop).set()

    def on_stdin() -> None:
        if not stdin.read(4096):  # the supervisor is gone
            loop.remove_reader(stdin.fileno())
            stop.set()
            hurry.set()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    loop.add_reader(stdin.fileno(), on_stdin)
    await Worker(start).run(stop, hurry)


def main() -> int:
    stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor
    start = WorkerStart.model_validate_json(stdin.readline())
    logging.configure(start.settings.log.level, start.settings.log.format, process="worker")
    try:
        uvloop.run(_main(start, stdin))
    except (SipUnavailable, ConfigErrors, OSError) as error:
        _say(event="failed", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
