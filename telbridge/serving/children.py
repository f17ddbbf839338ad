"""A process that the supervisor keeps: started, made ready, watched, restarted, ended.

The child speaks JSON lines on its stdout, the first of which is `{"event": "ready", …}`, and ends when its
stdin closes: if the supervisor is killed, nobody is left behind.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from telbridge.serving.births import BirthFailed, Newborn, Nursery
from telbridge.serving.nursery import Job
from telbridge.serving.vital import HAS_PULSE, LAST_PULSE, PULSE

log = structlog.get_logger()

READY_S: Final = 60.0
"""Models are loaded and pjsua2 is started well within this."""
BACKOFF_S: Final = (0.2, 1.0, 5.0, 15.0)
RETIRE: Final = '{"retire": true}'
LOOK_S: Final = 1.0
MISSED: Final = 6
"""So many looks in a row without a pulse, which comes once a second, and a child hangs. Nobody talks to a
line that was dead for so long; event loops that have only too much to do are late by tenths of a second.
Looks are counted, not seconds: a supervisor that stood still itself, or a machine that slept, misses one."""
STEADY_S: Final = 60.0
"""A child that lived so long has no failures behind it."""


class ChildFailed(Exception):
    """The child did not become ready; its own log lines say why."""


class Child:
    """One kept process. `job` and `first_line` are asked for anew at each start; a first line may take
    its time."""

    def __init__(
        self,
        nursery: Nursery,
        job: Callable[[], Job],
        *,
        first_line: Callable[[], Awaitable[str]] | None = None,
        on_message: Callable[[Mapping[str, Any]], None] = lambda message: None,
        on_ready: Callable[[Mapping[str, Any]], None] = lambda ready: None,
        on_death: Callable[[int], None] = lambda pid: None,
        lent: Sequence[int] = (),
    ) -> None:
        """`on_ready`: at each start, with the ready line. `on_death`: told the pid of each process that
        ended, asked to or not. `lent`: descriptors for each process (`Nursery.birth`)."""
        self.name = job().name
        self.ready: Mapping[str, Any] = {}
        """The child's ready line."""
        self.restarts = 0
        self._is_ready = False
        self.nursery: Nursery = nursery
        """Where it comes from when it is started again."""
        self._job, self._first_line, self._lent = job, first_line, lent
        self._on_message, self._on_ready, self._on_death = on_message, on_ready, on_death
        self._process: Newborn | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._missed: int | None = None
        """Looks since the last pulse; None where none is expected."""

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildFailed."""
        await self._spawn()
        log.info("child_started", child=self.name, pid=self.pid)
        self._watch = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end (SIGTERM), wait, then force it. Idempotent."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                log.warning("child_killed", child=self.name, pid=process.pid)
                process.send_signal(signal.SIGKILL)
                await process.wait()
        if self._watch is not None:
            await self._watch
            self._watch = None

    async def retire(self) -> None:
        """Have it end with its last call, however long that takes, and wait for it. One that is not ready has
        no calls."""
        self._stopping.set()
        if self.is_ready:
            self.tell(RETIRE)
        else:
            self.terminate()
        if self._watch is not None:
            await self._watch

    def terminate(self) -> None:
        """Another SIGTERM, which tells a draining child to hurry."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """SIGHUP, which tells a child to read its files again. One that is starting reads them anyway, and
        could not take the signal yet."""
        if self.is_ready and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def tell(self, line: str) -> None:
        """A line on its stdin; nothing while it is not ready."""
        if self.is_ready and self._process is not None:
            self._process.write(line.encode() + b"\n")

    @property
    def is_ready(self) -> bool:
        """Whether it has said so, and lives."""
        return self._is_ready and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def _spawn(self) -> None:
        try:
            async with asyncio.timeout(READY_S):
                await self._bear()
        except (TimeoutError, BirthFailed, ChildFailed) as error:
            why = f"not ready after {READY_S:g} s" if isinstance(error, TimeoutError) else error
            raise ChildFailed(f"{self.name} did not start: {why}") from None

    async def _bear(self) -> None:
        self._is_ready = False
        process = self._process = await self.nursery.birth(self._job(), self._lent)
        try:
            if self._first_line is not None:
                process.write((await self._first_line()).encode() + b"\n")
            self.ready = await self._until_ready(process)
        except (ChildFailed, asyncio.CancelledError):
            process.send_signal(signal.SIGKILL)
            await process.wait()
            self._on_death(process.pid)
            raise
        self._is_ready = True
        self._on_ready(self.ready)

    async def _until_ready(self, process: Newborn) -> Mapping[str, Any]:
        while (message := await _message(process)) is not None:
            if message.get("event") == "ready":
                return message
            if message.get("event") == "failed":
                raise ChildFailed(str(message.get("error")))
        raise ChildFailed(f"it ended with status {await process.wait()}")

    async def _keep(self) -> None:
        """Read what it says; when it ends without being asked, start it again."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            await self._listen()
            self._is_ready = False
            if self._stopping.is_set():
                return
            self.restarts += 1
            if loop.time() - started > STEADY_S:
                failures = 0
            delay_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            status = self._process.returncode if self._process else None
            log.error("child_died", child=self.name, status=status, restart_in_s=delay_s)
            if await self._stopping_within(delay_s):
                return
            try:
                await self._spawn()
                log.info("child_restarted", child=self.name, pid=self.pid)
                if self._stopping.is_set():
                    self.terminate()
            except ChildFailed as error:
                log.error("child_failed", child=self.name, error=str(error))

    async def _stopping_within(self, delay_s: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), delay_s)
        except TimeoutError:
            return False
        return True

    async def _listen(self) -> None:
        process = self._process
        assert process is not None
        self._missed = 0 if self.ready.get(HAS_PULSE) else None
        watch = asyncio.create_task(self._watch_pulse(process))
        try:
            while (message := await _message(process)) is not None:
                self._hear(message)
        finally:
            watch.cancel()
        await process.wait()
        self._on_death(process.pid)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["event"] == PULSE:
            self._missed = 0
        elif message["event"] == LAST_PULSE:
            self._missed = None
        else:
            self._on_message(message)

    async def _watch_pulse(self, process: Newborn) -> None:
        """What has one and loses it is ended."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._missed is None:
                continue
            self._missed += 1
            if self._missed > MISSED:
                log.error("child_hangs", child=self.name, pid=process.pid, silent_s=MISSED * LOOK_S)
                process.send_signal(signal.SIGKILL)
                return


async def _message(process: Newborn) -> Mapping[str, Any] | None:
    """The next JSON line of a child, or None at its end."""
    line = await process.readline()
    return json.loads(line) if line else None
