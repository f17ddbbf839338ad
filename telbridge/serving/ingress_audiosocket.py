"""The TCP port of AudioSocket: who may connect, and which call a UUID is."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, cast

from telbridge.call.events import CallFacts
from telbridge.config import ConfigError, ConfigErrors
from telbridge.legs.streams.announcements import Announcement, Announcements
from telbridge.legs.streams.audiosocket_door import AudioSocketDoor
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Refused, Terms
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Started
from telbridge.serving.ingress_elsewhere import Elsewhere
from telbridge.serving.ingress_limits import Seldom
from telbridge.serving.ingress_port import listening
from telbridge.serving.ingress_settings import AudioSocketSection

_KIND: Final = "audiosocket"
_TAKEN: Final = "audiosocket taken"


class AudioSocketIngress:
    """Listens from `start` to `stop`, where a port was set."""

    def __init__(
        self,
        section: AudioSocketSection,
        announcements: Announcements,
        *,
        terms: Terms,
        on_leg: Callable[[StreamLeg], None],
        on_gone: Callable[[StreamLeg], None],
        elsewhere: Elsewhere,
        folder: Path | None,
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`folder`: of all workers that listen on the port; None: nobody else does."""
        self._section, self._announcements, self._elsewhere = section, announcements, elsewhere
        self._folder = folder
        self._clock, self._log = clock, log
        self._door = AudioSocketDoor(
            terms, on_leg, on_gone, ticking, clock, log, lets_in=self._lets_in, admit=self._admit
        )
        self._seldom = Seldom()
        self._listeners: list[asyncio.Server] = []
        self._taking: set[asyncio.Task[Any]] = set()
        elsewhere.on_take(_KIND, self._take)
        elsewhere.on_news(_TAKEN, self._hear_taken)

    def describe(self) -> dict[str, str]:
        """For a log or status line; {} while it does not listen."""
        return {"audiosocket": f"{self._section.host}:{self._section.port}"} if self._listeners else {}

    async def start(self) -> None:
        """ConfigErrors if the port cannot be had."""
        host, port = self._section.host, self._section.port
        if port is None:
            return
        try:
            loop = asyncio.get_running_loop()
            for each in listening(host, port, self._folder):
                self._listeners.append(await loop.create_server(lambda: _Usher(self), sock=each))
        except OSError as error:
            what = f"cannot listen on {host}:{port}: {error.strerror}"
            raise ConfigErrors(
                [ConfigError("settings", "audiosocket.port", what, "choose another")]
            ) from None
        self._log.info("audiosocket_listening", **self.describe())

    def leave_port(self) -> None:
        """Take no more connections. Safe twice."""
        while self._listeners:
            self._listeners.pop().close()

    async def stop(self) -> None:
        """Nor any more calls; those whose calls were ended get a moment to close. Safe twice."""
        self.leave_port()
        await self._door.close()

    def handler(self, transport: asyncio.BaseTransport) -> asyncio.Protocol | None:
        """Of a connection on which nothing has been read; None: another worker has it now."""
        address = str((transport.get_extra_info("peername") or [""])[0])
        if self._allows(address) and self._elsewhere.give(transport, _KIND):
            return None
        return self._door()

    # ------------------------------------------------------------ inside

    def _take(self, connection: socket.socket, octets: bytes, message: Mapping[str, Any]) -> None:
        """From another worker."""
        taking = asyncio.get_running_loop().connect_accepted_socket(self._door, connection)
        task = asyncio.ensure_future(taking)
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def _hear_taken(self, news: Mapping[str, Any]) -> None:
        """Its call has come to another worker: the UUID is good once."""
        self._announcements.take(news["uuid"], self._clock())

    def _allows(self, address: str) -> bool:
        """By `audiosocket.allow`. An IPv4 address may come in IPv6's clothes."""
        peer = ip_address(address.partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self._section.allow)

    def _lets_in(self, address: str) -> bool:
        if self._allows(address):
            return True
        if (left_out := self._seldom.now(self._clock())) is not None:
            self._log.warning(
                "audiosocket_refused", why="address not in audiosocket.allow", left_out=left_out
            )
        return False

    def _admit(self, started: Started, address: str) -> CallFacts:
        if not self._elsewhere.room.has_room():
            raise Refused("no room")
        self._elsewhere.catch_up()
        announced = self._announcements.take(started.call_id, self._clock())
        if announced is None and not self._section.unannounced:
            raise Refused("its UUID was not announced, or too long ago")
        if announced is not None:
            self._elsewhere.tell(_TAKEN, uuid=started.call_id)
        known = announced or Announcement()
        return CallFacts(
            call_id=secrets.token_hex(5),
            ingress="audiosocket",
            caller=known.caller,
            called=known.called,
            peer=address,
            wire_format=started.format,
            signalling_id=started.call_id,
            parameters=known.parameters,
        )


class _Usher(asyncio.Protocol):
    """The first protocol of each connection: before anything is read it goes to the worker that is to have
    it."""

    def __init__(self, ingress: AudioSocketIngress) -> None:
        self._ingress = ingress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        if (handler := self._ingress.handler(connection)) is None:
            connection.abort()  # Our copy alone.
            return
        connection.set_protocol(handler)
        handler.connection_made(connection)
