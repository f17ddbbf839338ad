"""Messages and connections from worker to worker: each listens on a socket in a folder that only they have.

A link is a connected SOCK_SEQPACKET: messages whole, in order, bounded by octets; descriptors go along; and
the end of a process is seen at once, by the end of its links.
"""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
import socket
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

MOST_OCTETS: Final = 192 * 1024
"""Of one message: the kernel's usual bound of such a socket is a little higher."""
_SUFFIX: Final = ".worker"
_LINKS: Final = 128

Message = Mapping[str, Any]


class Sent(Enum):
    """What became of a message."""

    YES = auto()
    BUSY = auto()
    """It does not read, or the message is too big."""
    GONE = auto()


class Siblings:
    """The other workers of the same server, from `open` to `close`."""

    def __init__(
        self,
        folder: Path | None,
        number: int,
        *,
        on_message: Callable[[str, Message, bytes, int | None], None],
        on_here: Callable[[str], None],
        on_gone: Callable[[str], None],
        log: Any,
    ) -> None:
        """`folder`: of the supervisor, and private; None: there are no others. `on_message`: whose it is, the
        message, octets and a descriptor that came with it, which is then the listener's to close. `on_here`,
        `on_gone`: a sibling can be told things, or no more."""
        self.name = f"{number}.{secrets.token_hex(3)}"
        """Of this process alone: the next one of that number is another."""
        self._folder = folder
        self._on_message, self._on_here, self._on_gone, self._log = on_message, on_here, on_gone, log
        self._listener: socket.socket | None = None
        self._out: dict[str, socket.socket] = {}
        self._in: dict[socket.socket, str] = {}
        """Each with the name that it said."""

    def __contains__(self, name: object) -> bool:
        """Whether it can be told things."""
        return name in self._out

    def open(self) -> None:
        """OSError where the folder takes no socket: its path may be too long."""
        if self._folder is None:
            return
        self._listener = _seqpacket()
        path = self._folder / (self.name + _SUFFIX)
        try:
            self._listener.bind(str(path))
        except OSError as error:
            raise OSError(
                f"no socket at {path} ({error}): set TMPDIR to a short path on this machine"
            ) from None
        self._listener.listen(_LINKS)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            self._link(path.name.removesuffix(_SUFFIX))

    def close(self) -> None:
        """Safe twice."""
        listener, self._listener = self._listener, None
        if listener is None or self._folder is None:
            return
        (self._folder / (self.name + _SUFFIX)).unlink(missing_ok=True)
        for link in (listener, *self._out.values(), *self._in):
            _shut(link)
        self._out.clear()
        self._in.clear()

    def send(self, name: str, message: Message, octets: bytes = b"", fd: int | None = None) -> Sent:
        """The descriptor is copied: whoever sends it closes its own."""
        link = self._out.get(name)
        if link is None:
            return Sent.GONE
        packet = json.dumps(message, separators=(",", ":")).encode() + b"\n" + octets
        if len(packet) > MOST_OCTETS:
            return Sent.BUSY
        try:
            socket.send_fds(link, [packet], [] if fd is None else [fd])
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE):
                return Sent.BUSY
            self._lost(name)
            return Sent.GONE
        return Sent.YES

    def send_all(self, message: Message) -> None:
        """To every sibling. One that does not read misses it, and we say so."""
        for name in list(self._out):
            if self.send(name, message) is Sent.BUSY:
                self._log.warning("sibling_deaf", sibling=name, missed=message.get("do"))

    def catch_up(self) -> None:
        """Hear what has been sent to us by now."""
        for link in list(self._in):
            self._read(link)

    # ------------------------------------------------------------ inside

    def _link(self, name: str) -> None:
        """Towards this one, if it lives."""
        if name == self.name or name in self._out or self._folder is None:
            return
        path = self._folder / (name + _SUFFIX)
        link = _seqpacket()
        try:
            link.connect(str(path))
        except OSError as error:
            link.close()
            if error.errno == errno.ECONNREFUSED:  # It was killed.
                path.unlink(missing_ok=True)
            return
        self._out[name] = link
        # Nothing is ever read there but the end.
        asyncio.get_running_loop().add_reader(link, self._lost, name)
        self.send(name, {"do": "hello", "name": self.name})
        self._on_here(name)

    def _lost(self, name: str) -> None:
        if (link := self._out.pop(name, None)) is not None:
            _shut(link)
            self._on_gone(name)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            link, _ = self._listener.accept()
        except OSError:
            return
        link.setblocking(False)
        self._in[link] = ""
        asyncio.get_running_loop().add_reader(link, self._read, link)

    def _read(self, link: socket.socket) -> None:
        """All that is there."""
        while link in self._in:
            try:
                packet, descriptors, _, _ = socket.recv_fds(link, MOST_OCTETS, 1)
            except BlockingIOError:
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:
                del self._in[link]
                _shut(link)
                return
            self._hear(link, packet, descriptors[0] if descriptors else None)

    def _hear(self, link: socket.socket, packet: bytes, fd: int | None) -> None:
        head, _, octets = packet.partition(b"\n")
        message = json.loads(head)
        if message["do"] == "hello":
            self._in[link] = message["name"]
            self._link(message["name"])
            return
        try:
            self._on_message(self._in[link], message, octets, fd)
        except Exception:  # noqa: BLE001 - the wall between workers
            self._log.exception("sibling_bug", do=message["do"])


def present(folder: Path) -> dict[str, int]:
    """The workers that live, for somebody who is none: their numbers, by name."""
    names = (path.name.removesuffix(_SUFFIX) for path in sorted(folder.glob(f"*{_SUFFIX}")) if _listens(path))
    return {name: int(name.partition(".")[0]) for name in names}


def _listens(path: Path) -> bool:
    with _seqpacket() as probe:
        return probe.connect_ex(str(path)) == 0


def _seqpacket() -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.setblocking(False)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST_OCTETS)
    return link


def _shut(link: socket.socket) -> None:
    asyncio.get_running_loop().remove_reader(link)
    link.close()
