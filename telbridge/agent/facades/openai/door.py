"""GET /v1/realtime: OpenAI's key check and upgrade."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from telbridge.agent.facade import Facade, FacadeOptions, House
from telbridge.agent.facades.openai.facade import OpenAIFacade

PATH: Final = "/v1/realtime"
DEFAULT_MODEL: Final = "gpt-realtime-2.1"
CLOSE_BETA: Final = (4000, "beta_api_shape_disabled")


def routes(house: House) -> Iterable[web.RouteDef]:
    """See `Door`."""

    async def realtime(request: web.Request) -> web.StreamResponse:
        if not house.admits(request.headers.get("Authorization", "").removeprefix("Bearer ")):
            error = {"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": None}
            return web.json_response({"error": {**error, "code": "invalid_api_key"}}, status=401)
        if "OpenAI-Beta" in request.headers:
            return await house.turn_away(request, *CLOSE_BETA)

        def make(options: FacadeOptions) -> Facade:
            return OpenAIFacade(
                session_id=options.session_id,
                model=request.query.get("model") or DEFAULT_MODEL,
                silence_ms=options.silence_ms,
                wants=options.wants,
                updates=options.updates,
                expires_at_unix_s=options.expires_at_unix_s,
            )

        return await house.converse(request, make)

    return [web.get(PATH, realtime)]
