"""A TCP connection that goes on in another worker, with the request that has just come on it.

The request is written again, octet for octet as far as it counts (signatures are made over URL and body), and
read by the other worker as if it had come there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from aiohttp import web

_OF_THE_BODY: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"content-encoding", b"expect", b"trailer"}
)


def written_again(
    method: str,
    path: str,
    version: tuple[int, int],
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes | None,
    behind: bytes = b"",
) -> bytes:
    """`path`: as it came, with its query. `body`: decoded and whole; None: the request has none. `behind`:
    octets that came after it. Pure."""
    kept = [(name, value) for name, value in headers if body is None or name.lower() not in _OF_THE_BODY]
    if body is not None:
        kept.append((b"Content-Length", str(len(body)).encode()))
    first = f"{method} {path} HTTP/{version[0]}.{version[1]}".encode("utf-8", "surrogateescape")
    lines = [first, *(name + b": " + value for name, value in kept), b"", b""]
    return b"\r\n".join(lines) + (body or b"") + behind


async def octets_of(request: web.Request) -> bytes | None:
    """Of the request, whole; None if there are more requests behind it, which could not follow it."""
    below: Any = request.protocol
    body = await request.read() if request.body_exists else None
    if below._messages:
        return None
    behind: bytes = below._message_tail
    version = request.version.major, request.version.minor
    return written_again(request.method, request.raw_path, version, request.raw_headers, body, behind)


class Moved(asyncio.Protocol):
    """The first protocol of a connection that came from a sibling."""

    def __init__(
        self, server: web.Server, octets: bytes, on_handler: Callable[[asyncio.BaseProtocol], None]
    ) -> None:
        self._server, self._octets, self._on_handler = server, octets, on_handler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        handler = self._server()
        cast(asyncio.Transport, transport).set_protocol(handler)
        handler.connection_made(transport)
        self._on_handler(handler)
        handler.data_received(self._octets)
