"""Twilio over HTTP: voice webhook, media stream, what follows it, status callback. Nothing is spent on
strangers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

from aiohttp import web

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import CallFacts, Ending
from telbridge.legs.streams.door import Door, Refused
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Started
from telbridge.legs.streams.tickets import CALL_S, Ticket, TicketRefused
from telbridge.legs.streams.twilio import TwilioPeer
from telbridge.legs.streams.twilio_signature import MAYBE_UNSIGNED, signed_url
from telbridge.legs.streams.twilio_webhook import TOLD, connect_stream, facts_to_hand_on, headers_of
from telbridge.legs.streams.verbs import ENDED, PROGRESS, dial, dial_ended, hang_up
from telbridge.serving.after_stream import Next, tell_progress, what_follows
from telbridge.serving.ingress_address import Addresses, websocket_url
from telbridge.serving.ingress_elsewhere import Elsewhere, WorkerGone
from telbridge.serving.ingress_limits import Seldom
from telbridge.serving.twilio_calls import TwilioCall, TwilioRest

VOICE: Final = "/twilio/voice"
STREAM: Final = "/twilio/stream"
STATUS: Final = "/twilio/status"
AFTER: Final = "/twilio/after"
DIALLED: Final = "/twilio/dialled"
_NEWS: Final = "/twilio/status"
BODY_S: Final = 5.0
"""For a webhook's body to arrive."""
MAX_FIELDS: Final = 200

Form = Mapping[str, Sequence[str]]


