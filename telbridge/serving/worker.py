"""A worker: one event loop, one pjsua2 endpoint, the calls that come to it.

Forked by a nursery for the supervisor: its start line comes on stdin, its ready line goes to stdout, SIGTERM
drains it, and it ends when stdin closes.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice, product
from typing import Any, BinaryIO, Final

import aiohttp
import structlog
import uvloop

from telbridge import logs
from telbridge.audio.formats import PCM_8K
from telbridge.call.call import Call, CallPlan
from telbridge.call.director import Script
from telbridge.call.events import CallFacts, Ending
from telbridge.call.observer import Observer
from telbridge.call.ports import Leg
from telbridge.call.summary import CallSummary
from telbridge.call.taping import Recording
from telbridge.config import ConfigErrors
from telbridge.dialplan.counting import Bounds, bounds_of
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.model import RecordingRule
from telbridge.dialplan.plan import Plan
from telbridge.legs.sip.endpoint import SipEndpoint
from telbridge.legs.sip.front import Front
from telbridge.legs.sip.library import SipUnavailable, load
from telbridge.legs.streams.leg import StreamLeg
from telbridge.ops import logging
from telbridge.ops.asking import StoreDown
from telbridge.ops.callers import Callers
from telbridge.ops.exemplars import Told
from telbridge.ops.metrics import CallMetrics, Metrics, choose_place
from telbridge.ops.recording import CallRecording, Recorder
from telbridge.ops.records import Privacy, record_of, record_without_a_call, summary_line
from telbridge.ops.spans import CallTrace
from telbridge.ops.spool import Spool
from telbridge.serving.dialplans import Chosen, Dialplans, is_built_in
from telbridge.serving.ingress import Ingress
from telbridge.serving.last_good import LastGood
from telbridge.serving.messages import WorkerStart
from telbridge.serving.outside import World, in_format
from telbridge.serving.own_words import own_words
from telbridge.serving.pulse import Pulse, refused_by_sip, refused_streams
from telbridge.serving.sessions import Sessions
from telbridge.serving.telling import Telling, say
from telbridge.serving.thrift import QUIET_S, give_back
from telbridge.serving.traced import TracedOutside, Traces
from telbridge.serving.vital import HAS_PULSE, LAST_PULSE, PULSE
from telbridge.sessions.connection import make_http_session
from telbridge.sessions.credentials import SecretMissing

log = structlog.get_logger()

NOT_FOUND: Final = 404
LAST_INVITES_S: Final = 0.5
"""After the dispatcher gives us no more calls: what it gave us before may still stand in our socket."""
MOST_EXPECTED: Final = 50
"""Pairs of dialplan and trunk whose figures are there before their first call."""
MOST_VERSIONS: Final = 200
"""Of dialplans, whose bounds are remembered."""
CALLERS_AGAIN_S: Final = 30.0
LAST_AUDIO_S: Final = 2.0
"""For the end of a recording to be on the disk, before the call's record is written."""
LAST_CALLS_S: Final = 4.5
"""After the drain deadline: calls that were asked to end get so long, and the length of the apology, to say
so and to write their records."""


