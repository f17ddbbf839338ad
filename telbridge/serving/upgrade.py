"""`telbridge upgrade`: what may change under live calls, and the order on the admin port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from telbridge.serving.children import ChildFailed

PATH: Final = "/upgrade"
HEADER: Final = "Telbridge-Command"
"""It must be there: a page of another site in a browser here cannot send it unasked (CORS)."""
_KEPT: Final = {
    "admin": None,
    "records": None,
    "local_agent": None,
    "sip": (
        "host",
        "port",
        "transports",
        "tls",
        "public_address",
        "allow",
        "trust_private",
        "max_calls",
        "requests_per_second",
    ),
}
"""What supervisor, dispatcher and agent live by, who stay."""


def cannot_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The settings of processes that stay, as far as both versions know them."""
    for section, keys in _KEPT.items():
        old, new = before[section], after.get(section, {})
        for key in keys or old:
            if key in new and _comparable(new[key]) != _comparable(old[key]):
                yield f"{section}.{key}"


def _comparable(value: Any) -> Any:
    """A set has become a list in whatever order."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def route(upgrade: Callable[[], Awaitable[Mapping[str, Any]]]) -> web.RouteDef:
    """POST /upgrade: 200 with what is there now, or 409 with `error`."""

    async def answer(request: web.Request) -> web.Response:
        if HEADER not in request.headers:
            raise web.HTTPForbidden(text=f"send the header {HEADER}")
        try:
            return web.json_response(await upgrade())
        except ChildFailed as error:
            return web.json_response({"error": str(error)}, status=409)

    return web.post(PATH, answer)
