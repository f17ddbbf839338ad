"""The REST calls that create and end Companion sessions, and the WebSocket that their tokens name.

Sources: https://developers.napster.com/docs/ (introduction/authentication, connections/websockets). A token
is base64 of `{url, token, connection, expiresAt}`, its url with the scheme of HTTP, as the service gives it;
it opens one WebSocket. What an upgrade with a bad token is answered is documented nowhere: 401.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from telbridge.agent.facade import Door, Facade, FacadeOptions, House
from telbridge.agent.facades.companion import schema as schema
from telbridge.agent.facades.companion.facade import CompanionFacade
from telbridge.agent.facades.companion.schema import RefusedBodyError, Wanted, fault, problem
from telbridge.agent.facades.companion.store import TOKEN_LIFE_S, CompanionOptions, Connections, TooManyError

SOCKET_PATH: Final = "/companion/connections/ws"
"""The service's own is opaque: a client takes it from the token."""


def door_with(options: CompanionOptions) -> Door:
    """The door of a service that behaves so."""

    def routes(house: House) -> Iterable[web.RouteDef]:
        return _Desk(house, options).routes()

    return routes


routes: Final[Door] = door_with(CompanionOptions())
"""See `Door`."""


class _Desk:
    """The REST calls and the WebSocket of one running agent."""

    def __init__(self, house: House, options: CompanionOptions) -> None:
        self._house = house
        self._connections = Connections(options)
        self._duplicate_calls = options.duplicate_calls

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/public/agents/{agent_id}/connections", self._connect_agent),
            web.post("/public/ws-connections", self._connect),
            web.delete("/public/connections/{connection_id}", self._delete),
            web.get(SOCKET_PATH, self._socket),
        ]

    async def _connect_agent(self, request: web.Request) -> web.Response:
        return await self._create(request, schema.agent_connection)

    async def _connect(self, request: web.Request) -> web.Response:
        return await self._create(request, schema.websocket_connection)

    async def _create(self, request: web.Request, read: Callable[[bytes], Wanted]) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        connection_id, token = secrets.token_hex(12), secrets.token_urlsafe(24)
        try:
            self._connections.pace(now_ns=time.monotonic_ns())
            wanted = read(await request.read())
            self._connections.create(connection_id, token, wanted, now_ns=time.monotonic_ns())
        except RefusedBodyError as refusal:
            return web.json_response(refusal.problem, status=400)
        except TooManyError as too_many:
            return _too_many(too_many)
        connection = {"id": connection_id, "status": "pending", "channelType": "websocket"}
        expires_at = datetime.now(UTC) + timedelta(seconds=TOKEN_LIFE_S)
        inside = {
            "url": f"{request.scheme}://{request.host}{SOCKET_PATH}?token={token}",
            "token": token,
            "connection": connection,
            "expiresAt": expires_at.isoformat(timespec="seconds"),
        }
        text = b64encode(json.dumps(inside).encode()).decode("ascii")
        return web.json_response({"token": text, "connection": connection}, status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        if not self._connections.abort(request.match_info["connection_id"]):
            text = "The connection was not found or is already over."
            return web.json_response(fault("ConnectionNotFound", text), status=400)
        return web.Response(status=204)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.query.get("token", bearer)
        found = self._connections.redeem(token, now_ns=time.monotonic_ns())
        if found is None:
            return _unauthorized("The connection token is invalid, used or expired.")
        connection_id, wanted = found

        def make(options: FacadeOptions) -> Facade:
            facade = CompanionFacade(
                options, wanted, now_unix_s=time.time(), duplicate_calls=self._duplicate_calls
            )
            self._connections.begun(connection_id, facade)
            return facade

        try:
            return await self._house.converse(request, make)
        finally:
            self._connections.ended(connection_id)

    def _refused(self, request: web.Request) -> web.Response | None:
        if self._house.admits(request.headers.get("X-Api-Key", "")):
            return None
        return _unauthorized("The API key is missing or invalid.")


def _unauthorized(detail: str) -> web.Response:
    return web.json_response(problem(401, "Unauthorized", detail), status=401)


def _too_many(error: TooManyError) -> web.Response:
    if error.retry_after_s is None:
        text = "The limit of concurrent sessions has been reached."
        return web.json_response(fault("ConcurrentSessionLimitReached", text), status=409)
    body: Any = fault("RequestRateLimitExceeded", "Too many requests.")
    headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return web.json_response(body, status=429, headers=headers)
