"""The processes that are measured: bridges, agents, the floor; and their CPU time."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.e2e.bridge import Bridge, serving

Build = Literal["built", "wheel"]
BUILDS: Final[tuple[Build, ...]] = ("built", "wheel")
READY_S: Final = 30.0
STOP_S: Final = 5.0


@asynccontextmanager
async def bridge(build: Build, settings: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Bridge]:
    """`telbridge serve` that says nothing by itself."""
    merged = {**settings, "call": {"greeting": '""', **settings.get("call", {})}}
    with tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        async with serving(build, Path(folder), merged) as running:
            yield running


@asynccontextmanager
async def echo_bridge(build: Build) -> AsyncIterator[Bridge]:
    """A bridge with the embedded agent's echo brain; its session speaks the telephone's own law."""
    async with bridge(build, {"local_agent": {"brain": "echo"}}) as running:
        yield running


@asynccontextmanager
async def bridge_to(
    build: Build,
    url: str,
    audio: Literal["g711", "pcm24k"] = "g711",
    *,
    dialplan: Path | None = None,
) -> AsyncIterator[Bridge]:
    """A bridge whose agent is an OpenAI Realtime server at `url`; the key it shows opens nothing."""
    extra = {"dialplans": {"folder": str(dialplan)}} if dialplan is not None else {}
    with tempfile.NamedTemporaryFile("w", suffix=".key") as key:
        key.write("no-secret")
        key.flush()
        session = {"url": url, "audio": audio, "api_key": f'{{ file = "{key.name}" }}'}
        async with bridge(
            build, {"call": {"agent": "openai_realtime"}, "openai_realtime": session, **extra}
        ) as running:
            yield running


@asynccontextmanager
async def echo_agent() -> AsyncIterator[str]:
    """The embedded agent with the echo brain, by itself; gives its URL."""
    async with child("telbridge.agent", "--brain", "echo", "--exit-with-parent") as ready:
        yield f"ws://127.0.0.1:{ready['port']}{ready['path']}"


@asynccontextmanager
async def child(
    module: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Run a module that says in one JSON line on stdout that it is ready; gives that line with its `pid`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environ,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_S)
        if not line:
            raise RuntimeError(f"{module} ended before it was ready")
        saying = asyncio.create_task(_ignored(process.stdout))
        yield {**json.loads(line), "pid": process.pid}
        saying.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ignored(said: asyncio.StreamReader) -> None:
    """What a child says after its ready line: nobody asks for it, but a full pipe would hold it up."""
    while await said.read(1 << 16):
        pass


def worker_pid(bridge: Bridge) -> int:
    """The process that carries the calls."""
    return child_pid(bridge.process.pid, "telbridge.serving.worker")


def child_pid(parent: int, module: str) -> int:
    """The process of a supervisor that runs this Python module: a child of its nursery. LookupError if there
    is none."""
    name = f"tb-{module.rpartition('.')[2]}"
    parents: dict[int, int] = {}
    named: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            parents[pid] = int(stat_of(pid)[1])
            if (folder / "comm").read_text("utf-8", errors="replace").startswith(name):
                named.append(pid)
        except OSError:  # it ended meanwhile
            continue
    for pid in named:
        if parents.get(parents[pid]) == parent:
            return pid
    raise LookupError(f"process {parent} has no {name}")


@dataclass(frozen=True, slots=True)
class CpuClock:
    """CPU time of one process (of the threads that it has, user and system), and how long its main thread
    waited for a core that others had: what of a bad figure is the machine's."""

    pid: int
    used_s: float
    waited_s: float
    at_ns: int

    @classmethod
    def read(cls, pid: int) -> CpuClock:
        used_ns = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                used_ns += _run_and_waited_ns(task)[0]
        _, waited_ns = _run_and_waited_ns(Path(f"/proc/{pid}"))
        return cls(pid, used_ns / 1e9, waited_ns / 1e9, time.monotonic_ns())

    def since(self) -> CpuShare:
        """From that reading until now."""
        now = CpuClock.read(self.pid)
        percent = 100 / ((now.at_ns - self.at_ns) / 1e9)
        return CpuShare((now.used_s - self.used_s) * percent, (now.waited_s - self.waited_s) * percent)


@dataclass(frozen=True, slots=True)
class CpuShare:
    """In % of one core, or of the time."""

    used: float
    waited: float


def _run_and_waited_ns(task: Path) -> tuple[int, int]:
    """Exact, where /proc/PID/stat counts in hundredths of a second."""
    run, waited, _ = (task / "schedstat").read_text("utf-8").split()
    return int(run), int(waited)


def stat_of(pid: int) -> list[str]:
    """/proc/PID/stat from the state on (proc(5), field 3)."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(") ")[2].split()