class Worker:
    """Answers calls until it is told to stop."""

    def __init__(self, start: WorkerStart) -> None:
        settings = start.settings
        self._settings = settings
        last_good = None if start.last_good is None else LastGood(start.last_good)
        local_runs = start.agent_port is not None
        self.dialplans = Dialplans(settings, local_runs=local_runs, last_good=last_good)
        self._metrics = Metrics()
        self._traces = Traces(settings.tracing)
        self._number = start.number
        self._front = None if start.dispatcher_port is None else Front(start.dispatcher_port)
        self._endpoint: SipEndpoint | None = None
        self._siblings = start.siblings
        self._ingress: Ingress | None = None
        self._sessions = Sessions(settings, start.agent_port, self.dialplans.agents)
        self._world = World(settings.local_agent)
        self._spool = Spool(settings.records.spool(), settings.records.path)
        self._recorder = Recorder(settings.recording.home(settings.records.home()), settings.recording.format)
        self._privacy = Privacy(settings.records.transcripts, settings.records.key())
        self._words = own_words(settings)
        self._callers = Callers()
        self._bounds: dict[str, Bounds] = {}
        self._ticket_key = base64.b64decode(start.ticket_key) if start.ticket_key else None
        self._calls: dict[str, Call] = {}
        self._telling = Telling(self._calls, self._privacy)
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving = asyncio.Event()
        """Set once calls are answered."""
        self.retired = asyncio.Event()
        """Set once others take its place: no new calls, and no deadline for those that it has."""
        self.idle = asyncio.Event()
        """Set while there is no call."""
        self.idle.set()
        self._thrift: asyncio.TimerHandle | None = None
        self._http: aiohttp.ClientSession | None = None
        self._expect_calls()

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Serve until `stop` or retired, then drain until the calls have ended, the deadline, which counts
        from `stop`, or `hurry`."""
        async with make_http_session() as http:
            self._http = http
            endpoint = SipEndpoint(self._settings.sip, self._on_call, log=log, front=self._front)
            self._endpoint = endpoint
            self._ingress = ingress = Ingress(
                self._settings,
                self._on_call,
                log,
                ticket_key=self._ticket_key,
                number=self._number,
                siblings=self._siblings,
                by_sip=lambda: max(0, len(self._tasks) - ingress.live_calls),
            )
            endpoint.start()
            pulse = Pulse(
                self._metrics,
                lambda: chain(refused_by_sip(endpoint.counters), refused_streams(ingress.no_room)),
                show=partial(say, event=PULSE),
            )
            background = [
                asyncio.create_task(self._sessions.keep_secrets_fresh()),
                asyncio.create_task(self.dialplans.watch()),
                asyncio.create_task(self._world.prepare(needs_voice=self.dialplans.needs_voice)),
                asyncio.create_task(self._remember_callers()),
                asyncio.create_task(self._telling.figures()),
            ]
            try:
                await ingress.start()
                self.serving.set()
                facts = {**endpoint.describe(), **ingress.describe(), HAS_PULSE: True}
                say(event="ready", sip_port=endpoint.port, **facts)
                await _any_of(stop, self.retired)
                ingress.drain()
                if self.retired.is_set():
                    await _within(LAST_INVITES_S, stop)
                endpoint.drain()
                log.info("worker_draining", calls=len(self._calls), retired=self.retired.is_set())
                await self._drain(stop, hurry)
            finally:
                pulse.stop()
                say(event=LAST_PULSE)
                for task in background:
                    task.cancel()
                await ingress.stop()
                await endpoint.stop()
                await self._world.aclose()
                await self._traces.aclose()
                await asyncio.to_thread(self._recorder.stop)

    def _on_call(self, leg: Leg) -> None:
        task = asyncio.create_task(self._serve(leg), name=leg.facts.call_id)
        self._tasks.add(task)
        self.idle.clear()
        if self._thrift is not None:
            self._thrift.cancel()
            self._thrift = None
        task.add_done_callback(self._forget)
        self._tell_calls()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._calls.pop(task.get_name(), None)
        if not self._tasks:
            self.idle.set()
            self._thrift = asyncio.get_running_loop().call_later(QUIET_S, give_back)
        self._tell_calls()

    def _tell_calls(self) -> None:
        """For the other workers, and for the dispatcher."""
        if self._ingress is not None:
            self._ingress.count()
        if self._front is None or self._endpoint is None:
            return
        calls = self._endpoint.live_calls
        self._telling.count(calls, max(0, len(self._tasks) - calls))

    def hear(self, line: bytes | bytearray) -> None:
        """What the supervisor tells, or another worker by way of it."""
        match json.loads(line):
            case {"called": caller}:
                self._callers.called(caller)
            case {"log_level": level}:
                logs.change_level(level)
            case {"show": call_id}:
                self._telling.show(call_id)
            case {"retire": _}:
                self.retired.set()

    async def _serve(self, leg: Leg) -> None:
        """One call, walled off: whatever goes wrong in it ends it and no other."""
        facts = leg.facts
        call_log = log.bind(call_id=facts.call_id)
        trace = self._traces.begin(facts)
        if trace is not None:
            call_log = call_log.bind(trace_id=trace.trace_id)
        call_log.info("call_arrived", ingress=facts.ingress, codec=str(facts.wire_format))
        self._metrics.offered(facts.ingress, facts.trunk)
        observer: CallMetrics | None = None
        chosen: Chosen | None = None
        summary: CallSummary | None = None
        worst: Sequence[Told] = ()
        try:
            known = _facts(facts, self._callers.before(self._privacy.number(facts.caller)))
            chosen = self.dialplans.plan_for(known, known.started_at)
            if chosen is None:
                call_log.warning("no_dialplan", remedy="write one without [match]; see `telbridge route`")
                self._metrics.rejected(facts.ingress, "no_dialplan")
                leg.reject(NOT_FOUND)
                await self._keep(record_without_a_call(facts, Ending.NO_DIALPLAN, "", self._privacy))
                return
            observer = self._observer(facts, chosen)
            tape = self._tape(leg, chosen)
            call = self._call(leg, chosen, known, observer, trace, tape, call_log)
            self._calls[facts.call_id] = call
            self._telling.started(facts, chosen.plan, self._agent_of(chosen.plan))
            summary = await call.run()
            summary.recording = await _outcome(tape)
            observer.ended(summary)
            worst = observer.worst.told()
            if isinstance(leg, StreamLeg):
                summary.carrier = await leg.told()
        except Exception as bug:  # noqa: BLE001 - the wall between calls
            call_log.exception("call_bug")
            leg.hang_up()
            if observer is not None:
                observer.broke()
            record = record_without_a_call(facts, Ending.INTERNAL_ERROR, type(bug).__name__, self._privacy)
            await self._keep(record)
            return
        finally:
            if observer is not None:
                observer.closed()
            await self._traces.send(trace, summary, chosen.plan.dialplan.tools if chosen else ())
        if summary.answered_ms is not None:
            caller = self._privacy.number(facts.caller)
            self._callers.called(caller)
            if self._front is not None:
                say(event="called", caller=caller)
        record = record_of(summary, self._privacy, known.started_at)
        if trace is not None:
            record["trace_id"] = trace.trace_id
        await self._keep(record, worst)
        call_log.info("call_ended", **summary_line(record))

    def _expect_calls(self) -> None:
        """By SIP; of others when the first one comes."""
        trunks = ("", *self._settings.sip.trunks)
        for plan, trunk in islice(product(self.dialplans.plans.plans, trunks), MOST_EXPECTED):
            self._metrics.expect("sip", trunk, plan.name, self._agent_of(plan))

    def _observer(self, facts: CallFacts, chosen: Chosen) -> CallMetrics:
        plan = chosen.plan
        return self._metrics.call(facts, plan.name, self._agent_of(plan), self._bounds_of(plan))

    def _bounds_of(self, plan: Plan) -> Bounds:
        """Looked for once in each version of a dialplan."""
        bounds = self._bounds.get(plan.version)
        if bounds is None:
            if len(self._bounds) >= MOST_VERSIONS:
                self._bounds.clear()
            bounds = self._bounds[plan.version] = bounds_of(plan.dialplan)
        return bounds

    def _agent_of(self, plan: Plan) -> str:
        """The one that a call begins with."""
        return plan.sessions[""].agent or self._sessions.default

    def _rule(self, chosen: Chosen) -> RecordingRule:
        """Whether its calls are recorded."""
        return chosen.plan.dialplan.recording or self._settings.recording.calls

    def _tape(self, leg: Leg, chosen: Chosen) -> CallRecording | None:
        if self._rule(chosen) == "off":
            return None
        return self._recorder.of_call(leg.facts.call_id, leg.format)

    def _call(
        self,
        leg: Leg,
        chosen: Chosen,
        known: Facts,
        observer: Observer,
        trace: CallTrace | None,
        tape: CallRecording | None,
        call_log: Any,
    ) -> Call:
        """A call with all that belongs to it."""
        assert self._http is not None
        plan = chosen.plan
        call_log.info("dialplan", name=plan.name, version=plan.version)
        words, said = self._words, self._settings.call.model_fields_set
        outside = self._world.for_call(chosen.recordings, leg.format)
        return Call(
            leg,
            self._sessions.of_call(leg.facts, self._http, call_log),
            CallPlan(
                Script(plan, known, self._agent_of(plan)),
                greeting_is_default=is_built_in(plan) and "greeting" not in said,
                apology=in_format(words.apology, leg.format),
                filler=in_format(words.filler, leg.format),
                reply_timeout_s=self._settings.call.reply_timeout_s,
                observer=observer,
                tape=tape,
                asks_first=self._rule(chosen) == "after_consent",
            ),
            outside if trace is None else TracedOutside(outside, trace),
            clock=time.monotonic_ns,
            log=call_log,
        )

    async def _keep(self, record: Mapping[str, Any], worst: Sequence[Told] = ()) -> None:
        """On disk; the supervisor carries it to the database. `worst`: for its page of metrics."""
        await self._spool.put(record)
        self._telling.ended(record, worst)

    async def _remember_callers(self) -> None:
        """Until the database tells: calls do not wait for it."""
        section = self._settings.records
        while True:
            try:
                await asyncio.to_thread(self._callers.read, section.url(), section.spool())
            except (StoreDown, OSError) as error:
                log.warning("callers_unknown", why=str(error), again_in_s=CALLERS_AGAIN_S)
                await asyncio.sleep(CALLERS_AGAIN_S)
            else:
                return

    async def _until_idle(self) -> None:
        """No call, and no stream that was promised to come."""
        await self.idle.wait()
        while self._ingress is not None and self._ingress.promised:
            await self._ingress.promises_kept()
            await self.idle.wait()

    async def _drain(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        idle: asyncio.Task[Any] = asyncio.create_task(self._until_idle())
        hurried: asyncio.Task[Any] = asyncio.create_task(hurry.wait())
        late: asyncio.Task[Any] = asyncio.create_task(self._deadline(stop))
        await asyncio.wait([idle, hurried, late], return_when=asyncio.FIRST_COMPLETED)
        for call in list(self._calls.values()):
            call.end()
        await asyncio.wait([idle], timeout=LAST_CALLS_S + PCM_8K.ms_in(len(self._words.apology)) / 1000)
        for task in (idle, hurried, late):
            task.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _deadline(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(self._settings.serve.drain_s)


async def _within(limit_s: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), limit_s)


async def _any_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _outcome(tape: CallRecording | None) -> Recording | None:
    """Of a recording that has ended; a disk that is slow to take the rest does not hold up the record."""
    if tape is None:
        return None
    whole = asyncio.wrap_future(tape.outcome)
    await asyncio.wait([whole], timeout=LAST_AUDIO_S)
    return whole.result() if whole.done() else tape.so_far()


def _facts(facts: CallFacts, calls_before: int) -> Facts:
    """As a dialplan sees them."""
    return Facts(
        call_id=facts.call_id,
        ingress=facts.ingress,
        caller=facts.caller,
        called=facts.called,
        started_at=datetime.now(UTC),
        domain=facts.domain,
        trunk=facts.trunk,
        peer=facts.peer,
        headers=facts.headers,
        parameters=facts.parameters,
        calls_before=calls_before,
    )


async def _main(start: WorkerStart, stdin: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    worker = Worker(start)
    # What is loaded by now stays: no collection of garbage looks at it again, while all calls stand still.
    gc.collect()
    gc.freeze()

    def on_term() -> None:
        (hurry if stop.is_set() else stop).set()

    heard = bytearray()

    def on_stdin() -> None:
        if came := stdin.read(4096):
            heard.extend(came)
            *lines, rest = heard.split(b"\n")
            heard[:] = rest
            for line in lines:
                worker.hear(line)
        else:  # the supervisor is gone
            loop.remove_reader(stdin.fileno())
            stop.set()
            hurry.set()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    loop.add_signal_handler(signal.SIGHUP, worker.dialplans.ask_reload)
    loop.add_reader(stdin.fileno(), on_stdin)
    await worker.run(stop, hurry)


def _keep_to_a_core(place: int) -> None:
    """All threads that are begun from now on do."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[place % len(cores)]})


def warm() -> None:
    """What a nursery does once, so that no worker has to: the library is loaded, but not started."""
    with suppress(SipUnavailable):  # The worker will say so.
        load()


def main() -> int:
    choose_place()
    stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor
    start = WorkerStart.model_validate_json(stdin.readline())
    name = "worker" if start.dispatcher_port is None else f"worker {start.number}"
    section = start.settings.log
    logging.configure(section.level, section.format, repeats=section.repeats, process=name)
    try:
        if start.settings.serve.pin_workers:
            _keep_to_a_core(start.place)
        uvloop.run(_main(start, stdin))
    except (SipUnavailable, ConfigErrors, SecretMissing, OSError) as error:
        say(event="failed", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
