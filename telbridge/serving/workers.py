"""The processes that take calls: one worker that owns the SIP port; or several, or one where SIP comes by
TLS, behind a dispatcher."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from telbridge.config import ConfigErrors, LogSection, Settings
from telbridge.legs.sip.settings import SipSettings
from telbridge.logs import LogLevel
from telbridge.serving.children import Child, ChildFailed
from telbridge.serving.messages import WorkerStart
from telbridge.serving.shares import shares

log = structlog.get_logger()

DISPATCHER_STOP_S: Final = 5.0
_PRINT_CAP: Final = "from telbridge.legs.sip.library import load; print(load().build.max_calls)"
"""In a process of its own: the library stays out of the supervisor."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a worker, for the one that takes its place (`WorkerStart`)."""

    last_good: Path
    ticket_key: str


class Workers:
    """As many as the settings, the cores and the installed pjsua2 ask for."""

    def __init__(
        self,
        settings: Settings,
        agent_port: Callable[[], Awaitable[int | None]],
        kept: Callable[[], Kept],
        *,
        on_message: Callable[[int, Mapping[str, Any]], None],
        on_death: Callable[[int, int], None],
        environ: Mapping[str, str],
    ) -> None:
        """`agent_port` waits for the embedded agent, where there is one. `on_message`, `on_death`, `environ`:
        of each worker (`Child`), by its number."""
        self._settings, self._agent_port, self._kept = settings, agent_port, kept
        self._tell_message, self._tell_death, self._environ = on_message, on_death, environ
        self._workers: list[Child] = []
        self._dispatcher: Child | None = None
        self._inner_port = 0
        self._max_calls = 0
        """Of all workers; known where there is a dispatcher."""
        self._dispatcher_ready = asyncio.Event()
        self._up: dict[int, dict[str, int]] = {}
        """What the dispatcher is told of each worker that is ready, by its number."""
        self._draining = False
        self.log_level: LogLevel = settings.log.level

    @property
    def ready(self) -> Mapping[str, Any]:
        """For a log line: where SIP is, which pjsua2, how many calls."""
        first = self._workers[0].ready
        if self._dispatcher is None:
            return first
        calls = sum(worker["max_calls"] for worker in self._up.values())
        return {
            **first,
            "sip": self._dispatcher.ready["sip"],
            "max_calls": min(calls, self._settings.sip.max_calls or calls),
            "workers": len(self._workers),
        }

    @property
    def have_http(self) -> bool:
        """Whether there is a public HTTP port: it is the first worker's."""
        return bool(self._workers) and "http" in self._workers[0].ready

    @property
    def up(self) -> int:
        """Workers that take calls."""
        return sum(worker.is_ready for worker in self._workers)

    @property
    def restarts(self) -> Mapping[str, int]:
        """By kind of process."""
        workers = sum(worker.restarts for worker in self._workers)
        dispatcher = {} if self._dispatcher is None else {"dispatcher": self._dispatcher.restarts}
        return {"worker": workers, **dispatcher}

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere. One of several workers that is being started again is no reason:
        the others take its calls."""
        if self._dispatcher is None:
            return ["worker is not ready"] if not any(worker.is_ready for worker in self._workers) else []
        reasons = [] if self._dispatcher.is_ready else ["dispatcher is not ready"]
        return reasons if self._up else [*reasons, "no worker is ready"]

    async def start(self) -> None:
        """All of them, until they are ready. Raises ChildFailed."""
        sip = self._settings.sip
        cap = await _cap() if sip.max_calls is not None or sip.tls is not None else None
        try:
            parts = [sip] if cap is None else shares(sip, cap, os.cpu_count() or 1)
        except ConfigErrors as errors:
            raise ChildFailed(str(errors)) from None
        if len(parts) == 1 and (sip.tls is None or cap is None):
            first_line = partial(self._start_line, 1, parts[0])
            self._workers = [
                Child(
                    "worker",
                    _worker_arguments,
                    first_line=first_line,
                    on_message=partial(self._tell_message, 1),
                    on_ready=lambda _: self._workers[0].tell(_line(log_level=self.log_level)),
                    on_death=partial(self._tell_death, 1),
                    environ=self._environ,
                )
            ]
        else:
            self._max_calls = sip.max_calls or cap or 0
            self._dispatcher = self._make_dispatcher()
            self._workers = [self._make_worker(number, part) for number, part in enumerate(parts, 1)]
            calls = parts[0].max_calls or self._max_calls
            log.info("workers", count=len(parts), max_calls_each=calls)
            if (wanted := self._settings.sip.max_calls or 0) > calls * len(parts):
                log.warning("sip_max_calls_clamped", wanted=wanted, max_calls=calls * len(parts))
        try:
            async with asyncio.TaskGroup() as starting:
                for child in self._children:
                    starting.create_task(child.start())
        except ExceptionGroup as failures:
            if failures.split(ChildFailed)[1] is not None:
                raise
            raise ChildFailed("; ".join(map(str, failures.exceptions))) from None

    async def stop(self, timeout_s: float) -> None:
        """Drain: no new calls; live ones end by themselves or at the deadline, through the dispatcher."""
        self._draining = True
        self._tell(do="drain")
        await asyncio.gather(*(worker.stop(timeout_s) for worker in self._workers))
        if self._dispatcher is not None:
            await self._dispatcher.stop(DISPATCHER_STOP_S)

    def terminate(self) -> None:
        """Tell draining workers to hurry."""
        for worker in self._workers:
            worker.terminate()

    def hang_up(self) -> None:
        """Have the files read again."""
        self._tell(do="reload")
        for worker in self._workers:
            worker.hang_up()

    def change_log_level(self, level: LogLevel) -> None:
        """Of all of them, and of those that are started from now on."""
        self.log_level = level
        for worker in self._workers:
            worker.tell(_line(log_level=level))
        self._tell(do="log_level", level=level)

    def show(self, number: int, call_id: str) -> None:
        """Have a worker tell of a call that goes on (`LiveCalls.look`)."""
        self._workers[number - 1].tell(_line(show=call_id))

    # ------------------------------------------------------------ inside

    @property
    def _log(self) -> LogSection:
        return self._settings.log.model_copy(update={"level": self.log_level})

    @property
    def _children(self) -> list[Child]:
        return [*([self._dispatcher] if self._dispatcher else []), *self._workers]

    def _make_worker(self, number: int, part: SipSettings) -> Child:
        return Child(
            f"worker {number}",
            _worker_arguments,
            first_line=partial(self._start_line, number, part),
            on_message=partial(self._on_message, number),
            on_ready=partial(self._on_ready, number),
            on_death=partial(self._on_death, number),
            environ=self._environ,
        )

    def _make_dispatcher(self) -> Child:
        return Child(
            "dispatcher",
            lambda: ["-m", "telbridge.serving.dispatching"],
            first_line=self._dispatcher_line,
            on_ready=self._on_dispatcher,
        )

    async def _start_line(self, number: int, part: SipSettings) -> str:
        """The worker loads its modules meanwhile, and hears where the others are once that is known."""
        inner_port = None
        if self._dispatcher is not None:
            await self._dispatcher_ready.wait()
            inner_port = self._inner_port
        kept = self._kept()
        start = WorkerStart(
            last_good=kept.last_good,
            ticket_key=kept.ticket_key,
            settings=self._settings.model_copy(update={"sip": part, "log": self._log}),
            agent_port=await self._agent_port(),
            number=number,
            dispatcher_port=inner_port,
        )
        return start.model_dump_json(exclude_unset=True)

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
            server=sip.user_agent,
            inner_port=self._inner_port,
            log=self._log.model_dump(),
        )

    def _on_dispatcher(self, ready: Mapping[str, Any]) -> None:
        self._inner_port = int(ready["inner_port"])
        self._dispatcher_ready.set()
        for number, worker in self._up.items():
            self._tell(do="up", number=number, **worker)
        self._tell(do="log_level", level=self.log_level)
        if self._draining:
            self._tell(do="drain")

    def _on_ready(self, number: int, ready: Mapping[str, Any]) -> None:
        self._up[number] = {
            "port": ready["sip_port"],
            "max_calls": ready["max_calls"],
            "calls": 0,
            "streams": 0,
        }
        self._tell(do="up", number=number, **self._up[number])
        self._workers[number - 1].tell(_line(log_level=self.log_level))  # It was started before a change.

    def _on_death(self, number: int, pid: int) -> None:
        self._tell_death(number, pid)
        if self._up.pop(number, None) is not None:
            self._tell(do="gone", number=number)

    def _on_message(self, number: int, message: Mapping[str, Any]) -> None:
        self._tell_message(number, message)
        if message["event"] == "calls" and number in self._up:
            counts = {"calls": message["calls"], "streams": message["streams"]}
            self._up[number].update(counts)
            self._tell(do="calls", number=number, **counts)
        elif message["event"] == "called":
            for worker in self._workers:
                if worker is not self._workers[number - 1]:
                    worker.tell(_line(called=message["caller"]))

    def _tell(self, **order: Any) -> None:
        """To the dispatcher; one that is starting hears it all once it is ready."""
        if self._dispatcher is not None:
            self._dispatcher.tell(_line(**order))


def _line(**fields: Any) -> str:
    return json.dumps(fields)


def _worker_arguments() -> list[str]:
    return ["-m", "telbridge.serving.worker"]


async def _cap() -> int | None:
    """Calls at a time in one process; None where there is no pjsua2: the worker will say so."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PRINT_CAP, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
    )
    said, _ = await process.communicate()
    return int(said) if process.returncode == 0 else None
