"""What belongs to a call of another worker finds it: the connection moves there, or the others are told.

A call lives where its webhook was answered, and every address that a carrier is given for it names that
worker, in a ticket. The webhook itself goes to the worker with the most room.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from telbridge.legs.streams.tickets import TICKET_S, TicketOffice
from telbridge.serving.ingress_moving import Moved, octets_of
from telbridge.serving.ingress_room import UNKNOWN, Load, Room
from telbridge.serving.ingress_siblings import Message, Sent, Siblings

PATIENCE_S: Final = 1.0
"""With a worker that does not read."""
AGAIN_S: Final = 0.005
PROMISED_S: Final = 5.0
"""A place is kept for so long: carriers connect within a second or two."""

FOR_ITS_TICKET: Final = "ticket"
"""A note: the request was moved to be asked for its ticket, and need not stay."""

Hear = Callable[[Mapping[str, Any]], object]


class WorkerGone(Exception):
    """The worker that this belongs to has ended, or does not take it; the text says which."""


class Elsewhere:
    """One worker's way to the others, from `open` to `close`."""

    def __init__(
        self,
        folder: Path | None,
        number: int,
        *,
        ticket_key: bytes | None,
        most_streams: int,
        live: Callable[[], int],
        by_sip: Callable[[], int],
        on_others: Callable[[], None],
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`folder`, `number`: see `Siblings`. `ticket_key`: all workers' own. `on_others`: they are other
        ones, or have told something else."""
        self._key = ticket_key or secrets.token_bytes(32)
        self._log, self._on_others = log, on_others
        self._siblings = Siblings(
            folder, number, on_message=self._hear, on_here=self._tell_one, on_gone=self._gone, log=log
        )
        self.room = Room(
            self._siblings.name, most_streams, live=live, by_sip=by_sip, clock=clock, on_change=self.changed
        )
        self._hearers: dict[str, Hear] = {}
        self._takers: dict[str, Callable[[socket.socket, bytes, Mapping[str, Any]], None]] = {}
        self._told: Load | None = None
        self._is_to_tell = False
        self.promises_kept = asyncio.Event()
        """Set while no stream is to come that was promised."""
        self.promises_kept.set()

    def open(self) -> None:
        """OSError: see `Siblings`."""
        self._siblings.open()

    def close(self) -> None:
        """Safe twice."""
        self._siblings.close()

    @property
    def name(self) -> str:
        """Of this worker."""
        return self._siblings.name

    def office(self, purpose: str, *, valid_s: int = TICKET_S) -> TicketOffice:
        """The same at every worker, but each ticket is good at the one that issued it."""
        key = hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()
        return TicketOffice(key, valid_s=valid_s, home=self.name)

    # ------------------------------------------------------------ connections

    def promise(self, call: str) -> bool:
        """Keep a place for this call's stream; False: there is none."""
        promised = self.room.promise(call)
        if promised:
            asyncio.get_running_loop().call_later(PROMISED_S, self.room.let_go, call)
        return promised

    async def to(self, request: web.Request, home: str, note: str = "") -> web.StreamResponse | None:
        """Move this request to its worker. None: it is ours. The response is for aiohttp, nobody gets it.
        `note`: for the one who takes it (`note_of`). WorkerGone."""
        if home in ("", self.name):
            return None
        transport, octets = request.transport, await octets_of(request)
        if octets is None:
            raise WorkerGone("more requests stand behind this one")
        if transport is None or transport.is_closing():
            return web.Response()
        message = {"do": "take", "kind": "http", "note": note}
        transport.pause_reading()  # What comes from now on is the other worker's.
        sent = self._siblings.send(home, message, octets, _fd(transport))
        try:
            async with asyncio.timeout(PATIENCE_S):
                while sent is Sent.BUSY:
                    await asyncio.sleep(AGAIN_S)
                    if transport.is_closing():
                        return web.Response()
                    sent = self._siblings.send(home, message, octets, _fd(transport))
        except TimeoutError:
            pass
        if sent is not Sent.YES:
            transport.resume_reading()
            raise WorkerGone("its worker does not read" if sent is Sent.BUSY else "its worker is gone")
        transport.abort()  # Our copy alone: the connection stays.
        return web.Response()

    async def to_the_roomiest(self, request: web.Request, note: str = "") -> web.StreamResponse | None:
        """For a new call. None: this worker is to take it."""
        if note_of(request) not in (None, FOR_ITS_TICKET):
            return None
        while (chosen := self.room.roomiest()) != self.name:
            try:
                return await self.to(request, chosen, note)
            except WorkerGone as why:
                self._log.warning("call_stays", sibling=chosen, why=str(why))
                if chosen in self._siblings:
                    break
        return None

    def give(self, transport: asyncio.BaseTransport, kind: str) -> bool:
        """A connection on which nothing has been read yet, to the worker with the most room: whether it is
        somebody else's now."""
        chosen = self.room.roomiest()
        if chosen == self.name:
            return False
        return self._siblings.send(chosen, {"do": "take", "kind": kind}, b"", _fd(transport)) is Sent.YES

    def on_take(self, kind: str, take: Callable[[socket.socket, bytes, Mapping[str, Any]], None]) -> None:
        """Connections of this kind that others give us; `take` closes them."""
        self._takers[kind] = take

    # ------------------------------------------------------------ news

    def tell(self, topic: str, **news: Any) -> None:
        """All others."""
        self._siblings.send_all({"do": "hear", "topic": topic, "news": news})

    def on_news(self, topic: str, hear: Hear) -> None:
        self._hearers[topic] = hear

    def catch_up(self) -> None:
        """Hear what others have told by now, before something is decided by it."""
        self._siblings.catch_up()

    def changed(self) -> None:
        """Our load is another: the others are told once for all changes of this turn of the loop."""
        if self.room.promised:
            self.promises_kept.clear()
        else:
            self.promises_kept.set()
        if not self._is_to_tell:
            self._is_to_tell = True
            asyncio.get_running_loop().call_soon(self._tell_load)

    # ------------------------------------------------------------ inside

    def _tell_load(self) -> None:
        self._is_to_tell = False
        load = self.room.load
        if load != self._told:
            self._told = load
            self._siblings.send_all({"do": "load", "load": asdict(load)})

    def _tell_one(self, name: str) -> None:
        self.room.told(name, UNKNOWN)
        self._siblings.send(name, {"do": "load", "load": asdict(self.room.load)})

    def _gone(self, name: str) -> None:
        self.room.gone(name)
        self._on_others()

    def _hear(self, name: str, message: Message, octets: bytes, fd: int | None) -> None:
        match message["do"]:
            case "load":
                if name in self._siblings:
                    self.room.told(name, Load(**message["load"]))
                    self._on_others()
            case "hear":
                if (hear := self._hearers.get(message["topic"])) is not None:
                    hear(message["news"])
            case "take":
                assert fd is not None
                connection = socket.socket(fileno=fd)
                connection.setblocking(False)
                take = self._takers.get(message["kind"])
                if take is None:
                    connection.close()
                else:
                    take(connection, octets, message)


class Taker:
    """Takes HTTP connections over for a server of aiohttp."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._notes: dict[asyncio.BaseProtocol, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def take(self, connection: socket.socket, octets: bytes, message: Mapping[str, Any]) -> None:
        def noted(handler: asyncio.BaseProtocol) -> None:
            while len(self._notes) >= _MOST_NOTES:  # Of those who hung up before they were read.
                del self._notes[next(iter(self._notes))]
            self._notes[handler] = message["note"]

        loop = asyncio.get_running_loop()
        taking = loop.connect_accepted_socket(lambda: Moved(self._server, octets, noted), connection)
        task = asyncio.ensure_future(taking)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note(self, request: web.Request) -> None:
        """Mark the request that a connection was moved with."""
        if (note := self._notes.pop(request.protocol, None)) is not None:
            request[_NOTE] = note


_MOST_NOTES: Final = 256
_NOTE: Final = web.RequestKey("note", str)


def note_of(request: web.Request) -> str | None:
    """What the sibling said that has moved it to us; None: nobody has."""
    return request.get(_NOTE)


def _fd(transport: asyncio.BaseTransport) -> int:
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
