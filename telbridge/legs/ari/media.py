"""The ways by which a caller's audio comes from Asterisk, best first.

websocket: we connect to Asterisk's HTTP port. Nothing is to be opened on our side, nothing configured;
Asterisk plays in real time what we send ahead, throws it away at once when interrupted, and tells what was
heard; TLS.

audiosocket: Asterisk connects to a TCP port of ours. Older versions have it too. What was sent cannot be
taken back, so we are the clock; no marks, no TLS.

rtp: Asterisk sends to a UDP port of ours. Every Asterisk has it. Packets are lost, and nothing tells of it.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from telbridge.audio.formats import PCM_8K, PCM_16K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.call.events import CallFacts
from telbridge.legs.ari.client import AriClient
from telbridge.legs.ari.leg import AriLeg, MediaFailed
from telbridge.legs.ari.rtp import LEAD_MS, RtpPeer, RtpSocket
from telbridge.legs.streams.audiosocket_door import AudioSocketDoor
from telbridge.legs.streams.chan_websocket import ChanWebSocketPeer
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Door, Refused, Terms
from telbridge.legs.streams.leg import StreamLeg, StreamParts
from telbridge.legs.streams.peer import Started

FORMATS: Final[Mapping[str, AudioFormat]] = {
    "ulaw": PCMU_8K,
    "alaw": PCMA_8K,
    "slin": PCM_8K,
    "slin16": PCM_16K,
}
"""By Asterisk's names."""
CONNECTION_ID: Final = "MEDIA_WEBSOCKET_CONNECTION_ID"


class WebSocketWay:
    """We connect to the chan_websocket of the channel."""

    def __init__(
        self,
        client: AriClient,
        codec: str,
        terms: Terms,
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self.format: Final = FORMATS[codec]
        self._client, self._codec = client, codec
        self._legs: dict[str, AriLeg] = {}
        self._door = Door(terms, self._on_leg, lambda stream: None, ticking, clock, log)

    async def start(self) -> None:
        """Nothing listens here."""

    async def stop(self) -> None:
        """Each stream ends with its call."""

    def expect(self, leg: AriLeg) -> Mapping[str, str]:
        self._legs[leg.facts.call_id] = leg
        return {
            "external_host": "INCOMING",
            "encapsulation": "none",
            "transport": "websocket",
            "connection_type": "server",
            "format": self._codec,
        }

    async def carry(self, leg: AriLeg, variables: Mapping[str, str]) -> None:
        connection_id = variables.get(CONNECTION_ID)
        if not isinstance(connection_id, str):
            raise MediaFailed("Asterisk gave no MEDIA_WEBSOCKET_CONNECTION_ID: is it 20.16, 22.6 or later?")
        try:
            wire = await self._client.media(connection_id)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MediaFailed(f"no media WebSocket ({type(error).__name__})") from None

        def admit(started: Started) -> CallFacts:
            if started.format != self.format:
                raise Refused("another codec than was asked for")
            return leg.facts

        await self._door.converse(wire, ChanWebSocketPeer(), admit)
        leg.media_gone("the media WebSocket was closed")

    def forget(self, leg: AriLeg) -> None:
        self._legs.pop(leg.facts.call_id, None)

    def _on_leg(self, stream: StreamLeg) -> None:
        if (leg := self._legs.get(stream.facts.call_id)) is not None:
            leg.media_came(stream)


class AudioSocketWay:
    """Asterisk connects to a port of ours; the UUID that it was given says which call it is."""

    def __init__(
        self, codec: str, host: str, terms: Terms, ticking: StreamClock, clock: Callable[[], int], log: Any
    ) -> None:
        """`host`: an address of ours that Asterisk reaches."""
        self.format: Final = FORMATS[codec]
        self._codec, self._host = codec, host
        self._legs: dict[str, AriLeg] = {}
        self._door = AudioSocketDoor(
            terms,
            self._on_leg,
            lambda stream: None,
            ticking,
            clock,
            log,
            lets_in=lambda address: bool(self._legs),
            admit=self._admit,
            assumed=self.format,
        )
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on any free port. OSError if `host` is no address of ours."""
        self._listener = await asyncio.get_running_loop().create_server(self._door, self._host, 0)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._door.close()

    def expect(self, leg: AriLeg) -> Mapping[str, str]:
        assert self._listener is not None
        port = self._listener.sockets[0].getsockname()[1]
        ours = str(uuid.uuid4())
        self._legs[ours] = leg
        return {
            "external_host": f"{self._host}:{port}",
            "encapsulation": "audiosocket",
            "transport": "tcp",
            "format": self._codec,
            "data": ours,
        }

    async def carry(self, leg: AriLeg, variables: Mapping[str, str]) -> None:
        """Asterisk has connected by itself."""

    def forget(self, leg: AriLeg) -> None:
        self._legs = {ours: each for ours, each in self._legs.items() if each is not leg}

    def _admit(self, started: Started, address: str) -> CallFacts:
        leg = self._legs.get(started.call_id)
        if leg is None:
            raise Refused("no call waits for this UUID")
        return leg.facts

    def _on_leg(self, stream: StreamLeg) -> None:
        for leg in self._legs.values():
            if leg.facts.call_id == stream.facts.call_id:
                leg.media_came(stream)
                return


class RtpWay:
    """Asterisk sends to a UDP port of ours, and tells its own when the channel is there."""

    def __init__(
        self,
        codec: str,
        host: str,
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`host`: an IPv4 address of ours that Asterisk reaches."""
        self.format: Final = FORMATS[codec]
        self._codec, self._host = codec, host
        self._ticking, self._clock, self._log = ticking, clock, log
        self._bound: dict[AriLeg, socket.socket] = {}

    async def start(self) -> None:
        self._bind().close()

    async def stop(self) -> None:
        """Each stream ends with its call."""

    def expect(self, leg: AriLeg) -> Mapping[str, str]:
        bound = self._bound[leg] = self._bind()
        port = bound.getsockname()[1]
        return {
            "external_host": f"{self._host}:{port}",
            "encapsulation": "rtp",
            "transport": "udp",
            "format": self._codec,
        }

    async def carry(self, leg: AriLeg, variables: Mapping[str, str]) -> None:
        host, port = variables.get("UNICASTRTP_LOCAL_ADDRESS"), variables.get("UNICASTRTP_LOCAL_PORT")
        bound = self._bound.pop(leg, None)
        if bound is None:
            return
        if not isinstance(host, str) or not isinstance(port, str) or not port.isdigit():
            bound.close()
            raise MediaFailed("Asterisk named no UNICASTRTP_LOCAL_ADDRESS and …_PORT")
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_datagram_endpoint(
            lambda: RtpSocket((host, int(port)), self._clock), sock=bound
        )
        stream = StreamLeg(
            StreamParts(
                facts=leg.facts,
                format=self.format,
                peer=RtpPeer(self.format),
                wire=wire,
                clock=self._clock,
                log=self._log.bind(call_id=leg.facts.call_id),
                lead_ms=LEAD_MS,
                media_timeout_s=0,
                on_over=self._ticking.remove,
            )
        )
        wire.leg = stream
        self._ticking.add(stream)
        try:
            leg.media_came(stream)
            await wire.closed
        finally:
            wire.close(0, "")
            stream.gone("")

    def forget(self, leg: AriLeg) -> None:
        if (bound := self._bound.pop(leg, None)) is not None:
            bound.close()

    def _bind(self) -> socket.socket:
        """Any free port. OSError if the host is no address of ours."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.bind((self._host, 0))
        except OSError:
            bound.close()
            raise
        return bound
