"""A real `telbridge serve` in its own processes, as an operator runs it, for tests to phone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.ports import free_port

SERVING_S = 180.0
PATIENCE_S = 60.0
"""For what must come: other programs may want the machine, too."""


class Bridge:
    """A running server: its log as it is written, its records, its SIP address."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        port: int,
        http_port: int,
        admin_port: int,
        records: Path,
    ) -> None:
        self.process, self.port, self.http_port, self.admin_port = process, port, http_port, admin_port
        self.log: list[dict[str, Any]] = []
        self.stray: list[str] = []
        """What it printed besides log lines."""
        self._records = records
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def uri(self) -> str:
        return f"sip:agent@127.0.0.1:{self.port}"

    @property
    def twilio(self) -> str:
        return f"twilio+ws://127.0.0.1:{self.http_port}/twilio/stream"

    @property
    def twilio_voice(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/twilio/voice"

    @property
    def generic(self) -> str:
        return f"ws://127.0.0.1:{self.http_port}/generic/stream"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._changed:
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.stray.append(line.decode(errors="replace"))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log lines of that event with these fields."""
        wanted = {"event": event, **fields}
        return [line for line in self.log if wanted.items() <= line.items()]

    async def until_logged(
        self, event: str, *, count: int = 1, within_s: float = PATIENCE_S, **fields: Any
    ) -> list[dict[str, Any]]:
        """Wait until so many such lines were written."""

        def there() -> bool:
            return len(self.logged(event, **fields)) >= count or self._reader.done()

        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(there)
        except TimeoutError:
            pass
        lines = self.logged(event, **fields)
        assert len(lines) >= count, f"never logged: {count} x {event} {fields}\n{self.log}\n{self.stray}"
        return lines

    async def records(self, count: int, within_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """The records, once there are so many."""
        await self.until_logged("call_ended", count=count, within_s=within_s)
        return self._written()

    async def kept(self, call_id: str) -> dict[str, Any]:
        """A call's record by the admin port, which has it as soon as a worker or the supervisor wrote it."""
        async with aiohttp.ClientSession(self.admin) as http, http.get(f"/calls/{call_id}") as answer:
            assert answer.status == 200, await answer.text()
            record: dict[str, Any] = await answer.json()
            return record

    async def until_known(self, call_id: str) -> None:
        """Until its worker has told the supervisor of the call, which is not when it has logged it."""
        async with aiohttp.ClientSession(self.admin) as http, asyncio.timeout(PATIENCE_S):
            known = False
            while not known:
                async with http.get(f"/calls/{call_id}") as answer:
                    known = answer.status != 404

    def _written(self) -> list[dict[str, Any]]:
        if not self._records.exists():
            return []
        return [json.loads(line) for line in self._records.read_text("utf-8").splitlines()]

    def kill(self, child: str, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal to one of its processes, by the supervisor's name for it."""
        pids = [line["pid"] for line in self.log if line.get("child") == child and "pid" in line]
        os.kill(pids[-1], number)

    async def stop(self) -> int:
        """SIGTERM twice: the second does not wait for calls. Returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.until_logged("draining")
            if self.process.returncode is None:
                self.process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self.process.wait(), 30)
        except TimeoutError:
            self.process.kill()
            raise
        await self._reader
        return status


def environment(build: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Settings as environment overrides, over an otherwise clean environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TELBRIDGE__")}
    environ["TELBRIDGE_PJSUA2"] = build
    for section, values in settings.items():
        for key, value in values.items():
            raw = value if isinstance(value, str) else json.dumps(value)
            environ[f"TELBRIDGE__{section}__{key}".upper()] = raw
    return environ


def _passing(passed: Sequence[int]) -> tuple[str, ...]:
    """Runs what follows as systemd would (sd_listen_fds(3)): sockets from descriptor 3 on."""
    high = [f"{90 + index}<&{fd}" for index, fd in enumerate(passed)]
    low = [f"{3 + index}<&{90 + index}" for index in range(len(passed))]
    script = f'exec {" ".join(high)}; exec env LISTEN_PID=$$ LISTEN_FDS={len(passed)} "$@" {" ".join(low)}'
    return "bash", "-c", script, "bash"


@asynccontextmanager
async def serving(
    build: str,
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    listening: Sequence[socket.socket] = (),
) -> AsyncIterator[Bridge]:
    """`telbridge serve` on loopback with these settings over test-friendly ones. `listening`: SIP's sockets,
    passed as systemd does."""
    port, http_port, admin_port = free_port(), free_port(), free_port()
    if listening:
        port = listening[0].getsockname()[1]
    records = folder / "calls.jsonl"
    merged: dict[str, dict[str, Any]] = {
        "sip": {"host": "127.0.0.1", "port": port},
        "http": {"port": http_port},
        "admin": {"port": admin_port},
        "records": {"path": str(records)},
        "log": {"format": "json"},
    }
    for section, values in (settings or {}).items():
        merged.setdefault(section, {}).update(values)
    passed = [each.fileno() for each in listening]
    process = await asyncio.create_subprocess_exec(
        *(_passing(passed) if passed else ()),
        sys.executable,
        "-m",
        "telbridge",
        "serve",
        stderr=asyncio.subprocess.PIPE,
        env=environment(build, merged),
        pass_fds=passed,
    )
    bridge = Bridge(process, port, http_port, admin_port, records)
    try:
        await bridge.until_logged("serving", within_s=SERVING_S)
        yield bridge
    finally:
        await bridge.stop()
