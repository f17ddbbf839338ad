"""/v1/ws and /v1/token: AssemblyAI's key check, upgrade and temporary tokens.

Sources: https://www.assemblyai.com/docs/voice-agents/voice-agent-api/ (browser integration, events
reference) and its API reference (generate voice agent token). A wrong key is told after the upgrade. The
token endpoint answers as it was seen to answer live, which is not what its page prints.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from telbridge.agent.facade import Facade, FacadeOptions, House
from telbridge.agent.facades.assemblyai.facade import CLOSE_POLICY, AssemblyAIFacade
from telbridge.agent.facades.assemblyai.store import Dropped, Tokens

PATH: Final = "/v1/ws"
TOKEN_PATH: Final = "/v1/token"


class _TokenQuery(BaseModel):
    """Other parameters are let pass, `product` among them."""

    expires_in_seconds: Annotated[int, Field(ge=1, le=600)]
    max_session_duration_seconds: Annotated[int, Field(ge=60, le=10_800)] = 10_800


def routes(house: House) -> Iterable[web.RouteDef]:
    """See `Door`."""
    tokens = Tokens()
    dropped = Dropped()

    async def token(request: web.Request) -> web.StreamResponse:
        if house.key is not None and "Authorization" not in request.headers:
            missing = {"type": "missing", "loc": ["header", "authorization"], "msg": "Field required"}
            return web.json_response({"detail": [{**missing, "input": None}]}, status=422)
        if not house.admits(_key_of(request)):
            return web.json_response({"detail": "Invalid API key"}, status=404)
        try:
            query = _TokenQuery.model_validate(dict(request.query))
        except ValidationError as error:
            faults = json.loads(error.json(include_url=False))
            detail = [{**fault, "loc": ["query", *fault["loc"]]} for fault in faults]
            return web.json_response({"detail": detail}, status=422)
        now_ns = time.monotonic_ns()
        text = secrets.token_urlsafe(32)
        tokens.add(
            text,
            expires_ns=now_ns + query.expires_in_seconds * 1_000_000_000,
            session_max_s=query.max_session_duration_seconds,
            now_ns=now_ns,
        )
        return web.json_response({"token": text, "expires_in_seconds": query.expires_in_seconds})

    async def voice_agent(request: web.Request) -> web.StreamResponse:
        session_max_s: int | None = None
        if "token" in request.query:
            session_max_s = tokens.redeem(request.query["token"], now_ns=time.monotonic_ns())
        if session_max_s is None and not house.admits(_key_of(request)):
            return await _refuse(request)
        made: list[AssemblyAIFacade] = []

        def make(options: FacadeOptions) -> Facade:
            facade = AssemblyAIFacade(
                options, now_unix_s=time.time(), dropped=dropped, session_max_s=session_max_s
            )
            made.append(facade)
            return facade

        try:
            return await house.converse(request, make)
        finally:
            for facade in made:
                facade.left(now_ns=time.monotonic_ns())

    return [web.get(PATH, voice_agent), web.get(TOKEN_PATH, token)]


def _key_of(request: web.Request) -> str:
    """With or without `Bearer`: both are taken live."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


async def _refuse(request: web.Request) -> web.WebSocketResponse:
    """The upgrade succeeds, one error comes unasked, then the close (seen live)."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    error = {"code": "unauthorized", "message": "Authentication failed", "session_id": None, "param": None}
    await socket.send_json({"type": "session.error", **error, "timestamp": time.time()})
    await socket.close(code=CLOSE_POLICY, message=b"unauthorized")
    return socket
