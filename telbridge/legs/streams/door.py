"""One accepted WebSocket from its first message to its end: who is it, then a leg, then its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, web

from telbridge.call.events import CallFacts
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.leg import POLICY, StreamLeg, StreamParts
from telbridge.legs.streams.peer import MAX_MESSAGE_OCTETS, Fault, Ignored, Started, StreamPeer
from telbridge.legs.streams.socket import BINARY, TEXT, StreamSocket, frame

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
    """Lets streams in. `on_leg` starts the call, `on_gone` hears that its stream is closed."""

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
        admit: Callable[[Started], CallFacts],
        *,
        protocols: Sequence[str] = (),
    ) -> web.WebSocketResponse:
        """From the upgrade to the end. `admit` says what call it is, or raises `Refused`. `protocols`:
        sub-protocols that the peer may ask for (RFC 6455 §1.9)."""
        websocket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE_OCTETS,
            compress=False,
            timeout=1.0,
            protocols=protocols,
            # Who may be silent for long is pinged, to know that it is there.
            heartbeat=None if peer.traits.sends_always else self._terms.media_timeout_s,
        )
        await websocket.prepare(request)
        transport = request.transport
        if transport is None:
            return websocket
        socket = StreamSocket(websocket, transport)
        try:
            leg = await self._welcome(websocket, socket, peer, admit)
        except Refused as refusal:
            self.refused += 1
            self._log.warning("stream_refused", leg=peer.traits.name, why=str(refusal))
            socket.close(POLICY, str(refusal))
        else:
            await self._converse(websocket, leg)
        finally:
            await socket.finished()
        return websocket

    async def _welcome(
        self,
        websocket: web.WebSocketResponse,
        socket: StreamSocket,
        peer: StreamPeer,
        admit: Callable[[Started], CallFacts],
    ) -> StreamLeg:
        started = await self._started(websocket, peer)
        facts = admit(started)
        if (greeting := peer.greeting()) is not None:
            text = isinstance(greeting, str)
            message = greeting.encode() if isinstance(greeting, str) else greeting
            socket.write(frame(TEXT if text else BINARY, message))
        return StreamLeg(
            StreamParts(
                facts=facts,
                format=started.format,
                peer=peer,
                wire=socket,
                clock=self._clock,
                log=self._log.bind(call_id=facts.call_id),
                lead_ms=self._terms.lead_ms,
                media_timeout_s=self._terms.media_timeout_s,
            )
        )

    async def _started(self, websocket: web.WebSocketResponse, peer: StreamPeer) -> Started:
        limit_s = self._terms.start_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(HELLO_MESSAGES):
                    message = await websocket.receive()
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

    async def _converse(self, websocket: web.WebSocketResponse, leg: StreamLeg) -> None:
        self._ticking.add(leg)
        try:
            self._on_leg(leg)
            while not leg.over:
                message = await websocket.receive()
                if (ended := _ended(message)) is None:
                    leg.receive(message.data, self._clock())
                else:
                    leg.gone(ended)
        finally:
            leg.gone("the connection was cut")
            self._ticking.remove(leg)
            self._on_gone(leg)


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
