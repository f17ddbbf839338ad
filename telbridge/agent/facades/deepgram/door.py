"""GET /v1/agent/converse and what leads to it: Deepgram's key check, short-lived tokens, upgrade."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from telbridge.agent.facade import Facade, FacadeOptions, House
from telbridge.agent.facades.deepgram.facade import CLIENT_TIMEOUT_MS, LATE_FRAMES, DeepgramFacade

PATH: Final = "/v1/agent/converse"
GRANT_PATH: Final = "/v1/auth/grant"
DEFAULT_TTL_S: Final = 30


class Behaviour(BaseModel):
    """The query of this server's own: the vendor's address takes none."""

    model_config = ConfigDict(extra="forbid")
    client_timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] = CLIENT_TIMEOUT_MS
    late_frames: Annotated[int, Field(ge=0, le=50)] = LATE_FRAMES


class Grant(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    ttl_seconds: Annotated[float, Field(ge=1, le=3600)] = DEFAULT_TTL_S


class Tokens:
    """Short-lived tokens; they must be valid when a session begins, not after."""

    def __init__(self) -> None:
        self._end_s: dict[str, float] = {}

    def make(self, ttl_s: float) -> str:
        now_s = time.monotonic()
        self._end_s = {token: end_s for token, end_s in self._end_s.items() if end_s > now_s}
        token = secrets.token_urlsafe(32)
        self._end_s[token] = now_s + ttl_s
        return token

    def admits(self, token: str) -> bool:
        return self._end_s.get(token, 0.0) > time.monotonic()


def routes(house: House) -> Iterable[web.RouteDef]:
    """See `Door`."""
    tokens = Tokens()

    def admitted(request: web.Request) -> bool:
        """A key goes with `Token`, a short-lived token with `Bearer`, and never the other way round."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if house.key is None:
            return True
        if scheme.lower() == "bearer":
            return tokens.admits(given)
        return scheme.lower() == "token" and house.admits(given)

    async def converse(request: web.Request) -> web.StreamResponse:
        if not admitted(request):
            return _refused(401, "INVALID_AUTH", "Invalid credentials.")
        try:
            behaviour = Behaviour.model_validate(dict(request.query))
        except ValidationError:
            return _refused(400, "Bad Request", f"Query parameters: {', '.join(Behaviour.model_fields)}.")

        def make(options: FacadeOptions) -> Facade:
            left_ns = int((options.expires_at_unix_s - time.time()) * 1e9)
            return DeepgramFacade(
                session_id=options.session_id,
                silence_ms=options.silence_ms,
                updates=options.updates,
                now_ns=options.now_ns,
                ends_ns=options.now_ns + left_ns,
                client_timeout_ms=behaviour.client_timeout_ms,
                late_frames=behaviour.late_frames,
            )

        return await house.converse(request, make)

    async def grant(request: web.Request) -> web.StreamResponse:
        """A token for `Authorization: Bearer` (developers.deepgram.com/guides/fundamentals/
        token-based-authentication); only for the key, not for another token."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "token" or not house.admits(given):
            return _refused(401, "INVALID_AUTH", "Invalid credentials.")
        try:
            asked = Grant.model_validate_json(await request.read() or b"{}")
        except ValidationError:
            return _refused(400, "Bad Request", "ttl_seconds must be a number from 1 to 3600.")
        token = tokens.make(asked.ttl_seconds)
        return web.json_response({"access_token": token, "expires_in": asked.ttl_seconds})

    return [web.get(PATH, converse), web.post(GRANT_PATH, grant)]


def _refused(status: int, code: str, message: str) -> web.Response:
    body = {"err_code": code, "err_msg": message, "request_id": secrets.token_hex(16)}
    return web.json_response(body, status=status)
