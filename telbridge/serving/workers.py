"""The processes that take calls: one worker that owns the SIP port; or several, or one where SIP comes by
TLS, behind a dispatcher."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import structlog

from telbridge.config import ConfigErrors, Settings
from telbridge.logs import LogLevel
from telbridge.serving.births import BirthFailed, Nursery
from telbridge.serving.children import READY_S, Child, ChildFailed
from telbridge.serving.nursery import Job
from telbridge.serving.planning import Plan, plan
from telbridge.serving.shares import shares
from telbridge.serving.vital import OBEYED

log = structlog.get_logger()

DISPATCHER_STOP_S: Final = 5.0
WORKER: Final = "telbridge.serving.worker"
DISPATCHER: Final = "telbridge.serving.dispatching"
_CAP: Final = Job("cap", "telbridge.serving.cap")
"""In a process of its own: the library stays out of the supervisor."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a worker, for the one that takes its place (`WorkerStart`)."""

    last_good: Path
    ticket_key: str
    siblings: Path


class Workers:
    """As many as the settings, the cores and the installed pjsua2 ask for."""

    def __init__(
        self,
        nursery: Nursery,
        settings: Settings,
        agent_port: Callable[[], Awaitable[int | None]],
        kept: Callable[[], Kept],
        *,
        on_message: Callable[[int, Mapping[str, Any]], None],
        on_death: Callable[[int, int], None],
        environ: Mapping[str, str],
        listening: Sequence[socket.socket] = (),
    ) -> None:
        """`agent_port` waits for the embedded agent, where there is one. `on_message`, `on_death`, `environ`:
        of each worker (`Child`), by its number. `listening`: open already, for a dispatcher, which there is
        then in any case."""
        self._nursery = nursery
        self._settings, self._agent_port, self._kept = settings, agent_port, kept
        self._tell_message, self._tell_death, self._environ = on_message, on_death, environ
        self._workers: dict[int, Child] = {}
        """By number."""
        self._retiring: dict[int, Child] = {}
        """Those in whose place others have come; they still have calls."""
        self._retired: dict[int, asyncio.Event] = {}
        """Set once the dispatcher knows of it."""
        self._seeing_off: set[asyncio.Task[None]] = set()
        self._restarts_of_the_gone = 0
        self._dispatcher: Child | None = None
        self._listening = listening
        self._inner_port = 0
        self._max_calls = 0
        """Of all workers; known where there is a dispatcher."""
        self._dispatcher_ready = asyncio.Event()
        self._up: dict[int, dict[str, Any]] = {}
        """What the dispatcher is told of each worker that is ready, by its number."""
        self._taken: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        """By number; set while the dispatcher gives it calls."""
        self._draining = False
        self._asked_level: LogLevel | None = None
        """By an operator, while we run; it holds for all that is started from then on."""

    @property
    def ready(self) -> Mapping[str, Any]:
        """For a log line: where SIP is, which pjsua2, how many calls."""
        first = next(iter(self._workers.values())).ready
        if self._dispatcher is None:
            return first
        calls = sum(worker["max_calls"] for worker in self._up.values() if not worker["retiring"])
        return {
            **first,
            "sip": self._dispatcher.ready["sip"],
            "max_calls": min(calls, self._settings.sip.max_calls or calls),
            "workers": len(self._workers),
        }

    @property
    def have_http(self) -> bool:
        """Whether a worker listens on the public HTTP port."""
        return any("http" in worker.ready for worker in self._workers.values())

    @property
    def log_level(self) -> LogLevel:
        return self._asked_level or self._settings.log.level

    @property
    def taking(self) -> list[int]:
        """Workers that take calls, by their numbers."""
        return [
            number
            for number, worker in self._workers.items()
            if worker.is_ready and (self._dispatcher is None or self._taken[number].is_set())
        ]

    @property
    def restarts(self) -> Mapping[str, int]:
        """By kind of process."""
        living = [*self._workers.values(), *self._retiring.values()]
        workers = self._restarts_of_the_gone + sum(worker.restarts for worker in living)
        dispatcher = {} if self._dispatcher is None else {"dispatcher": self._dispatcher.restarts}
        return {"worker": workers, **dispatcher}

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere. One of several workers that is being started again is no reason:
        the others take its calls."""
        if self._dispatcher is None:
            return [] if self.taking else ["worker is not ready"]
        reasons = [] if self._dispatcher.is_ready else ["dispatcher is not ready"]
        return reasons if self.taking else [*reasons, "no worker is ready"]

    async def start(self) -> None:
        """All of them, until they are ready. Raises ChildFailed."""
        sip = self._settings.sip
        before_one = bool(sip.tls or sip.dispatcher or self._listening)
        cap = await self._cap() if sip.max_calls or before_one else None
        try:
            parts = [sip] if cap is None else shares(sip, cap, os.cpu_count() or 1)
        except ConfigErrors as errors:
            raise ChildFailed(str(errors)) from None
        made = plan(self._settings, parts, local=False)
        if len(parts) == 1 and (cap is None or not before_one):
            alone = Child(
                self._nursery,
                partial(Job, "worker", WORKER, environ=self._environ),
                first_line=partial(self._start_line, 1, 0, made.settings, made.parts[0]),
                on_message=partial(self._tell_message, 1),
                on_ready=lambda _: self._tell_level(1),
                on_death=partial(self._tell_death, 1),
            )
            self._workers = {1: alone}
        else:
            self._max_calls = sip.max_calls or cap or 0
            self._dispatcher = self._make_dispatcher()
            self._workers = self._made(made, self._nursery)
            calls = parts[0].max_calls or self._max_calls
            log.info("workers", count=len(parts), max_calls_each=calls)
            if (wanted := self._settings.sip.max_calls or 0) > calls * len(parts):
                log.warning("sip_max_calls_clamped", wanted=wanted, max_calls=calls * len(parts))
        await _started([*([self._dispatcher] if self._dispatcher else []), *self._workers.values()])
        await self._all_taken(self._workers)

    def why_irreplaceable(self) -> str:
        """Why the workers cannot be replaced while calls go on; "" if they can be."""
        if self._dispatcher is None:
            return "one worker alone owns the SIP port: set sip.dispatcher = true and restart once"
        return "" if self._dispatcher.is_ready else "the dispatcher is not ready: try again"

    async def replace(self, nursery: Nursery, made: Plan) -> None:
        """Others take the calls from now on, born in this nursery; those that were there end with their last
        call. ChildFailed if the new ones do not get ready: all stays as it was."""
        fresh = self._made(made, nursery)
        try:
            await _started(list(fresh.values()))
            await self._all_taken(fresh)
        except ChildFailed:
            for number, worker in fresh.items():  # One that was ready may have a call already.
                self._retire(number, worker)
            raise
        old, self._workers = self._workers, fresh
        self._nursery = nursery
        if self._dispatcher is not None:
            self._dispatcher.nursery = nursery
        for number, worker in old.items():
            self._retire(number, worker)
        for number in fresh:
            self._tell_level(number)  # It may have been changed since they were started.

    @property
    def retiring(self) -> int:
        """Workers that have been replaced and still have calls."""
        return len(self._retiring)

    async def stop(self, timeout_s: float) -> None:
        """Drain: no new calls; live ones end by themselves or at the deadline, through the dispatcher."""
        self._draining = True
        self._tell(do="drain")
        workers = [*self._workers.values(), *self._retiring.values()]
        await asyncio.gather(*(worker.stop(timeout_s) for worker in workers))
        if self._dispatcher is not None:
            await self._dispatcher.stop(DISPATCHER_STOP_S)

    def terminate(self) -> None:
        """Tell draining workers to hurry."""
        for worker in (*self._workers.values(), *self._retiring.values()):
            worker.terminate()

    def hang_up(self) -> None:
        """Have the files read again."""
        self._tell(do="reload")
        for worker in self._workers.values():
            worker.hang_up()

    def change_log_level(self, level: LogLevel) -> None:
        """Of all of them, and of those that are started from now on."""
        self._asked_level = level
        for worker in (*self._workers.values(), *self._retiring.values()):
            worker.tell(_line(log_level=level))
        self._tell(do="log_level", level=level)

    def show(self, number: int, call_id: str) -> None:
        """Have a worker tell of a call that goes on (`LiveCalls.look`)."""
        worker = self._workers.get(number) or self._retiring.get(number)
        if worker is not None:
            worker.tell(_line(show=call_id))

    # ------------------------------------------------------------ inside

    @property
    def _log(self) -> dict[str, str]:
        """What of [log] is not as the settings say."""
        return {} if self._asked_level is None else {"level": self._asked_level}

    def _tell_level(self, number: int) -> None:
        """If it is another than the settings say. One that is born in an upgrade hears of it at the end."""
        worker = self._workers.get(number)
        if worker is not None and self._asked_level is not None:
            worker.tell(_line(log_level=self._asked_level))

    def _made(self, made: Plan, nursery: Nursery) -> dict[int, Child]:
        """Under the lowest numbers that nobody has: calls bear them in their routes."""
        free = (number for number in count(1) if number not in self._workers and number not in self._retiring)
        return {
            number: self._make_worker(number, place, made.settings, part, nursery)
            for (place, part), number in zip(enumerate(made.parts), free, strict=False)
        }

    def _retire(self, number: int, worker: Child) -> None:
        self._retired[number] = asyncio.Event()
        if number in self._up:
            self._up[number]["retiring"] = True
            self._tell(do="retire", number=number)
        else:
            self._retired[number].set()
        self._retiring[number] = worker
        task = asyncio.create_task(self._see_off(number, worker), name=f"see off worker {number}")
        self._seeing_off.add(task)
        task.add_done_callback(self._seeing_off.discard)

    async def _see_off(self, number: int, worker: Child) -> None:
        await self._retired[number].wait()  # Or the dispatcher may still give it calls.
        await worker.retire()
        del self._retiring[number], self._retired[number]
        self._taken.pop(number, None)
        self._restarts_of_the_gone += worker.restarts
        log.info("worker_retired", number=number)
        if worker.nursery is not self._nursery and worker.nursery.is_empty:
            await worker.nursery.aclose()

    def _make_worker(
        self,
        number: int,
        place: int,
        settings: Mapping[str, Any],
        part: Mapping[str, Any],
        nursery: Nursery,
    ) -> Child:
        return Child(
            nursery,
            partial(Job, f"worker {number}", WORKER, environ=self._environ),
            first_line=partial(self._start_line, number, place, settings, part),
            on_message=partial(self._on_message, number),
            on_ready=partial(self._on_ready, number),
            on_death=partial(self._on_death, number),
        )

    async def _all_taken(self, numbers: Iterable[int]) -> None:
        """Until the dispatcher gives all of these workers calls. Raises ChildFailed."""
        if self._dispatcher is None:
            return
        try:
            async with asyncio.timeout(READY_S):
                for number in numbers:
                    await self._taken[number].wait()
        except TimeoutError:
            raise ChildFailed(f"the dispatcher gave the workers no calls within {READY_S:g} s") from None

    def _make_dispatcher(self) -> Child:
        return Child(
            self._nursery,
            partial(Job, "dispatcher", DISPATCHER),
            first_line=self._dispatcher_line,
            on_message=self._on_dispatchers_message,
            on_ready=self._on_dispatcher,
            on_death=self._on_dispatchers_death,
            lent=[each.fileno() for each in self._listening],
        )

    async def _cap(self) -> int | None:
        """Calls at a time in one process; None where there is no pjsua2: the worker will say so."""
        try:
            asked = await self._nursery.birth(_CAP)
        except BirthFailed as error:
            raise ChildFailed(str(error)) from None
        said = await asked.readline()
        return int(said) if await asked.wait() == 0 else None

    async def _start_line(
        self, number: int, place: int, settings: Mapping[str, Any], part: Mapping[str, Any]
    ) -> str:
        """A `WorkerStart`; it may have more settings than we know. Where the others are is waited for."""
        inner_port = None
        if self._dispatcher is not None:
            await self._dispatcher_ready.wait()
            inner_port = self._inner_port
        kept = self._kept()
        return _line(
            last_good=str(kept.last_good),
            ticket_key=kept.ticket_key,
            siblings=str(kept.siblings),
            settings={**settings, "sip": part, "log": {**settings.get("log", {}), **self._log}},
            agent_port=await self._agent_port(),
            number=number,
            place=place,
            dispatcher_port=inner_port,
        )

    async def _dispatcher_line(self) -> str:
        """One that is started again takes the port that it had: it stands in the route of every call."""
        sip = self._settings.sip
        return _line(
            host=sip.host,
            port=sip.port,
            transports=sorted(sip.transports),
            tls=sip.tls and sip.tls.model_dump(mode="json"),
            public_address=sip.public_address,
            trust_private=sip.trust_private,
            allow=[str(network) for network in sip.allow],
            max_calls=self._max_calls,
            requests_per_second=sip.requests_per_second,
            server=sip.user_agent,
            inner_port=self._inner_port,
            orders=list(self._orders()),
            log={**self._settings.log.model_dump(), **self._log},
        )

    def _on_dispatcher(self, ready: Mapping[str, Any]) -> None:
        self._inner_port = int(ready["inner_port"])
        self._dispatcher_ready.set()
        for order in self._orders():  # Anew: much may have happened since its first line.
            self._tell(**order)
        if self._asked_level is not None:
            self._tell(do="log_level", level=self._asked_level)

    def _on_dispatchers_death(self, pid: int) -> None:
        for taken in self._taken.values():
            taken.clear()

    def _orders(self) -> Iterator[dict[str, Any]]:
        """What a dispatcher must know to have calls dealt with as before."""
        for number, worker in self._up.items():
            yield {"do": "up", "number": number, **worker}
            if worker["retiring"]:
                yield {"do": "retire", "number": number}
        if self._draining:
            yield {"do": "drain"}

    def _on_dispatchers_message(self, message: Mapping[str, Any]) -> None:
        order = message["order"] if message["event"] == OBEYED else {}
        match order:
            case {"do": "retire", "number": number} if number in self._retired:
                self._retired[number].set()
            case {"do": "up", "number": number, "port": port}:
                # Of this worker, not of one that died in the meantime.
                if self._up.get(number, {}).get("port") == port:
                    self._taken[number].set()

    def _on_ready(self, number: int, ready: Mapping[str, Any]) -> None:
        self._up[number] = {
            "port": ready["sip_port"],
            "max_calls": ready["max_calls"],
            "calls": 0,
            "streams": 0,
            "retiring": False,
        }
        self._tell(do="up", number=number, **self._up[number])
        self._tell_level(number)  # It was started before a change.

    def _on_death(self, number: int, pid: int) -> None:
        self._tell_death(number, pid)
        self._taken[number].clear()
        if self._up.pop(number, None) is not None:
            self._tell(do="gone", number=number)
        if (retired := self._retired.get(number)) is not None:
            retired.set()

    def _on_message(self, number: int, message: Mapping[str, Any]) -> None:
        self._tell_message(number, message)
        if message["event"] == "calls" and number in self._up:
            counts = {"calls": message["calls"], "streams": message["streams"]}
            self._up[number].update(counts)
            self._tell(do="calls", number=number, **counts)
        elif message["event"] == "called":
            for other, worker in (*self._workers.items(), *self._retiring.items()):
                if other != number:
                    worker.tell(_line(called=message["caller"]))

    def _tell(self, **order: Any) -> None:
        """To the dispatcher; one that is starting hears it all once it is ready."""
        if self._dispatcher is not None:
            self._dispatcher.tell(_line(**order))


async def _started(children: Sequence[Child]) -> None:
    """All at once; they are ready then. ChildFailed if one is not."""
    try:
        async with asyncio.TaskGroup() as starting:
            for child in children:
                starting.create_task(child.start())
    except ExceptionGroup as failures:
        if failures.split(ChildFailed)[1] is not None:
            raise
        raise ChildFailed("; ".join(map(str, failures.exceptions))) from None


def _line(**fields: Any) -> str:
    return json.dumps(fields)
