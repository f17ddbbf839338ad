"""The supervisor's end of a nursery: children are ordered here, and seen to live and die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final

import structlog

from telbridge.serving import nursery
from telbridge.serving.nursery import MAX_MESSAGE, Job

log = structlog.get_logger()

MAX_LINE: Final = 1024 * 1024
"""Of a child's stdout."""
UNKNOWN: Final = 255
"""Exit status of a child whose nursery died before it."""


class BirthFailed(Exception):
    """The nursery could not fork such a child; the text says why."""


class _NurseryDied(BirthFailed):
    """Another one may do better."""


class Newborn:
    """A process, with pipes to its stdin and from its stdout."""

    def __init__(self, pid: int, pidfd: int, pipes: _Pipes) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None
        """Negative: the signal that ended it; UNKNOWN: nobody was there to see."""
        self._pidfd, self._pipes = pidfd, pipes
        self._ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        """To its stdin. One that has ended reads nothing."""
        self._pipes.stdin.write(data)

    async def readline(self) -> bytes:
        """The next line of its stdout; b"" at the end."""
        return await self._pipes.stdout.readline()

    async def wait(self) -> int:
        """For its end."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Never to another process that has its pid by now."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def end(self, status: int) -> None:
        """Told by whoever saw it."""
        self.returncode = status
        os.close(self._pidfd)
        self._pipes.stdin.close()
        self._ended.set()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on nobody else will tell of its end."""

        def on_end() -> None:
            loop.remove_reader(self._pidfd)
            self.end(UNKNOWN)

        loop.add_reader(self._pidfd, on_end)


class Nursery:
    """Children are forked here, one order after the other. One that dies is replaced at the next order."""

    def __init__(self, preload: Sequence[str] = (), *, forked: bool = False) -> None:
        """`preload`: modules that it loads before it is asked. `forked`: it is made of this process, now,
        which is possible as long as there is one thread and no event loop; else it is executed when the first
        child is wanted."""
        self._preload = preload
        self._line: socket.socket | None = None
        self._pid = 0
        if forked:
            self._line, self._pid = nursery.fork(preload)
        self._listening = False
        self._numbers = count(1)
        self._expected: dict[int, _Expected] = {}
        self._living: dict[int, Newborn] = {}
        self._reaping: set[asyncio.Task[None]] = set()

    async def birth(self, job: Job, lent: Sequence[int] = ()) -> Newborn:
        """`lent`: descriptors, at most MAX_LENT, of which it gets its own (`nursery.lent_sockets`). Raises
        BirthFailed."""
        try:
            return await self._birth(job, lent)
        except _NurseryDied:
            return await self._birth(job, lent)

    @property
    def is_empty(self) -> bool:
        """Whether no child of it lives."""
        return not self._living and not self._expected

    async def aclose(self) -> None:
        """No more children; those that live are without us from now on. Safe twice."""
        if self._line is not None:
            self._hang_up(self._line)
        if self._reaping:
            await asyncio.wait(self._reaping)

    # ------------------------------------------------------------ inside

    async def _birth(self, job: Job, lent: Sequence[int]) -> Newborn:
        line, number = self._connected(), next(self._numbers)
        async with _Pipes.open() as pipes:
            expected = self._expected[number] = _Expected(pipes)
            try:
                socket.send_fds(line, [nursery.order(number, job)], [*pipes.theirs, *lent])
                pipes.close_theirs()
                return await expected.born
            except BlockingIOError:
                raise BirthFailed("its nursery does not read its orders") from None
            except OSError as error:
                if line is self._line:
                    self._hang_up(line)
                raise _NurseryDied(f"its nursery takes no orders: {error}") from None
            finally:
                del self._expected[number]

    def _connected(self) -> socket.socket:
        if self._line is None:
            self._line, self._pid = nursery.execute(self._preload)
        if not self._listening:
            self._listening = True
            self._line.setblocking(False)
            asyncio.get_running_loop().add_reader(self._line, self._listen, self._line)
        return self._line

    def _listen(self, line: socket.socket) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(line, MAX_MESSAGE, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            log.error("nursery_died", pid=self._pid, remedy="none is needed: the next child gets a new one")
            self._hang_up(line)
            return
        self._told(json.loads(message), descriptors)

    def _told(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        number = message["order"]
        expected = self._expected.get(number)
        if "status" in message:
            if (child := self._living.pop(number, None)) is not None:
                child.end(message["status"])
        elif expected is None or expected.born.done():  # Nobody wants it any more: its stdin is closed.
            for descriptor in descriptors:
                os.close(descriptor)
        elif "error" in message:
            expected.born.set_exception(BirthFailed(message["error"]))
        else:
            child = self._living[number] = Newborn(message["pid"], descriptors[0], expected.pipes)
            expected.born.set_result(child)

    def _hang_up(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(line)
        line.close()
        self._line, self._listening = None, False
        for expected in self._expected.values():
            if not expected.born.done():
                expected.born.set_exception(_NurseryDied("its nursery died"))
        for child in self._living.values():
            child.watch(loop)
        self._living.clear()
        reaping = asyncio.create_task(_reap(self._pid))
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)


class _Expected:
    """A child that was ordered."""

    def __init__(self, pipes: _Pipes) -> None:
        self.pipes = pipes
        self.born: asyncio.Future[Newborn] = asyncio.get_running_loop().create_future()


class _Pipes:
    """Both, of a child that is to be. `theirs`: its stdin and stdout."""

    def __init__(
        self, stdin: asyncio.WriteTransport, stdout: asyncio.StreamReader, theirs: list[int]
    ) -> None:
        self.stdin, self.stdout, self.theirs = stdin, stdout, theirs

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[_Pipes]:
        """Ours are closed again if there is no child in the end; theirs in any case."""
        loop = asyncio.get_running_loop()
        (stdin, ours_in), (ours_out, stdout) = os.pipe(), os.pipe()
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_in, "wb", 0))
        heard = asyncio.StreamReader(MAX_LINE)
        reader, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(heard), os.fdopen(ours_out, "rb", 0)
        )
        pipes = cls(writer, heard, [stdin, stdout])
        try:
            yield pipes
        except BaseException:
            writer.close()
            reader.close()
            raise
        finally:
            pipes.close_theirs()

    def close_theirs(self) -> None:
        """Safe twice."""
        while self.theirs:
            os.close(self.theirs.pop())


async def _reap(pid: int) -> None:
    """A nursery that was left: it ends when its children have."""
    await asyncio.to_thread(os.waitpid, pid, 0)
