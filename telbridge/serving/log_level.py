"""GET and PUT /log-level on the admin port: the least level that is logged, of all processes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from aiohttp import web

from telbridge.logs import LogLevel

PATH: Final = "/log-level"


def log_level_page(
    current: Callable[[], LogLevel], change: Callable[[LogLevel], None]
) -> list[web.AbstractRouteDef]:
    """Routes for the admin port. The level is a word in the body; the answer is the level that holds."""

    async def tell(_: web.Request) -> web.Response:
        return web.Response(text=current() + "\n")

    async def put(request: web.Request) -> web.Response:
        """A browser asks before it sends a PUT of another site's page, and we do not answer that; who came by
        such a page all the same is turned away."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise web.HTTPForbidden(text="not for pages of other sites\n")
        wanted = (await request.text()).strip()
        known: tuple[LogLevel, ...] = get_args(LogLevel)
        level = next((level for level in known if level == wanted), None)
        if level is None:
            raise web.HTTPBadRequest(text=f"write one of: {', '.join(known)}\n")
        change(level)
        return await tell(request)

    return [web.get(PATH, tell), web.put(PATH, put)]
