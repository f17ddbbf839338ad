"""One accepted AudioSocket connection from its first octet to its end; what `door.py` is for WebSockets."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.call.events import CallFacts, Ending
from telbridge.legs.streams.audiosocket import LEAD_MS, AudioSocketPeer, Compressed, FrameCutter
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Refused, Terms
from telbridge.legs.streams.leg import POLICY, StreamLeg, StreamParts
from telbridge.legs.streams.peer import Fault, Started
from telbridge.legs.streams.socket import CLOSE_S, UNREAD_OCTETS

SILENT_START_S: Final = 0.25
"""Who has told its UUID and sends no audio for so long gets the rate of the dialplan application."""
MOST_WAITING: Final = 100
"""Connections that have not become a call."""

Admit = Callable[[Started, str], CallFacts]


class AudioSocketDoor:
    """Lets connections in: a factory of protocols. `on_leg` starts the call, `on_gone` hears that its
    leg has ended. `lets_in` is asked for the address of each, `admit` what call its UUID is: it raises
    `Refused` for one that is none."""

    def __init__(
        self,
        terms: Terms,
        on_leg: Callable[[StreamLeg], None],
        on_gone: Callable[[StreamLeg], None],
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
        *,
        lets_in: Callable[[str], bool],
        admit: Admit,
        assumed: AudioFormat = PCM_8K,
    ) -> None:
        """`assumed`: the format of who says nothing at first."""
        self.assumed = assumed
        self.terms, self.on_leg, self.on_gone = terms, on_leg, on_gone
        self.ticking, self.clock, self.log = ticking, clock, log
        self.admit = admit
        self._lets_in = lets_in
        self.waiting: set[_Connection] = set()
        self.connections: set[_Connection] = set()
        self.refused = 0

    def forget(self, leg: StreamLeg) -> None:
        """The leg has ended, whatever its connection still does."""
        self.ticking.remove(leg)
        self.on_gone(leg)

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self)

    def lets_in(self, address: str) -> bool:
        """Whether this address may connect now."""
        return len(self.waiting) < MOST_WAITING and self._lets_in(address)

    async def close(self) -> None:
        """Until the connections are gone that are being closed; what is left then is cut off."""
        if self.connections:
            await asyncio.wait([each.gone for each in self.connections], timeout=CLOSE_S)
        for connection in list(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """Implements `telbridge.legs.streams.leg.Wire` too."""

    def __init__(self, door: AudioSocketDoor) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._cutter, self._peer = FrameCutter(), AudioSocketPeer()
        self._compressed = Compressed()
        self._leg: StreamLeg | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.gone = self._loop.create_future()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._address = str((transport.get_extra_info("peername") or [""])[0])
        if not self._door.lets_in(self._address):
            self._door.refused += 1
            self._transport.abort()
            return
        self._door.connections.add(self)
        self._door.waiting.add(self)
        self._transport.set_write_buffer_limits(high=1 << 30)  # Nothing here waits for it.
        self._notice_death(self._door.terms.media_timeout_s)
        self._arm(self._door.terms.start_timeout_s, self._too_late)

    def data_received(self, data: bytes) -> None:
        for message in self._cutter.feed(data):
            if self._closing:
                return
            self._walled(partial(self._receive, message))

    def eof_received(self) -> None:
        """Asterisk never says that the caller hung up: it closes. The transport closes after this too."""
        if self._leg is not None:
            self._leg.gone("")

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        self._door.waiting.discard(self)
        self._door.connections.discard(self)
        self._closing = True
        self.gone.set_result(None)
        if self._leg is not None:
            # Closing while something of ours was unread, Asterisk resets the connection.
            hung_up = error is None or isinstance(error, ConnectionError)
            self._leg.gone("" if hung_up else "the connection was lost")

    # ------------------------------------------------------------ Wire

    def framed(self, opcode: int, message: bytes) -> bytes:
        """A message is a frame already."""
        return message

    def write(self, frames: bytes) -> None:
        if not self._closing and not self._transport.is_closing():
            self._transport.write(frames)

    @property
    def is_stuck(self) -> bool:
        return self._transport.get_write_buffer_size() > UNREAD_OCTETS

    def close(self, code: int, reason: str) -> None:
        """Half of it: closing with audio unread would reset the connection, and our last frame with it. The
        rest is Asterisk's to close, or ours after a while. Safe twice."""
        if self._closing:
            return
        self._closing = True
        self._arm(CLOSE_S, self._transport.abort)
        try:
            self._transport.write_eof()
        except OSError:  # Asterisk was faster, and we are still to be told.
            self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()

    # ------------------------------------------------------------ inside

    def _receive(self, message: bytes) -> None:
        if self._leg is not None:
            now_ns = self._door.clock()
            self._leg.receive(message, now_ns)
            if self._compressed.add(message, now_ns):
                self._leg.fault("no linear audio: write c(slin) into Dial(AudioSocket/…)")
            return
        knew_it = bool(self._peer.uuid)
        happening = self._peer.receive(message)
        if isinstance(happening, Started):
            self._begin(happening)
        elif isinstance(happening, Fault):
            self._refuse(happening.reason)
        elif self._peer.uuid and not knew_it:
            self._arm(SILENT_START_S, lambda: self._walled(self._begin_silent))

    def _walled(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # the wall between calls
            self._door.log.exception("stream_bug", where="audiosocket")
            if self._leg is not None:
                self._leg.end(Ending.INTERNAL_ERROR)
            self._transport.abort()

    def _begin_silent(self) -> None:
        self._begin(self._peer.assume(self._door.assumed))

    def _begin(self, started: Started) -> None:
        self._disarm()
        self._door.waiting.discard(self)
        door = self._door
        try:
            facts = door.admit(started, self._address)
        except Refused as refusal:
            self._refuse(str(refusal))
            return
        self._leg = StreamLeg(
            StreamParts(
                facts=facts,
                format=started.format,
                peer=self._peer,
                wire=self,
                clock=door.clock,
                log=door.log.bind(call_id=facts.call_id),
                lead_ms=LEAD_MS,
                media_timeout_s=door.terms.media_timeout_s,
                on_over=door.forget,
            )
        )
        door.ticking.add(self._leg)
        door.on_leg(self._leg)

    def _too_late(self) -> None:
        self._refuse(f"no UUID within {self._door.terms.start_timeout_s:g} s")

    def _refuse(self, why: str) -> None:
        self._door.refused += 1
        self._door.log.warning("stream_refused", leg=self._peer.traits.name, why=why)
        if (goodbye := self._peer.goodbye(why)) is not None:
            self.write(cast(bytes, goodbye))
        self.close(POLICY, why)

    def _arm(self, delay_s: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay_s, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _notice_death(self, after_s: float) -> None:
        """Asterisk may be silent, but what we send must arrive: Linux tells when it does not (RFC 5482)."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        handle = self._transport.get_extra_info("socket")
        if option is not None and handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, math.ceil(after_s * 1000))
