"""Which TCP connections are taken at all, before anything is read from them: descriptors are for calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web


class Doorkeeper(asyncio.Protocol):
    """The first protocol of each connection: hands it to the HTTP server, or cuts it off."""

    def __init__(self, server: web.Server, admits: Callable[[str], bool]) -> None:
        """`admits`: whether one more of this address may come."""
        self._server, self._admits = server, admits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        peer = connection.get_extra_info("peername")
        if not self._admits(str(peer[0]) if peer else ""):
            connection.abort()
            return
        handler = self._server()
        connection.set_protocol(handler)
        handler.connection_made(connection)


def connections_of(server: web.Server, address: str) -> int:
    """How many this address has open."""
    peers = (connection.peername for connection in server.connections)
    return sum(isinstance(peer, tuple) and peer[0] == address for peer in peers)
