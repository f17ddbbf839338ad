"""The TCP port of AudioSocket: who may connect, and which call a UUID is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from telbridge.call.events import CallFacts
from telbridge.config import ConfigError, ConfigErrors
from telbridge.legs.streams.announcements import Announcement, Announcements
from telbridge.legs.streams.audiosocket_door import AudioSocketDoor
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Refused, Terms
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Started
from telbridge.serving.ingress_limits import Seldom
from telbridge.serving.ingress_settings import AudioSocketSection


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
        has_room: Callable[[], bool],
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._section, self._announcements, self._has_room = section, announcements, has_room
        self._clock, self._log = clock, log
        self._door = AudioSocketDoor(
            terms, on_leg, on_gone, ticking, clock, log, lets_in=self._lets_in, admit=self._admit
        )
        self._seldom = Seldom()
        self._listener: asyncio.Server | None = None

    def describe(self) -> dict[str, str]:
        """For a log or status line; {} while it does not listen."""
        return {"audiosocket": f"{self._section.host}:{self._section.port}"} if self._listener else {}

    async def start(self) -> None:
        """ConfigErrors if the port cannot be had."""
        host, port = self._section.host, self._section.port
        if port is None:
            return
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._door, host, port)
        except OSError as error:
            what = f"cannot listen on {host}:{port}: {error.strerror}"
            raise ConfigErrors(
                [ConfigError("settings", "audiosocket.port", what, "choose another")]
            ) from None
        self._log.info("audiosocket_listening", **self.describe())

    async def stop(self) -> None:
        """Take no more connections; those whose calls were ended get a moment to close. Safe twice."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._door.close()

    # ------------------------------------------------------------ inside

    def _lets_in(self, address: str) -> bool:
        """By `audiosocket.allow`. An IPv4 address may come in IPv6's clothes."""
        peer = ip_address(address.partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        if any(peer in network for network in self._section.allow):
            return True
        if (left_out := self._seldom.now(self._clock())) is not None:
            self._log.warning(
                "audiosocket_refused", why="address not in audiosocket.allow", left_out=left_out
            )
        return False

    def _admit(self, started: Started, address: str) -> CallFacts:
        if not self._has_room():
            raise Refused("no room")
        announced = self._announcements.take(started.call_id, self._clock())
        if announced is None and not self._section.unannounced:
            raise Refused("its UUID was not announced, or too long ago")
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
