"""One accepted WebSocket from its first message to its end: who is it, then a leg, then its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, web

from telbridge.call.events import CallFacts, Ending
from telbridge.legs.streams.carrier import trace_of
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.leg import POLICY, StreamLeg, StreamParts
from telbridge.legs.streams.peer import Fault, Ignored, Started, StreamPeer
from telbridge.legs.streams.socket import BINARY, TEXT, StreamSocket, StreamUpgrade
from telbridge.legs.streams.transfer import CallControl

HELLO_MESSAGES: Final = 8
"""Before it says `Started`, a peer has little to say."""
_ORDERLY: Final = (0, 1000, 1001, 1005)
"""0 and 1005: closed without a code."""


class Refused(Exception):
    """This stream becomes no call; the text is the close reason."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What every stream of this process gets."""

    lead_ms: int
    start_timeout_s: float
    media_timeout_s: float


class Door:
    """Lets streams in. `on_leg` starts the call, `on_gone` hears that its leg has ended."""

    def __init__(
        self,
        terms: Terms,
        on_leg: Callable[[StreamLeg], None],
        on_gone: Callable[[StreamLeg], None],
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._terms, self._on_leg, self._on_gone = terms, on_leg, on_gone
        self._ticking, self._clock, self._log = ticking, clock, log
        self.refused = 0

    async def hold(
        self,
        request: web.Request,
        peer: StreamPeer,
        admit: Callable[[Started], CallFacts | StreamLeg],
        *,
        control: CallControl | None = None,
        protocols: Sequence[str] = (),
    ) -> web.WebSocketResponse:
        """From the upgrade to the end. `admit` says what call it is, or which leg has been waiting for this
        stream, or raises `Refused`. `control`: what a new leg can have done beside its stream. `protocols`:
        sub-protocols that the peer may ask for (RFC 6455 §1.9)."""
        upgrade = StreamUpgrade(compress=False, protocols=protocols)
        await upgrade.prepare(request)
        transport = request.transport
        if transport is None:
            return upgrade
        socket = StreamSocket(transport, upgrade.incoming)
        await self.converse(socket, peer, _with_trace(admit, request), control)
        return upgrade

    async def converse(
        self,
        socket: StreamSocket,
        peer: StreamPeer,
        admit: Callable[[Started], CallFacts | StreamLeg],
        control: CallControl | None = None,
    ) -> None:
        """The same on a WebSocket that is open, whoever opened it."""
        if not peer.traits.sends_always:
            socket.ping_every(self._terms.media_timeout_s)
        try:
            leg, is_new = await self._welcome(socket, peer, admit, control)
        except Refused as refusal:
            self.refused += 1
            self._log.warning("stream_refused", leg=peer.traits.name, why=str(refusal))
            socket.close(POLICY, str(refusal))
        else:
            await self._converse(socket, leg, is_new=is_new)
        finally:
            await socket.finished()

    async def _welcome(
        self,
        socket: StreamSocket,
        peer: StreamPeer,
        admit: Callable[[Started], CallFacts | StreamLeg],
        control: CallControl | None,
    ) -> tuple[StreamLeg, bool]:
        """The leg, and whether it is a new one."""
        started = await self._started(socket, peer)
        facts = admit(started)
        if (greeting := peer.greeting()) is not None:
            text = isinstance(greeting, str)
            message = greeting.encode() if isinstance(greeting, str) else greeting
            socket.write(socket.framed(TEXT if text else BINARY, message))
        if isinstance(facts, StreamLeg):
            if not facts.resume(peer, socket, started.format):
                raise Refused("nobody waits for this stream")
            return facts, False
        parts = StreamParts(
            facts=facts,
            format=started.format,
            peer=peer,
            wire=socket,
            clock=self._clock,
            log=self._log.bind(call_id=facts.call_id),
            lead_ms=self._terms.lead_ms,
            media_timeout_s=self._terms.media_timeout_s,
            on_over=self._forget,
            control=control,
        )
        return StreamLeg(parts), True

    async def _started(self, socket: StreamSocket, peer: StreamPeer) -> Started:
        limit_s = self._terms.start_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(HELLO_MESSAGES):
                    message = await socket.receive()
                    if (ended := _ended(message)) is not None:
                        raise Refused(ended or "closed before it started")
                    happening = peer.receive(message.data)
                    if isinstance(happening, Started):
                        return happening
                    if isinstance(happening, Fault):
                        raise Refused(happening.reason)
                    if not isinstance(happening, Ignored):
                        raise Refused("media before the start")
        except TimeoutError:
            raise Refused(f"no start within {limit_s:g} s") from None
        raise Refused("too many messages before the start")

    async def _converse(self, socket: StreamSocket, leg: StreamLeg, *, is_new: bool) -> None:
        """Until the leg has ended, or left this socket for a transfer."""

        def hear(message: str | bytes) -> None:
            try:
                leg.receive(message, self._clock())
            except Exception:  # noqa: BLE001 - the wall between calls
                self._log.exception("stream_bug", where="receive", call_id=leg.facts.call_id)
                leg.end(Ending.INTERNAL_ERROR)

        try:
            if is_new:
                self._ticking.add(leg)
                self._on_leg(leg)
            socket.listen(hear)
            while leg.uses(socket):
                message = await socket.receive()
                if not leg.uses(socket):
                    break
                if (ended := _ended(message)) is None:
                    hear(message.data)
                else:
                    leg.gone(ended)
        finally:
            socket.listen(_unheard)
            if leg.uses(socket):
                leg.gone("the connection was cut")

    def _forget(self, leg: StreamLeg) -> None:
        self._ticking.remove(leg)
        self._on_gone(leg)


def _with_trace(
    admit: Callable[[Started], CallFacts | StreamLeg], request: web.Request
) -> Callable[[Started], CallFacts | StreamLeg]:
    """The trace of the upgrade, unless the call comes with one."""
    if not (trace := trace_of(request.headers)):
        return admit

    def admit_traced(started: Started) -> CallFacts | StreamLeg:
        admitted = admit(started)
        if isinstance(admitted, CallFacts):
            return replace(admitted, headers={**trace, **admitted.headers})
        return admitted

    return admit_traced


def _unheard(_message: str | bytes) -> None:
    """What still comes over a socket that its leg has left."""


def _ended(message: WSMessage) -> str | None:
    """Why the connection is over, "" if in good order; None for a message."""
    match message.type:
        case WSMsgType.TEXT | WSMsgType.BINARY:
            return None
        case WSMsgType.CLOSE:
            return "" if message.data in _ORDERLY else f"closed with {message.data}"
        case WSMsgType.ERROR:
            return _fault_words(message.data)
        case _:
            return "the connection was lost"


def _fault_words(error: object) -> str:
    """Our own words: aiohttp's may hold the peer's data."""
    code = getattr(error, "code", None)
    return "message too big" if code == 1009 else f"WebSocket broken ({code or type(error).__name__})"