class TwilioIngress:
    """The addresses that Twilio asks."""

    def __init__(
        self,
        *,
        tokens: Sequence[str],
        account_sid: str | None,
        caller_id: str | None,
        verify: bool,
        addresses: Addresses,
        door: Door,
        elsewhere: Elsewhere,
        welcome: Callable[[web.Request], None],
        legs: Mapping[str, StreamLeg],
        rest: TwilioRest | None,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`tokens`: auth tokens; without any, everybody is refused while `verify` holds. `legs`: by the
        carrier's id of the call. `rest`: where an API key is configured."""
        self._tokens, self._account_sid, self._verify = tokens, account_sid, verify
        self._caller_id = caller_id
        self._addresses, self._door, self._elsewhere, self._legs = addresses, door, elsewhere, legs
        self._welcome, self._clock, self._log = welcome, clock, log
        self._rest = rest
        self._office = elsewhere.office(STREAM)
        self._call_office = elsewhere.office(AFTER, valid_s=CALL_S)
        """Tickets of addresses that Twilio asks while the call goes on."""
        self._calls: WeakValueDictionary[str, TwilioCall] = WeakValueDictionary()
        """By CallSid, as long as anybody wants to know of them."""
        self._tells_status = False
        """Status callbacks are set up at Twilio."""
        self._seldom = Seldom()
        elsewhere.on_news(_NEWS, self._hear_status)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post(VOICE, self._voice),
            web.get(VOICE, self._voice, allow_head=False),
            web.get(STREAM, self._stream, allow_head=False),
            web.get(STREAM + "/{ticket}", self._stream, allow_head=False),
            web.get(STREAM + "/{ticket}/", self._stream, allow_head=False),
            web.post(STATUS, self._status),
            web.post(AFTER + "/{ticket}", self._after),
            web.post(DIALLED + "/{ticket}", self._dialled),
        ]

    # ------------------------------------------------------------ requests

    async def _voice(self, request: web.Request) -> web.StreamResponse:
        """A call has come: where its audio goes."""
        form = await self._verified_form(request)
        if (moved := await self._elsewhere.to_the_roomiest(request)) is not None:
            return moved
        if not self._elsewhere.promise(_first(form, "CallSid")):
            # Twilio takes the number's fallback URL then.
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        return self._connect(request, form, facts_to_hand_on(form))

    def _connect(self, request: web.Request, form: Form, parameters: Mapping[str, str]) -> web.Response:
        """A stream for this call, the first or another one."""
        ticket = self._office.issue(_ticket(form), self._clock())
        url = websocket_url(self._addresses.base(request)) + f"{STREAM}/{ticket}"
        return _twiml(connect_stream(url, parameters, self._address(request, AFTER, form)))

    def _address(self, request: web.Request, path: str, form: Form) -> str:
        """For what Twilio asks of this call later on."""
        ticket = self._call_office.issue(_ticket(form), self._clock())
        return f"{self._addresses.base(request)}{path}/{ticket}"

    async def _after(self, request: web.Request) -> web.StreamResponse:
        """We closed the stream, or the call to somebody else has ended: what comes next? A call that we know
        nothing of any more has come to its end."""
        form = await self._verified_form(request)
        if (moved := await self._to_its_worker(request)) is not None:
            return moved
        self._note(form)
        leg = self._leg_of(request)
        if leg is not None and leg.facts.signalling_id != _first(form, "CallSid"):
            leg = None
        following = what_follows(leg, dial_ended(form))
        if following is Next.STREAM:
            return self._connect(request, form, {})
        if following is Next.END:
            return _twiml(hang_up())
        action, progress = (self._address(request, path, form) for path in (AFTER, DIALLED))
        return _twiml(dial(following, action, progress, self._caller_id))

    async def _dialled(self, request: web.Request) -> web.StreamResponse:
        """How the call to somebody else gets on."""
        form = await self._verified_form(request)
        if (moved := await self._to_its_worker(request)) is not None:
            return moved
        tell_progress(self._leg_of(request), PROGRESS.get(_first(form, "CallStatus")))
        return web.Response(status=204)

    async def _to_its_worker(self, request: web.Request) -> web.StreamResponse | None:
        """None: it is ours, or there is none any more."""
        try:
            return await self._elsewhere.to(request, self._ticket(request).home)
        except (TicketRefused, WorkerGone):
            return None

    def _ticket(self, request: web.Request) -> Ticket:
        """Of the call that the address is for. TicketRefused."""
        return self._call_office.look(request.match_info["ticket"], self._clock())

    def _leg_of(self, request: web.Request) -> StreamLeg | None:
        """Its live leg."""
        try:
            return self._legs.get(self._ticket(request).call)
        except TicketRefused:
            return None

    async def _status(self, request: web.Request) -> web.Response:
        """The call's progress, told beside the stream. A call that is over ends here too, if its stream did
        not say so."""
        form = await self._verified_form(request)
        told = {name: _first(form, name) for name in ("CallSid", *TOLD)}
        if not self._hear_status(told):
            self._elsewhere.tell(_NEWS, **told)
        return web.Response(status=204)

    def _hear_status(self, told: Mapping[str, str]) -> bool:
        """Whether the call is ours."""
        self._tells_status = True
        call, status = told["CallSid"], told["CallStatus"]
        self._note({name: [value] for name, value in told.items()})
        leg = self._legs.get(call)
        if leg is not None and status in ENDED:
            leg.end(Ending.CALLER_HUNG_UP, f"call status {status}")
        return leg is not None or call in self._calls

    def _note(self, form: Form) -> None:
        if (call := self._calls.get(_first(form, "CallSid"))) is not None:
            call.note(form)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The upgrade. Signature and ticket are checked before it."""
        self._verify_signature(request, websocket_url(self._addresses.url(request)), {})
        try:
            ticket = self._office.take(request.match_info.get("ticket", ""), self._clock())
        except TicketRefused as refusal:
            raise self._refusal(request, str(refusal)) from None
        try:
            if (moved := await self._elsewhere.to(request, ticket.home)) is not None:
                return moved
        except WorkerGone as gone:
            raise self._refusal(request, str(gone)) from None
        if not (self._awaiting(ticket.call) or self._elsewhere.room.may_come(ticket.call)):
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        self._welcome(request)
        peer_address = self._addresses.client(request)
        call = TwilioCall(ticket, self._rest, expects_status=lambda: self._tells_status)

        def admit(started: Started) -> CallFacts | StreamLeg:
            if (started.account, started.call_id) != (ticket.account, ticket.call):
                raise Refused("the stream is not of the call that its ticket is for")
            if (leg := self._awaiting(ticket.call)) is not None:
                return leg
            if not self._elsewhere.room.may_come(ticket.call):
                raise Refused("no room")
            self._calls[ticket.call] = call
            return _facts(started, peer_address)

        return await self._door.hold(request, TwilioPeer(), admit, control=call)

    def _awaiting(self, call: str) -> StreamLeg | None:
        """A leg that comes back from a transfer by the next stream."""
        leg = self._legs.get(call)
        return leg if leg is not None and leg.awaited else None

    # ------------------------------------------------------------ who is it

    async def _verified_form(self, request: web.Request) -> Form:
        """The parameters, once they are known to be Twilio's and of our account. HTTPForbidden otherwise."""
        form = await _form(request)
        url = self._addresses.url(request)
        signed = form if request.method == "POST" else {}
        try:
            self._verify_signature(request, url, signed)
        except web.HTTPForbidden:
            fewer = {name: values for name, values in form.items() if name not in MAYBE_UNSIGNED}
            if request.method != "POST" or len(fewer) == len(form):
                raise
            self._verify_signature(request, url, fewer)
            form = fewer
        if not _first(form, "CallSid") or not _first(form, "AccountSid"):
            raise self._refusal(request, "no CallSid or AccountSid")
        if self._account_sid is not None and _first(form, "AccountSid") != self._account_sid:
            raise self._refusal(request, "another account")
        self._welcome(request)
        return form

    def _verify_signature(self, request: web.Request, url: str, form: Form) -> None:
        if not self._verify:
            return
        if not self._tokens:
            raise self._refusal(request, "no auth token is configured")
        given = request.headers.get("X-Twilio-Signature", "")
        if not given or signed_url(self._tokens, given, url, form) is None:
            raise self._refusal(request, "wrong signature" if given else "not signed")

    def _refusal(self, request: web.Request, why: str) -> web.HTTPForbidden:
        """Logged with its reason; told without, for who asks may be anybody."""
        if (left_out := self._seldom.now(self._clock())) is not None:
            resource = request.match_info.route.resource
            path = resource.canonical if resource is not None else ""
            self._log.warning("twilio_refused", path=path, why=why, left_out=left_out)
        return web.HTTPForbidden(text="refused")


async def _form(request: web.Request) -> Form:
    """Query of a GET, body of a POST; empty values count. HTTPBadRequest where it is none."""
    if request.method == "GET":
        query = request.raw_path.partition("?")[2]
        return _parsed(query)
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="a form, please")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="too slow") from None
    return _parsed(body.decode("ascii", "replace"))


def _parsed(text: str) -> Form:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise web.HTTPBadRequest(text="too many parameters") from None


def _twiml(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/xml", charset="utf-8")


def _ticket(form: Form) -> Ticket:
    return Ticket(_first(form, "AccountSid"), _first(form, "CallSid"))


def _first(form: Form, name: str) -> str:
    return form.get(name, ("",))[0][:64]


def _facts(started: Started, peer_address: str) -> CallFacts:
    return CallFacts(
        call_id=secrets.token_hex(5),
        ingress="twilio",
        caller=started.parameters.get("From", ""),
        called=started.parameters.get("To", ""),
        peer=peer_address,
        wire_format=PCMU_8K,
        signalling_id=started.call_id,
        headers=headers_of(started.parameters),
    )
