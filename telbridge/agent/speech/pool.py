"""Worker processes as the event loop sees them: hand in a piece of work, await its result.

One process does one piece at a time; the rest waits in a bounded queue. Full means refused, at once and
by name: late speech is worth nothing on a telephone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import structlog

from telbridge.agent.speech.models import ModelsMissingError
from telbridge.agent.speech.stt import Recognition
from telbridge.agent.speech.worker import HEAD, Header, packed
from telbridge.audio.formats import AudioFormat

log: Final = structlog.get_logger("telbridge.agent.speech")

MODULE: Final = "telbridge.agent.speech.worker"
CLOSE_TIMEOUT_S: Final = 2.0
CACHE_MAX_BYTES: Final = 32 * 1024 * 1024  # about an hour of G.711: more canned lines than anybody writes


class OverloadedError(Exception):
    """More speech is waiting than can be done in time."""


class WorkerLostError(Exception):
    """The process ended with the work in hand."""


class _Job(NamedTuple):
    header: Header
    payload: bytes
    result: asyncio.Future[tuple[Header, bytes]]


class WorkerPool:
    """Some processes of one kind. Use as an async context manager: its models are loaded when it begins."""

    def __init__(self, kind: str, settings: Header, count: int, max_pending: int) -> None:
        self._arguments = (sys.executable, "-m", MODULE, kind, json.dumps(settings))
        self._kind = kind
        self._count = count
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(max_pending)
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: set[asyncio.subprocess.Process] = set()

    async def __aenter__(self) -> WorkerPool:
        try:
            processes = await asyncio.gather(*(self._start() for _ in range(self._count)))
        except BaseException:
            await self._end_processes()
            raise
        self._tasks = [
            asyncio.create_task(self._work(process), name=f"agent/{self._kind}") for process in processes
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_processes()

    async def run(self, header: Header, payload: bytes = b"") -> tuple[Header, bytes]:
        """The answer to one request. Cancelled while it waits, it is never begun.

        OverloadedError when too much is waiting, WorkerLostError, RuntimeError in the worker's own words."""
        result: asyncio.Future[tuple[Header, bytes]] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait(_Job(header, payload, result))
        except asyncio.QueueFull:
            raise OverloadedError(f"{self._kind}: {self._jobs.maxsize} pieces are waiting") from None
        return await result

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=pipe)
        self._processes.add(process)
        header, _ = await _answer(process)
        if "error" in header:
            raise ModelsMissingError([header["error"]])
        return process

    async def _work(self, process: asyncio.subprocess.Process) -> None:
        while True:
            job = await self._jobs.get()
            if job.result.done():
                continue
            try:
                _writer(process).write(packed(job.header, job.payload))
                header, payload = await _answer(process)
            except (asyncio.IncompleteReadError, ConnectionError):
                log.error("speech_worker_lost", kind=self._kind, status=process.returncode)
                if not job.result.done():
                    job.result.set_exception(WorkerLostError(f"{self._kind} worker ended"))
                self._processes.discard(process)
                process = await self._start()
                continue
            if job.result.done():
                continue
            if "error" in header:
                job.result.set_exception(RuntimeError(header["error"]))
            else:
                job.result.set_result((header, payload))

    async def _end_processes(self) -> None:
        for process in self._processes:
            _writer(process).close()
        for process in self._processes:
            try:
                await asyncio.wait_for(process.wait(), CLOSE_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._processes.clear()


def _writer(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise RuntimeError("a worker has a standard input")
    return process.stdin


async def _answer(process: asyncio.subprocess.Process) -> tuple[Header, bytes]:
    reader = process.stdout
    if reader is None:
        raise RuntimeError("a worker has a standard output")
    header_size, payload_size = HEAD.unpack(await reader.readexactly(HEAD.size))
    header: dict[str, Any] = json.loads(await reader.readexactly(header_size))
    return header, await reader.readexactly(payload_size)


class SpeechService:
    """Recognition and synthesis for all sessions of an agent, with a cache of what was said before."""

    def __init__(self, recognition: WorkerPool | None, synthesis: WorkerPool) -> None:
        self._recognition = recognition
        self._synthesis = synthesis
        self._said: OrderedDict[tuple[str, AudioFormat], bytes] = OrderedDict()
        self._said_bytes = 0

    async def recognize(self, pcm_8k: bytes) -> Recognition:
        if self._recognition is None:
            raise RuntimeError("this agent was started without recognition")
        header, _ = await self._recognition.run({}, pcm_8k)
        return Recognition(header["text"], header["confidence"])

    async def synthesize(self, text: str, output: AudioFormat) -> bytes:
        """A sentence as audio in a format; the same sentence costs nothing the second time."""
        key = (text, output)
        known = self._said.get(key)
        if known is not None:
            self._said.move_to_end(key)
            return known
        header = {"text": text, "encoding": output.encoding.value, "rate_hz": output.rate_hz}
        _, payload = await self._synthesis.run(header)
        self._keep(key, payload)
        return payload

    def _keep(self, key: tuple[str, AudioFormat], payload: bytes) -> None:
        if key in self._said:
            return
        self._said[key] = payload
        self._said_bytes += len(payload)
        while self._said_bytes > CACHE_MAX_BYTES:
            _, oldest = self._said.popitem(last=False)
            self._said_bytes -= len(oldest)
