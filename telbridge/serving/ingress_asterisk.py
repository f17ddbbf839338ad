"""Asterisk over HTTP: calls of chan_websocket, and announcements of those that come by AudioSocket."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from aiohttp import web

from telbridge.call.events import CallFacts
from telbridge.legs.streams.announcements import Announcement, Announcements
from telbridge.legs.streams.chan_websocket import SUB_PROTOCOL, ChanWebSocketPeer
from telbridge.legs.streams.door import Door, Refused
from telbridge.legs.streams.payload import MAX_PARAMETERS, MAX_TEXT
from telbridge.legs.streams.peer import Started
from telbridge.serving.ingress_address import Addresses
from telbridge.serving.ingress_elsewhere import Elsewhere
from telbridge.serving.ingress_limits import Seldom

MEDIA: Final = "/asterisk/media"
ANNOUNCE: Final = "/asterisk/announce"
CALLER, CALLED = "TELBRIDGE_FROM", "TELBRIDGE_TO"
"""Channel variables by which a dialplan tells who calls whom."""
BODY_S: Final = 5.0
"""For the form to arrive."""


class AsteriskIngress:
    """What Asterisk asks over HTTP."""

    def __init__(
        self,
        *,
        token: str | None,
        announcements: Announcements | None,
        addresses: Addresses,
        door: Door,
        elsewhere: Elsewhere,
        welcome: Callable[[web.Request], None],
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        """`announcements`: None where nobody listens for AudioSocket."""
        self._token, self._announcements, self._addresses = token, announcements, addresses
        self._door = door
        self._elsewhere, self._welcome, self._clock, self._log = elsewhere, welcome, clock, log
        self._seldom = Seldom()
        if announcements is not None:
            elsewhere.on_news(ANNOUNCE, partial(self._hear, announcements))

    def routes(self) -> list[web.AbstractRouteDef]:
        routes: list[web.AbstractRouteDef] = [
            web.get(MEDIA, self._media, allow_head=False),
            web.get(MEDIA + "/{token}", self._media, allow_head=False),
        ]
        if self._announcements is not None:
            routes.append(web.post(ANNOUNCE, partial(self._announce, self._announcements)))
        return routes

    async def _media(self, request: web.Request) -> web.StreamResponse:
        """The upgrade of a chan_websocket."""
        self._admit(request)
        if (moved := await self._elsewhere.to_the_roomiest(request)) is not None:
            return moved
        if not self._elsewhere.room.has_room():
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        address = self._addresses.client(request)

        def admit(started: Started) -> CallFacts:
            if not self._elsewhere.room.has_room():
                raise Refused("no room")
            parameters = dict(started.parameters)
            return CallFacts(
                call_id=secrets.token_hex(5),
                ingress="chan_websocket",
                caller=parameters.pop(CALLER, ""),
                called=parameters.pop(CALLED, ""),
                peer=address,
                wire_format=started.format,
                signalling_id=started.call_id,
                parameters=parameters,
            )

        return await self._door.hold(request, ChanWebSocketPeer(), admit, protocols=(SUB_PROTOCOL,))

    async def _announce(self, announcements: Announcements, request: web.Request) -> web.Response:
        """A form with `from`, `to` and whatever else the call's dialplan should know; the answer is the UUID
        by which the call is to come: that of the form, or a new one."""
        self._admit(request)
        if not self._elsewhere.room.has_room():
            return web.Response(status=503, headers={"Retry-After": "5"}, text="no room")
        form = await _form(request)
        uuid = _uuid(form.pop("uuid", ""))
        news = {"uuid": uuid, "caller": form.pop("from", ""), "called": form.pop("to", ""), "more": form}
        self._hear(announcements, news)
        self._elsewhere.tell(ANNOUNCE, **news)  # The call may come to any worker.
        return web.Response(text=uuid)

    def _hear(self, announcements: Announcements, news: Mapping[str, Any]) -> None:
        announcement = Announcement(news["caller"], news["called"], news["more"])
        announcements.put(news["uuid"], announcement, self._clock())

    def _admit(self, request: web.Request) -> None:
        """HTTPForbidden for who does not know the token and is not of this machine."""
        if not (self._addresses.is_local(request) or self._knows_token(request)):
            if (left_out := self._seldom.now(self._clock())) is not None:
                self._log.warning("asterisk_refused", why="no valid token", left_out=left_out)
            raise web.HTTPForbidden(text="refused")
        self._welcome(request)

    def _knows_token(self, request: web.Request) -> bool:
        if self._token is None:
            return False
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        given = {"bearer": given, "basic": _password(given)}.get(kind.lower(), "")
        given = given or request.match_info.get("token", "")
        return hmac.compare_digest(given.encode(), self._token.encode())


def _password(basic: str) -> str:
    """Of Basic credentials (RFC 7617); "" where there are none."""
    try:
        return base64.b64decode(basic, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


async def _form(request: web.Request) -> dict[str, str]:
    """Of the body. HTTPBadRequest, HTTPRequestTimeout, HTTPUnsupportedMediaType where there is none."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="a form, please")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="too slow") from None
    return _fields(body.decode("ascii", "replace"))


def _fields(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise web.HTTPBadRequest(text="too many fields") from None
    return {name[:MAX_TEXT]: _printable(value) for name, value in pairs}


def _printable(value: str) -> str:
    return "".join(each for each in value[:MAX_TEXT] if each.isprintable())


def _uuid(text: str) -> str:
    """In its usual writing; a new one for "". HTTPBadRequest for what is none."""
    if not text:
        return str(uuid4())
    try:
        return str(UUID(text))
    except ValueError:
        raise web.HTTPBadRequest(text="uuid is no UUID") from None
