"""The nursery: a process that has loaded the modules of the others, which are forked from it.

It has one thread, no event loop and no pjsua2 that runs, so that it may fork at any time. Orders come from
the supervisor over a socket (`births.Nursery` is its end), one JSON message each, with the descriptors that
become the child's stdin and stdout, and those that are lent to it; who was born and who ended is told the
same way.

It outlives its supervisor until its children have ended: their stdin is closed then, and one that does not
heed it is killed. If it dies itself, its children live on.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from telbridge import logs
from telbridge.serving.outlet import Outlet

MAX_MESSAGE: Final = 128 * 1024
MAX_LENT: Final = 8
"""Descriptors that a child gets besides stdin and stdout."""
_LENT: Final = "TELBRIDGE_LENT"
"""Where a child finds their numbers."""
ORPHANS_S: Final = 20.0
"""A worker without supervisor says BYE to its callers and ends well within this."""
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A service manager may send them to every process; who ends when is the supervisor's to say."""


@dataclass(frozen=True, slots=True)
class Job:
    """A child to be: `main()` of a module, which finds `arguments` in sys.argv."""

    name: str
    """As `ps` shows it, with "tb-" before it."""
    module: str
    arguments: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    """On top of the nursery's."""


def order(number: int, job: Job) -> bytes:
    """A message to the nursery; it is answered under the same number."""
    return json.dumps({"order": number, **asdict(job)}).encode()


def fork(preload: Sequence[str]) -> tuple[socket.socket, int]:
    """A nursery made of this process, which must have one thread and no event loop yet: all that is loaded
    here is loaded there. Gives our end of its socket, and its pid."""
    ours, theirs = _pair()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _leave(lambda: _serve(theirs, preload))
    theirs.close()
    return ours, pid


def execute(preload: Sequence[str]) -> tuple[socket.socket, int]:
    """A nursery that loads everything anew, as it stands on the disk now."""
    ours, theirs = _pair()
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "telbridge.serving.nursery", *preload],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
        )
    return ours, pid


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _serve(line: socket.socket, preload: Iterable[str]) -> int:
    os.setsid()  # the terminal's Ctrl-C is for the supervisor alone
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _call_ourselves("nursery")
    for module in preload:
        try:
            _load(module)
        except Exception:  # noqa: BLE001, S110 - whoever orders it is told
            pass
    _Nursery(line).run()
    return 0


class _Nursery:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._children: dict[int, tuple[int, int]] = {}
        """Order and pid, by the pidfd."""
        self._poll = select.poll()
        self._poll.register(line, select.POLLIN)

    def run(self) -> None:
        """Until the supervisor is gone, and then its children."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._bury(fd)
                elif not self._listen():
                    return self._wait_for_orphans()

    def _listen(self) -> bool:
        """One order; False if there will be none."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._line, MAX_MESSAGE, 2 + MAX_LENT)
        except ConnectionError:
            return False
        if not message:
            return False
        wanted = json.loads(message)
        number = wanted.pop("order")
        try:
            job = Job(**wanted)
            _load(job.module)
            pid = self._fork(job, *descriptors)
            pidfd = os.pidfd_open(pid)
        except Exception as error:  # noqa: BLE001 - the supervisor's to tell
            self._tell(order=number, error=f"{type(error).__name__}: {error}")
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._children[pidfd] = number, pid
        self._poll.register(pidfd, select.POLLIN)
        self._tell([pidfd], order=number, pid=pid)
        return True

    def _fork(self, job: Job, stdin: int, stdout: int, *lent: int) -> int:
        pid = os.fork()
        if pid == 0:
            self._become(job, stdin, stdout, lent)
        return pid

    def _become(self, job: Job, stdin: int, stdout: int, lent: Sequence[int]) -> NoReturn:
        for pidfd in self._children:
            os.close(pidfd)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        for descriptor in {stdin, stdout, self._line.detach()} - {0, 1}:
            os.close(descriptor)
        if lent:
            os.environ[_LENT] = " ".join(map(str, lent))
        _leave(lambda: _live(job))

    def _bury(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell(order=number, status=os.waitstatus_to_exitcode(status))

    def _tell(self, descriptors: Sequence[int] = (), **message: object) -> None:
        try:
            socket.send_fds(self._line, [json.dumps(message).encode()], descriptors)
        except OSError:
            pass  # It is gone: the next look at the socket says so.

    def _wait_for_orphans(self) -> None:
        self._poll.unregister(self._line)
        deadline = time.monotonic() + ORPHANS_S
        while self._children and (left_s := deadline - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left_s * 1000):
                self._bury(fd)
        for pidfd in list(self._children):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._bury(pidfd)


def lent_sockets() -> list[socket.socket]:
    """In a child, once: what `Nursery.birth` lent to it."""
    return [socket.socket(fileno=int(number)) for number in os.environ.pop(_LENT, "").split()]


def _load(module: str) -> None:
    """Once. What it made is never looked at by a garbage collector again, so that it stays shared."""
    if module in sys.modules:
        return
    warm: Callable[[], None] | None = getattr(importlib.import_module(module), "warm", None)
    if warm is not None:
        warm()
    gc.collect()
    gc.freeze()


def _live(job: Job) -> int:
    """As this child, from its first line to its exit status."""
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    _call_ourselves(job.name)
    os.environ.update(job.environ)
    sys.argv = [job.module, *job.arguments]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = Outlet(1), Outlet(2)
    try:
        return sys.modules[job.module].main() or 0
    finally:
        logs.tell_rest()  # Nothing that is for the end of Python is run in a child.


def _leave(life: Callable[[], int]) -> NoReturn:
    """Live it and end, without a step back into the frames that we were forked in."""
    status = 1
    try:
        status = life()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - nobody is above us
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Outlet):
                stream.finish()
            else:
                with suppress(OSError, ValueError):  # Nobody listens any more.
                    stream.flush()
        os._exit(status)


def _call_ourselves(name: str) -> None:
    """For `ps` and `top`. The kernel keeps 15 characters."""
    with suppress(OSError):  # A sandbox may forbid it.
        Path("/proc/self/comm").write_text(f"tb-{name.replace(' ', '-')}")


if __name__ == "__main__":
    _leave(lambda: _serve(socket.socket(fileno=0), sys.argv[1:]))
