"""A carrier over HTTP: voice webhook, media stream, what follows it, status callback. Nothing is spent on
strangers.

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
from telbridge.legs.streams.carrier import (
    Answer,
    Arrival,
    Asked,
    Carrier,
    DialGoesOn,
    Following,
    NotVerified,
    Replays,
    Unreadable,
)
from telbridge.legs.streams.door import Door, Refused
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Started
from telbridge.legs.streams.tickets import CALL_S, Ticket, TicketOffice, TicketRefused
from telbridge.serving.after_stream import Next, tell_progress, what_follows
from telbridge.serving.ingress_address import Addresses, websocket_url
from telbridge.serving.ingress_limits import Seldom

_T = TypeVar("_T")
AFTER: Final = "after"
DIALLED: Final = "dialled"
BODY_S: Final = 5.0
"""For a webhook's body to arrive."""
AWAITED: Final = 2_000
"""Calls announced by their webhooks whose streams have not come."""


class CarrierIngress:
    """The addresses that a carrier asks: `/NAME/voice`, `/NAME/stream/TICKET`, `/NAME/status`, and where
    calls can be transferred `/NAME/after/TICKET`, `/NAME/dialled/TICKET`."""

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
        self._following = carrier if isinstance(carrier, Following) else None
        self._office = TicketOffice()
        self._call_office = TicketOffice(valid_s=CALL_S)
        """Tickets of addresses that are asked while the call goes on."""
        self._replays = Replays()
        self._awaited: OrderedDict[str, Arrival] = OrderedDict()
        self._seldom = Seldom()

    def routes(self) -> list[web.AbstractRouteDef]:
        voice, stream, status = (f"/{self._name}/{what}" for what in ("voice", "stream", "status"))
        routes: list[web.AbstractRouteDef] = [
            web.post(voice, self._voice),
            web.get(voice, self._voice, allow_head=False),
            web.get(stream, self._stream, allow_head=False),
            web.get(stream + "/{ticket}", self._stream, allow_head=False),
            web.post(status, self._status),
            web.get(status, self._status, allow_head=False),
        ]
        if self._following is not None:
            routes += [
                web.post(f"/{self._name}/{AFTER}/{{ticket}}", self._after),
                web.post(f"/{self._name}/{DIALLED}/{{ticket}}", self._dialled),
            ]
        return routes

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
        return self._connect(request, arrival)

    def _connect(self, request: web.Request, arrival: Arrival) -> web.Response:
        """A stream for this call, the first or another one."""
        of = Ticket(arrival.account, arrival.call)
        ticket = self._office.issue(of, self._clock())
        url = websocket_url(self._addresses.base(request)) + f"/{self._name}/stream/{ticket}"
        if self._following is None:
            return _response(self._carrier.connect(arrival, url))
        return _response(self._following.connect(arrival, url, self._address(request, AFTER, of)))

    def _address(self, request: web.Request, what: str, of: Ticket) -> str:
        """For what is asked of this call later on."""
        ticket = self._call_office.issue(of, self._clock())
        return f"{self._addresses.base(request)}/{self._name}/{what}/{ticket}"

    async def _after(self, request: web.Request) -> web.Response:
        """We closed the stream, or the call to somebody else has ended: what comes next? Asked again, the
        answer is the same: so this request may come twice."""
        carrier = self._following
        assert carrier is not None
        asked, _ = await self._verified(request, once=False)
        call, ended = self._read(carrier.asks, asked)
        ticket = self._ticket(request)
        leg = self._leg_of(ticket, call)
        if isinstance(ended, DialGoesOn):
            tell_progress(leg, ended.answered)
            return web.Response(status=204)
        following = what_follows(leg, ended)
        if ticket is None or following is Next.END:
            return _response(carrier.hang_up())
        if following is Next.STREAM:
            return self._connect(request, Arrival(ticket.call, ticket.account, "", ""))
        after, progress = (self._address(request, what, ticket) for what in (AFTER, DIALLED))
        return _response(carrier.dial(following, after, progress))

    async def _dialled(self, request: web.Request) -> web.Response:
        """How the call to somebody else gets on."""
        assert self._following is not None
        asked, mark = await self._verified(request)
        answered = self._read(self._following.answered, asked)
        self._replays.add(mark)
        ticket = self._ticket(request)
        tell_progress(self._leg_of(ticket, "" if ticket is None else ticket.call), answered)
        return web.Response(status=204)

    def _ticket(self, request: web.Request) -> Ticket | None:
        """Of the call that the address is for."""
        try:
            return self._call_office.look(request.match_info["ticket"], self._clock())
        except TicketRefused:
            return None

    def _leg_of(self, ticket: Ticket | None, call: str) -> StreamLeg | None:
        """The live leg of the ticket's call, if that is this one; "" may be any."""
        if ticket is None or call not in ("", ticket.call):
            return None
        return self._legs.get(ticket.call)

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
        if not self._has_room() and self._awaiting(ticket.call) is None:
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        self._welcome(request)
        arrival = self._awaited.pop(ticket.call, None) or Arrival(ticket.call, ticket.account, "", "")
        peer_address = self._addresses.client(request)

        def admit(started: Started) -> CallFacts | StreamLeg:
            if not _same_call(started, arrival):
                raise Refused("the stream is not of the call that its ticket is for")
            if (leg := self._awaiting(ticket.call)) is not None:
                return leg
            if not self._has_room():
                raise Refused("no room")
            return self._facts(started, arrival, peer_address)

        control = None if self._following is None else _ByClosing()
        return await self._door.hold(request, self._carrier.peer(), admit, control=control)

    def _awaiting(self, call: str) -> StreamLeg | None:
        """A leg that comes back from a transfer by the next stream."""
        leg = self._legs.get(call)
        return leg if leg is not None and leg.awaited else None

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

    async def _verified(self, request: web.Request, *, once: bool = True) -> tuple[Asked, str]:
        """The request, once it is known to be the carrier's and, with `once`, new; and what it is remembered
        by. HTTPForbidden otherwise."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, self._addresses.url(request), headers, await _body(request))
        try:
            mark = self._read(lambda each: self._carrier.verify(each, self._wall()), asked)
        except NotVerified as refusal:
            raise self._refusal(request, str(refusal)) from None
        if once and mark in self._replays:
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


class _ByClosing:
    """Implements `telbridge.legs.streams.transfer.CallControl`, for carriers that will ask."""

    def end_call(self) -> None:
        """It will be told when it asks."""

    async def told(self) -> Mapping[str, str]:
        return {}


def _response(answer: Answer) -> web.Response:
    return web.Response(text=answer.text, content_type=answer.content_type, charset="utf-8")


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
