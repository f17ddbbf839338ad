"""A telephone that only calls: many calls, one SIP socket, one clock. For people, tests and load.

async with Softphone() as phone:
    call = await phone.call("sip:echo@127.0.0.1:5060")
    await call.wait_answered(5)
    await call.play(pcm)
    await call.hang_up()
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from sipmessage import URI, Address, Request

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat
from telbridge.caller.dialog import Dialog, Phase
from telbridge.caller.handle import CallHandle, OnTrace
from telbridge.caller.media import MediaStream
from telbridge.caller.pacer import Pacer
from telbridge.caller.requests import Local, Peers, hop_of, random_token, stray_reply
from telbridge.caller.sdp import TELEPHONE_EVENT_PAYLOAD_TYPE, SessionDescription, codecs_for
from telbridge.caller.transport import Link, TcpLink, UdpLink
from telbridge.caller.wire import Hop, parse

PAUSE_AFTER_INVITE_S: Final = 0.001


class Softphone:
    """Opened with `async with` (or `start` and `close`); closing ends its calls.

    Arrival times are the kernel's on Linux (SO_TIMESTAMPNS), put on the monotonic clock at each read.
    """

    def __init__(
        self,
        local_host: str = "127.0.0.1",
        *,
        local_port: int = 0,
        user: str = "caller",
        display_name: str = "",
        keep_packets: bool = True,
        phases: int = 8,
    ) -> None:
        """`local_host` is an IPv4 address. `keep_packets=False` keeps statistics only, for long runs.
        `phases`: over how many instants of each 20 ms the calls are spread."""
        self._host = local_host
        self._port = local_port
        self._user = user
        self._display_name = display_name
        self._keep_packets = keep_packets
        self._phases = phases
        self._calls: dict[str, CallHandle] = {}
        self._links: dict[str, TcpLink] = {}
        self._addresses: dict[str, str] = {}
        self._udp: UdpLink | None = None
        self._pacer: Pacer | None = None
        self.malformed = 0
        """SIP messages that could not be read."""

    async def __aenter__(self) -> Softphone:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        self._udp = await UdpLink.open(self._host, self._port, self._on_datagram, self._on_refused)
        self._pacer = Pacer(asyncio.get_running_loop(), phases=self._phases)

    async def close(self) -> None:
        """Leave at once: what is still up gets one BYE or CANCEL and is not waited for. Safe twice."""
        for call in list(self._calls.values()):
            call.leave()
        self._calls.clear()
        for link in list(self._links.values()):
            link.close()
        self._links.clear()
        if self._udp is not None and self._pacer is not None:
            self._pacer.close()
            self._udp.close()
            self._udp = self._pacer = None
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    @property
    def skipped_frames(self) -> int:
        """Frames never sent because this process stood still for more than 100 ms."""
        return self._pacer.skipped if self._pacer is not None else 0

    async def call(
        self,
        uri: str,
        *,
        codecs: Sequence[AudioFormat] = (PCMU_8K, PCMA_8K),
        telephone_event: bool = True,
        routes: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        from_user: str | None = None,
        display_name: str | None = None,
        keep_packets: bool | None = None,
        on_trace: OnTrace | None = None,
    ) -> CallHandle:
        """Send an INVITE and return without waiting for its answer; the handle tells what comes of it.

        `routes` are Route header values (`<sip:proxy:5060;lr>`), the first is where the INVITE goes.
        ValueError for a URI that is none, OSError if the host is unknown or, over TCP, does not answer.
        """
        if self._udp is None:
            raise RuntimeError("the softphone is not started")
        target = _parse_uri(uri)
        hop = hop_of(Address.parse(routes[0]).uri if routes else target)
        address = await self._resolve(hop)
        token = random_token()
        link = await self._link(token, hop, address)
        media = MediaStream(
            self._host,
            codecs_for(codecs)[0],
            keep_packets=self._keep_packets if keep_packets is None else keep_packets,
        )
        local = Local(
            host=self._host,
            port=link.local.port,
            transport=link.local.transport,
            user=from_user if from_user is not None else self._user,
            display_name=display_name if display_name is not None else self._display_name,
        )
        description = SessionDescription(
            address=self._host,
            port=media.port,
            codecs=codecs_for(codecs),
            event_payload_type=TELEPHONE_EVENT_PAYLOAD_TYPE if telephone_event else None,
            session_id=random.getrandbits(31),
        )
        peers = Peers.calling(target, local, routes)
        call = CallHandle(
            uri,
            Dialog(peers, headers=headers),
            media,
            description,
            lambda out: link.send(out.data, self._address_of(out.hop, address)),
            on_trace,
        )
        self._enrol(call, peers.call_id, token)
        # Whoever calls in a loop must hear the answers in between: 83 unread pairs of 180 and 200 fill a
        # UDP socket's default buffer, and what comes then is lost.
        await asyncio.sleep(PAUSE_AFTER_INVITE_S)
        return call

    def _enrol(self, call: CallHandle, call_id: str, token: str) -> None:
        self._calls[call_id] = call
        if token in self._links:
            self._calls[token] = call  # by which a lost connection finds its call

        def on_media(running: bool) -> None:
            if self._pacer is not None:
                self._pacer.remove(call.media)
                if running:
                    self._pacer.add(call.media)

        def on_finished() -> None:
            self._calls.pop(call_id, None)
            self._calls.pop(token, None)
            if (link := self._links.pop(token, None)) is not None:
                link.close()

        call.start(on_media, on_finished)

    async def _link(self, token: str, hop: Hop, address: tuple[str, int]) -> Link:
        assert self._udp is not None
        if hop.transport == "udp":
            return self._udp
        if hop.transport != "tcp":
            raise ValueError(f"transport {hop.transport!r}: this caller speaks udp and tcp")
        link = await TcpLink.open(self._host, address, self._on_datagram, lambda: self._on_lost(token))
        self._links[token] = link
        return link

    def _on_lost(self, token: str) -> None:
        self._links.pop(token, None)
        if (call := self._calls.get(token)) is not None:
            call.connection_lost()

    def _on_refused(self, address: tuple[str, int]) -> None:
        """Nobody listens there: a transport error of the calls not yet heard of (RFC 3261 §18.4)."""
        for call in list(self._calls.values()):
            hop = call.dialog.peers.next_hop()
            if call.dialog.phase is Phase.CALLING and self._address_of(hop, address) == address:
                call.connection_lost()

    def _on_datagram(self, data: bytes, source: Hop) -> None:
        try:
            message = parse(data)
        except ValueError:
            self.malformed += 1
            return
        call = self._calls.get(message.call_id)
        if call is not None:
            call.receive(message, source)
        elif isinstance(message, Request) and self._udp is not None and source.transport == "udp":
            reply = stray_reply(message, random_token())
            if reply is not None:
                self._udp.send(bytes(reply), source.address)

    async def _resolve(self, hop: Hop) -> tuple[str, int]:
        if hop.host not in self._addresses and not _is_ipv4(hop.host):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(hop.host, hop.port, family=socket.AF_INET, type=socket.SOCK_STREAM)
            self._addresses[hop.host] = str(found[0][4][0])
        return self._addresses.get(hop.host, hop.host), hop.port

    def _address_of(self, hop: Hop, first: tuple[str, int]) -> tuple[str, int]:
        """A Contact with a host name that we never resolved goes where the INVITE went."""
        host = self._addresses.get(hop.host, hop.host)
        return (host, hop.port) if _is_ipv4(host) else first


def _parse_uri(uri: str) -> URI:
    try:
        return URI.parse(uri)
    except ValueError:
        raise ValueError(f"{uri!r} is no SIP URI; expected sip:USER@HOST:PORT;transport=udp|tcp") from None


def _is_ipv4(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 4
    except ValueError:
        return False
