"""A carrier over HTTP: voice webhook, media stream, status callback. Nothing is spent on strangers.

One shell for every carrier whose webhooks are read and answered by a `Carrier`; Twilio has one of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import web

from telbridge.call.events import CallFacts, Ending
from telbridge.legs.streams.carrier import Arrival, Asked, Carrier, NotVerified, Replays, Unreadable
from telbridge.legs.streams.door import Door, Refused
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Started
from telbridge.legs.streams.tickets import Ticket, TicketOffice, TicketRefused
from telbridge.serving.ingress_address import Addresses, websocket_url
from telbridge.serving.ingress_limits import Seldom

_T = TypeVar("_T")
BODY_S: Final = 5.0
"""For a webhook's body to arrive."""
AWAITED: Final = 2_000
"""Calls announced by their webhooks whose streams have not come."""


class CarrierIngress:
    """The three addresses that a carrier asks: `/NAME/voice`, `/NAME/stream/TICKET`, `/NAME/status`."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        addresses: Addresses,
        door: Door,
        has_room: Callable[[], bool],
        welcome: Callable[[web.Request], None],
        legs: Mapping[str, StreamLeg],
        clock: Callable[[], int],
        log: Any,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`legs`: by the carrier's id of the call. `wall`: seconds since 1970, for what carriers date."""
        self._carrier, self._name = carrier, carrier.traits.name
        self._addresses, self._door, self._has_room, self._legs = addresses, door, has_room, legs
        self._welcome, self._clock, self._log, self._wall = welcome, clock, log, wall
        self._office = TicketOffice()
        self._replays = Replays()
        self._awaited: OrderedDict[str, Arrival] = OrderedDict()
        self._seldom = Seldom()

    def routes(self) -> list[web.AbstractRouteDef]:
        voice, stream, status = (f"/{self._name}/{what}" for what in ("voice", "stream", "status"))
        return [
            web.post(voice, self._voice),
            web.get(voice, self._voice, allow_head=False),
            web.get(stream, self._stream, allow_head=False),
            web.get(stream + "/{ticket}", self._stream, allow_head=False),
            web.post(status, self._status),
            web.get(status, self._status, allow_head=False),
        ]

    # ------------------------------------------------------------ requests

    async def _voice(self, request: web.Request) -> web.Response:
        """A call has come: where its audio goes."""
        asked, mark = await self._verified(request)
        arrival = self._read(self._carrier.arrival, asked)
        if not self._has_room():
            # Carriers take the number's fallback URL then.
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        self._replays.add(mark)
        self._await(arrival)
        ticket = self._office.issue(Ticket(arrival.account, arrival.call), self._clock())
        url = websocket_url(self._addresses.base(request)) + f"/{self._name}/stream/{ticket}"
        answer = self._carrier.connect(arrival, url)
        return web.Response(text=answer.text, content_type=answer.content_type, charset="utf-8")

    async def _status(self, request: web.Request) -> web.Response:
        """The call's progress, told beside the stream. A call that is over ends here too, if its stream did
        not say so."""
        asked, mark = await self._verified(request)
        ended = self._read(self._carrier.ended, asked)
        self._replays.add(mark)
        if ended is not None and (leg := self._legs.get(ended[0])) is not None:
            leg.end(Ending.CALLER_HUNG_UP, f"call status {ended[1]}")
        return web.Response(status=204)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The upgrade. The ticket is checked before it."""
        try:
            ticket = self._office.take(request.match_info.get("ticket", ""), self._clock())
        except TicketRefused as refusal:
            raise self._refusal(request, str(refusal)) from None
        if not self._has_room():
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        self._welcome(request)
        arrival = self._awaited.pop(ticket.call, None) or Arrival(ticket.call, ticket.account, "", "")
        peer_address = self._addresses.client(request)

        def admit(started: Started) -> CallFacts:
            if not self._has_room():
                raise Refused("no room")
            if not _same_call(started, arrival):
                raise Refused("the stream is not of the call that its ticket is for")
            return self._facts(started, arrival, peer_address)

        return await self._door.hold(request, self._carrier.peer(), admit)

    def _facts(self, started: Started, arrival: Arrival, peer_address: str) -> CallFacts:
        return CallFacts(
            call_id=secrets.token_hex(5),
            ingress=self._name,
            caller=arrival.caller or started.parameters.get("from", ""),
            called=arrival.called or started.parameters.get("to", ""),
            peer=peer_address,
            wire_format=started.format,
            signalling_id=started.call_id,
            headers=arrival.headers,
        )

    def _await(self, arrival: Arrival) -> None:
        """Its stream tells less than its webhook."""
        self._awaited[arrival.call] = arrival
        if len(self._awaited) > AWAITED:
            self._awaited.popitem(last=False)

    # ------------------------------------------------------------ who is it

    async def _verified(self, request: web.Request) -> tuple[Asked, str]:
        """The request, once it is known to be the carrier's and new, and what it is remembered by.
        HTTPForbidden otherwise."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, self._addresses.url(request), headers, await _body(request))
        try:
            mark = self._read(lambda each: self._carrier.verify(each, self._wall()), asked)
        except NotVerified as refusal:
            raise self._refusal(request, str(refusal)) from None
        if mark in self._replays:
            raise self._refusal(request, "this request came before")
        self._welcome(request)
        return asked, mark

    def _read(self, read: Callable[[Asked], _T], asked: Asked) -> _T:
        """HTTPBadRequest for what the carrier does not send."""
        try:
            return read(asked)
        except Unreadable as fault:
            raise web.HTTPBadRequest(text=str(fault)) from None

    def _refusal(self, request: web.Request, why: str) -> web.HTTPForbidden:
        """Logged with its reason; told without, for who asks may be anybody."""
        if (left_out := self._seldom.now(self._clock())) is not None:
            resource = request.match_info.route.resource
            path = resource.canonical if resource is not None else ""
            self._log.warning(f"{self._name}_refused", path=path, why=why, left_out=left_out)
        return web.HTTPForbidden(text="refused")


async def _body(request: web.Request) -> bytes:
    """HTTPRequestTimeout if it does not arrive whole."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="too slow") from None


def _same_call(started: Started, arrival: Arrival) -> bool:
    """Not every stream tells its account, and not every webhook."""
    if started.account and arrival.account and started.account != arrival.account:
        return False
    return started.call_id == arrival.call
