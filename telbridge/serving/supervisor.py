"""`telbridge serve`: the parent of the embedded agent and of the workers. It carries no call itself."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import structlog

from telbridge import __version__, logs
from telbridge.config import ConfigErrors, Settings
from telbridge.legs.streams.tickets import TicketOffice
from telbridge.logs import LogLevel
from telbridge.ops import catalogue
from telbridge.serving import upgrade as upgrading
from telbridge.serving.admin import Admin
from telbridge.serving.births import BirthFailed, Nursery
from telbridge.serving.calls import Calls
from telbridge.serving.children import Child, ChildFailed
from telbridge.serving.dialplans import uses_local_agent
from telbridge.serving.figures import Figures, Own
from telbridge.serving.ingress_siblings import present
from telbridge.serving.log_level import log_level_page
from telbridge.serving.nursery import Job
from telbridge.serving.phone_page import PHONE, PhonePage
from telbridge.serving.planning import Plan
from telbridge.serving.systemd import ServiceManager
from telbridge.serving.workers import DISPATCHER, WORKER, Kept, Workers

log = structlog.get_logger()

PRELOAD: Final = (WORKER, DISPATCHER)
"""What a nursery loads at once; the rest when it is wanted."""
PLANNING: Final = "telbridge.serving.planning"
AGENT_STOP_S: Final = 5.0
WORKER_GRACE_S: Final = 20.0
"""On top of the drain time: BYEs go out, records are written, pjsua2 ends."""


class Supervisor:
    """Starts the processes in their order, tells when they serve, and ends them in the reverse order."""

    def __init__(
        self,
        settings: Settings,
        on_ready: Callable[[Mapping[str, Any]], None],
        nursery: Nursery | None = None,
        config: Path | None = None,
        listening: Sequence[socket.socket] = (),
    ) -> None:
        """`nursery`: where its children come from; default: one that has to load all modules first. `config`:
        the file that an upgrade reads, besides the environment. `listening`: SIP's sockets that a service
        manager opened; kept open as long as we live, whoever reads them."""
        self._settings, self._on_ready = settings, on_ready
        self._nursery, self._config = nursery or Nursery(PRELOAD), config
        self._nurseries = [self._nursery]
        """All that may have children."""
        self._upgrading = asyncio.Lock()
        self._manager = ServiceManager()
        self._serving = False
        """From when all children have got ready."""
        self._stop = asyncio.Event()
        self._last_good: Path | None = None
        """What a worker leaves for the one that takes its place; gone with the supervisor."""
        self._local = settings.call.agent == "local"
        """The embedded agent runs; the dialplans may want it, too."""
        self._agent_port = settings.local_agent.port
        self._agent_ready = asyncio.Event()
        self._figures = Figures()
        self._calls = Calls(settings.records, settings.recording)
        self._workers = Workers(
            self._nursery,
            settings,
            self._known_agent_port,
            self._kept_for_workers,
            on_message=self._on_worker_message,
            on_death=self._on_worker_death,
            environ=self._figures.environ,
            listening=listening,
        )
        self._agent = Child(self._nursery, self._agent_job, on_ready=lambda _: self._tell_agent_level())
        self._calls.live.ask = self._workers.show
        self._ticket_key = secrets.token_bytes(32)
        phone = PhonePage(settings, TicketOffice(self._ticket_key), self._line)
        pages = [self._figures.page(self._own_figures), *self._calls.pages(), *phone.routes()]
        pages += log_level_page(lambda: self._workers.log_level, self._change_log_level)
        pages.append(upgrading.route(self.upgrade))
        self._admin = Admin(settings.admin, self._not_ready, pages)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; a second signal ends live calls at once. SIGHUP has the dialplans read
        again. Raises ChildFailed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup, sys.stderr.isatty())
        watchdog: asyncio.Task[None] | None = None
        kept = TemporaryDirectory(prefix="telbridge-", ignore_cleanup_errors=True)
        self._last_good = Path(kept.name)
        try:
            self._local = await asyncio.to_thread(uses_local_agent, self._settings)
            self._figures.open()
            await self._start_admin()
            self._calls.start()
            await self._start()
            self._on_ready({**self._workers.ready, **self._phone()})
            self._serving = True
            self._manager.ready(self._status())
            watchdog = asyncio.create_task(self._feed_watchdog())
            await self._stop.wait()
            log.info("draining", limit_s=self._settings.serve.drain_s)
            self._manager.stopping(self._settings.serve.drain_s + WORKER_GRACE_S + 2 * AGENT_STOP_S)
        finally:
            await self._end(loop)
            if watchdog is not None:
                watchdog.cancel()
            kept.cleanup()

    async def upgrade(self) -> Mapping[str, Any]:
        """Have other workers, with the code and the settings of now, take the calls. Gives what is there
        then. ChildFailed if that cannot be: all stays as it was."""
        if self._upgrading.locked() or not self._serving or self._stop.is_set():
            raise ChildFailed("an upgrade, the start or the end is under way")
        async with self._upgrading:
            self._manager.reloading()
            try:
                return await self._upgrade()
            finally:
                self._manager.ready(self._status())

    async def _upgrade(self) -> Mapping[str, Any]:
        if why := self._workers.why_irreplaceable():
            raise ChildFailed(why)
        nursery = Nursery(PRELOAD)
        self._nurseries.append(nursery)
        try:
            made = await self._planned(nursery)
            await self._workers.replace(nursery, made)
        except ChildFailed as error:
            log.error("upgrade_failed", error=str(error))
            if nursery.is_empty:
                await nursery.aclose()
            raise
        self._agent.nursery = nursery
        now = {
            "version": made.version,
            "workers": len(self._workers.taking),
            "retiring": self._workers.retiring,
        }
        log.info("upgraded", **now)
        return now

    def stop(self) -> None:
        """As a SIGTERM does."""
        self._stop.set()

    def _on_hangup(self, on_terminal: bool) -> None:
        """Asked to read the files again; or the terminal that we were started in was closed."""
        if on_terminal and not sys.stderr.isatty():
            self._stop.set()
        elif self._serving:
            self._manager.reloading()
            self._workers.hang_up()
            self._manager.ready(self._status())

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, hurry.set)
        drain = asyncio.create_task(self._workers.stop(self._settings.serve.drain_s + WORKER_GRACE_S))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait([drain, hurried], return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            log.warning("drain_cut_short")
            self._workers.terminate()
        await drain
        hurried.cancel()
        await self._agent.stop(AGENT_STOP_S)
        for nursery in self._nurseries:
            await nursery.aclose()
        await self._calls.stop()
        await self._admin.stop()
        self._figures.close()

    def _agent_job(self) -> Job:
        """A restarted agent takes the port it had, so that the workers still find it."""
        settings = self._settings.local_agent.model_copy(update={"port": self._agent_port})
        options = (
            "--exit-with-parent",
            f"--log-level={self._workers.log_level}",
            f"--log-repeats={self._settings.log.repeats}",
            f"--settings={settings.model_dump_json()}",
        )
        return Job("agent", "telbridge.agent.__main__", options)

    async def _start_admin(self) -> None:
        """First of all: it tells what is not ready yet."""
        try:
            await self._admin.start()
        except ConfigErrors as errors:
            raise ChildFailed(str(errors)) from None

    def _status(self) -> str:
        """As `systemctl status` shows it."""
        workers, sip = len(self._workers.taking), self._workers.ready["sip"]
        return f"telbridge {__version__}: {workers} workers, SIP at {sip}"

    async def _feed_watchdog(self) -> None:
        """As long as a worker takes calls (one that hangs is killed long before), or the last ones end."""
        while self._manager.watchdog_s is not None:
            if self._workers.taking or self._stop.is_set():
                self._manager.alive()
            await asyncio.sleep(self._manager.watchdog_s / 3)

    def _phone(self) -> dict[str, str]:
        """Where the telephone in the browser is; {} where it cannot call."""
        there = self._admin.url if self._workers.have_http else None
        return {"phone": there + PHONE} if there else {}

    def _line(self) -> str | None:
        """The worker that takes the ticket of a call from the browser; None: there is none."""
        assert self._last_good is not None
        if not self._workers.have_http:
            return None
        taking = self._workers.taking
        return next((name for name, number in present(self._last_good).items() if number in taking), None)

    def _not_ready(self) -> list[str]:
        if self._stop.is_set():
            return ["draining"]
        agent = ["agent is not ready"] if self._local and not self._agent.is_ready else []
        return [*self._workers.not_ready(), *agent]

    def _on_worker_message(self, number: int, message: Mapping[str, Any]) -> None:
        self._calls.on_message(number, message)
        if message.get("event") == "call_ended":
            self._figures.exemplars.note(message.get("exemplar", {}), message.get("worst", ()))

    def _on_worker_death(self, number: int, pid: int) -> None:
        self._figures.forget(pid)
        self._calls.on_worker_end(number)

    def _change_log_level(self, level: LogLevel) -> None:
        """Of all processes."""
        logs.change_level(level)
        self._workers.change_log_level(level)
        self._tell_agent_level()

    def _tell_agent_level(self) -> None:
        self._agent.tell(json.dumps({"log_level": self._workers.log_level}))

    def _own_figures(self) -> Iterator[Own]:
        """What the workers cannot tell of themselves."""
        yield catalogue.WORKERS, (), float(len(self._workers.taking))
        yield catalogue.DRAINING, (), float(self._stop.is_set())
        yield catalogue.BUILD, (__version__,), 1.0
        for process, restarts in (*self._workers.restarts.items(), ("agent", self._agent.restarts)):
            yield catalogue.CHILD_RESTARTS, (process,), float(restarts)

    async def _start(self) -> None:
        """All children at once: most of their start is the loading of modules."""
        try:
            async with asyncio.TaskGroup() as starting:
                if self._local:
                    starting.create_task(self._start_agent())
                starting.create_task(self._workers.start())
        except ExceptionGroup as failures:
            if failures.split(ChildFailed)[1] is not None:
                raise
            raise ChildFailed("; ".join(map(str, failures.exceptions))) from None

    async def _start_agent(self) -> None:
        await self._agent.start()
        self._agent_port = int(self._agent.ready["port"])
        self._agent_ready.set()

    async def _planned(self, nursery: Nursery) -> Plan:
        """What the workers are to be, by the code and the settings of now. Raises ChildFailed."""
        job = Job("planning", PLANNING, [str(self._config)] if self._config else [])
        try:
            child = await nursery.birth(job)
        except BirthFailed as error:
            raise ChildFailed(f"the new code does not start: {error}") from None
        said = json.loads(await child.readline() or b'{"error": "the new code does not start: see the log"}')
        await child.wait()
        if "error" in said:
            raise ChildFailed(said["error"])
        made = Plan(**said)
        before = self._settings.model_dump(mode="json")
        if fixed := list(upgrading.cannot_change(before, made.all_settings)):
            raise ChildFailed(f"{', '.join(fixed)} cannot change while calls go on: restart for that")
        if made.local and not self._local:
            raise ChildFailed("the embedded agent, which dialplans want now, does not run: restart for that")
        return made

    def _kept_for_workers(self) -> Kept:
        assert self._last_good is not None
        key = base64.b64encode(self._ticket_key).decode()
        return Kept(self._last_good, key, siblings=self._last_good)

    async def _known_agent_port(self) -> int | None:
        """Waits for the embedded agent, where there is one."""
        if not self._local:
            return None
        await self._agent_ready.wait()
        return self._agent_port
