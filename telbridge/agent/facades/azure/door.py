"""GET /voice-live/realtime: Azure's key check and upgrade.

Source: learn.microsoft.com, speech-service/voice-live-how-to (authentication: header or query, key or Entra
token). The bodies of the refusals are those that Azure's gateway gives for all its AI services.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from telbridge.agent.facade import Facade, FacadeOptions, House
from telbridge.agent.facades.azure.facade import AzureFacade
from telbridge.agent.facades.azure.session import API_VERSIONS, Endpoint

PATH: Final = "/voice-live/realtime"
ACCESS_DENIED: Final = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)


def routes(house: House) -> Iterable[web.RouteDef]:
    """See `Door`."""

    async def realtime(request: web.Request) -> web.StreamResponse:
        if not any(house.admits(given) for given in _credentials(request)):
            return _refused(401, ACCESS_DENIED)
        if request.query.get("api-version") not in API_VERSIONS:
            return _refused(404, "Resource not found")

        def make(options: FacadeOptions) -> Facade:
            return AzureFacade(options, Endpoint.from_query(request.query))

        return await house.converse(request, make)

    return [web.get(PATH, realtime)]


def _credentials(request: web.Request) -> Iterable[str]:
    """What the client shows, in all the places where the service looks; "" where there is nothing."""
    for place in (request.headers, request.query):
        yield place.get("api-key", "")
        scheme, _, token = place.get("Authorization", "").partition(" ")
        yield token if scheme.lower() == "bearer" else ""


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": str(status), "message": message}}, status=status)
