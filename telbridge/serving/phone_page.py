"""A telephone in the browser, on the admin port: its files, and the line that it calls on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from telbridge.config import Settings
from telbridge.legs.streams.tickets import TicketOffice
from telbridge.serving.ingress_address import host_of, websocket_url
from telbridge.serving.ingress_generic import PHONE_TICKET, STREAM

PHONE: Final = "/phone"
LINE: Final = f"{PHONE}/line"
_FOLDER: Final = Path(__file__).parent / "phone"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class PhonePage:
    """Routes for the admin port. Whoever may open the page may call: each call gets a ticket of its own,
    which pages of other origins cannot read."""

    def __init__(
        self,
        settings: Settings,
        office: TicketOffice,
        line: Callable[[], str | None],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`office`: under the key of those who take the streams. `line`: the worker that is to take the
        ticket; None while nobody listens."""
        self._http = settings.http
        self._office, self._worker, self._clock = office, line, clock
        self._files = {path.name: _File(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get(PHONE, self._page),
            web.get(PHONE + "/{name}", self._file),
            web.post(LINE, self._line),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        return self._answer(request, "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    async def _line(self, request: web.Request) -> web.Response:
        """Where to call, good for one call within two minutes."""
        stream = self._stream(request)
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise web.HTTPForbidden(text="for the telephone's own page only")
        worker = self._worker()
        if worker is None:
            return web.json_response(
                {"why": "No worker listens on the HTTP port. The log of telbridge says why."}, status=503
            )
        ticket = self._office.issue(replace(PHONE_TICKET, home=worker), self._clock())
        return web.json_response({"url": f"{stream}?ticket={ticket}"}, headers={"Cache-Control": "no-store"})

    def _answer(self, request: web.Request, name: str) -> web.Response:
        stream = self._stream(request)
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound(text="no such file")
        headers = {**_HEADERS, "ETag": file.etag, "Content-Security-Policy": _policy(stream)}
        if request.headers.get("If-None-Match") == file.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers={**headers, "Content-Type": file.type})

    def _stream(self, request: web.Request) -> str:
        """The stream's address, as the browser that asks can reach it."""
        if self._http.public_url is not None:
            return websocket_url(self._http.public_url) + STREAM
        host = host_of(request)
        host = f"[{host}]" if ":" in host else host
        return f"ws://{host}:{self._http.port}{STREAM}"


class _File:
    """One file, read once."""

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:20]}"'
        self.type = _TYPES[path.suffix]


def _policy(stream: str) -> str:
    """Nothing but our own files and the one stream; no code but from files."""
    parts = urlsplit(stream)
    rules: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' {parts.scheme}://{parts.netloc}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
