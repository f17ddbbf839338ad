"""The generic stream over HTTP: a bearer token, a ticket of our own page, or somebody on this machine."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from telbridge.call.events import CallFacts
from telbridge.legs.streams.door import Door, Refused
from telbridge.legs.streams.generic import GenericPeer
from telbridge.legs.streams.peer import Started
from telbridge.legs.streams.tickets import Ticket, TicketOffice, TicketRefused
from telbridge.serving.ingress_address import Addresses
from telbridge.serving.ingress_elsewhere import FOR_ITS_TICKET, Elsewhere, WorkerGone, note_of
from telbridge.serving.ingress_limits import Seldom

STREAM: Final = "/generic/stream"
_ADMITTED: Final = "admitted"
"""A note: another worker has seen that this request may."""
PHONE_TICKET: Final = Ticket("phone", "")
"""What the telephone on the admin port gets."""


class GenericIngress:
    """One address."""

    def __init__(
        self,
        *,
        token: str | None,
        office: TicketOffice,
        addresses: Addresses,
        door: Door,
        elsewhere: Elsewhere,
        welcome: Callable[[web.Request], None],
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._token, self._addresses, self._door, self._elsewhere = token, addresses, door, elsewhere
        self._office = office
        self._welcome, self._clock, self._log = welcome, clock, log
        self._seldom = Seldom()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get(STREAM, self._stream, allow_head=False)]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        try:
            if (moved := await self._to_its_worker(request)) is not None:
                return moved
            may = note_of(request) == _ADMITTED or self._may(request)
        except (TicketRefused, WorkerGone):
            may = False
        if not may:
            if (left_out := self._seldom.now(self._clock())) is not None:
                self._log.warning("generic_refused", why="no valid token or ticket", left_out=left_out)
            raise web.HTTPForbidden(text="refused")
        if (moved := await self._elsewhere.to_the_roomiest(request, _ADMITTED)) is not None:
            return moved
        if not self._elsewhere.room.has_room():
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        self._welcome(request)
        peer_address = self._addresses.client(request)

        def admit(started: Started) -> CallFacts:
            if not self._elsewhere.room.has_room():
                raise Refused("no room")
            parameters = dict(started.parameters)
            return CallFacts(
                call_id=secrets.token_hex(5),
                ingress="generic",
                caller=parameters.pop("from", ""),
                called=parameters.pop("to", ""),
                peer=peer_address,
                wire_format=started.format,
                signalling_id=started.call_id,
                headers=parameters,
            )

        return await self._door.hold(request, GenericPeer(), admit)

    async def _to_its_worker(self, request: web.Request) -> web.StreamResponse | None:
        """Where its ticket is taken. None: here, or it brings none. TicketRefused, WorkerGone."""
        if note_of(request) is not None or (text := request.query.get("ticket")) is None:
            return None
        return await self._elsewhere.to(request, self._office.look(text, self._clock()).home, FOR_ITS_TICKET)

    def _may(self, request: web.Request) -> bool:
        """A page of another origin cannot show anything: it neither knows the token nor may read a ticket."""
        if (ticket := request.query.get("ticket")) is not None:
            return self._takes(ticket)
        if self._addresses.is_local(request):
            return True
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = request.query.get("token", "")
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _takes(self, ticket: str) -> bool:
        try:
            return self._office.take(ticket, self._clock()) == PHONE_TICKET
        except TicketRefused:
            return False
