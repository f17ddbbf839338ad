"""A process that the supervisor keeps: started, made ready, watched, restarted, ended.

The child speaks JSON lines on its stdout, the first of which is `{"event": "ready", …}`, and ends when its
stdin closes: if the supervisor is killed, nobody is left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

log = structlog.get_logger()

READY_S: Final = 60.0
"""Models are loaded and pjsua2 is started well within this."""
BACKOFF_S: Final = (0.2, 1.0, 5.0, 15.0)
STEADY_S: Final = 60.0
"""A child that lived so long starts anew without delay."""


class ChildFailed(Exception):
    """The child did not become ready; its own log lines say why."""


class Child:
    """One kept process. `arguments` and `first_line` are asked for anew at each start; a first line may come
    when it is ready to be written, while the child imports its modules."""

    def __init__(
        self,
        name: str,
        arguments: Callable[[], Sequence[str]],
        *,
        first_line: Callable[[], Awaitable[str]] | None = None,
        on_message: Callable[[Mapping[str, Any]], None] = lambda message: None,
        on_death: Callable[[int], None] = lambda pid: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`on_death`: told the pid of each process that ended, asked to or not. `environ`: on top of ours."""
        self.name = name
        self.ready: Mapping[str, Any] = {}
        """The child's ready line."""
        self.restarts = 0
        self._is_ready = False
        self._arguments, self._first_line, self._on_message = arguments, first_line, on_message
        self._on_death, self._environ = on_death, environ
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildFailed."""
        await self._spawn()
        self._watch = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end (SIGTERM), wait, then force it. Idempotent."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                log.warning("child_killed", child=self.name, pid=process.pid)
                process.kill()
                await process.wait()
        if self._watch is not None:
            await self._watch
            self._watch = None

    def terminate(self) -> None:
        """Another SIGTERM, which tells a draining child to hurry."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def hang_up(self) -> None:
        """SIGHUP, which tells a child to read its files again. One that is starting reads them anyway, and
        could not take the signal yet."""
        if self.is_ready and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    @property
    def is_ready(self) -> bool:
        """Whether it has said so, and lives."""
        return self._is_ready and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def _spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments(),
            stdin=PIPE,
            stdout=PIPE,
            env=None if self._environ is None else {**os.environ, **self._environ},
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
        )
        self._process, self._is_ready = process, False
        try:
            if self._first_line is not None:
                assert process.stdin is not None
                process.stdin.write((await self._first_line()).encode() + b"\n")
            self.ready = await asyncio.wait_for(self._until_ready(process), READY_S)
            self._is_ready = True
        except (TimeoutError, ChildFailed, asyncio.CancelledError) as error:
            if process.returncode is None:
                process.kill()
            await process.wait()
            self._on_death(process.pid)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ChildFailed(
                f"{self.name} did not start: {error or f'not ready after {READY_S:g} s'}"
            ) from None

    async def _until_ready(self, process: Process) -> Mapping[str, Any]:
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
            if self._stopping.is_set():
                return
            self.restarts += 1
            failures = 0 if loop.time() - started > STEADY_S else failures + 1
            delay_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            status = self._process.returncode if self._process else None
            log.error("child_died", child=self.name, status=status, restart_in_s=delay_s)
            if await self._stopping_within(delay_s):
                return
            try:
                await self._spawn()
                log.info("child_restarted", child=self.name, pid=self.pid)
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
        while (message := await _message(process)) is not None:
            self._on_message(message)
        await process.wait()
        self._on_death(process.pid)


async def _message(process: Process) -> Mapping[str, Any] | None:
    """The next JSON line of a child, or None at its end."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    return json.loads(line) if line else None
