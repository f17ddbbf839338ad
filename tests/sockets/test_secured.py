"""A TLS connection between TCP's transport and what is above it, moment by moment.

With real sockets on both event loops: tests/sessions/test_connection_tls.py, and all tests of a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from telbridge.sockets.secured import TlsConnection
from tests.sockets.tls_peer import NAME, TRUSTING, VERSIONS, Server


class Tcp:
    """Its transport: a server's octets come when the test says so."""

    def __init__(self, server: Server) -> None:
        self.server, self.closed, self.aborted = server, False, False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.server.gets(data)

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0


class Above(asyncio.Protocol):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def connection_made(self, transport):
        self.told.append("made")

    def data_received(self, data):
        self.told.append(data)

    def eof_received(self):
        self.told.append("end")

    def connection_lost(self, exc):
        self.told.append(("lost", type(exc)))


class Bed:
    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.server, self.above = Server(version), Above()
        self.tcp = Tcp(self.server)
        self.connection = TlsConnection(TRUSTING, NAME, self.above)
        self.connection.connection_made(self.tcp)

    def comes(self, data: bytes) -> None:
        self.connection.data_received(data)

    def opens(self) -> Bed:
        while not self.server.ready:
            self.comes(self.server.shakes_hands())
        self.connection.opened.result()
        assert self.above.told == ["made"]
        return self


async def test_it_tells_of_the_connection_after_the_handshake_only():
    bed = Bed()
    assert bed.above.told == []
    bed.opens()
    assert bed.tcp.protocol is bed.connection
    bed.comes(bed.server.says(b"words"))
    bed.connection.write(bytearray(b"answer"))
    assert bed.above.told == ["made", b"words"]
    assert bed.server.hears() == b"answer"


async def test_words_right_behind_the_handshake_come_after_the_news_of_it():
    bed = Bed(VERSIONS[0])
    while not (flight := bed.server.shakes_hands()) or not bed.server.ready:
        bed.comes(flight)
    bed.comes(flight + bed.server.says(b"at once"))
    assert bed.above.told == ["made", b"at once"]


async def test_a_handshake_that_is_done_when_nobody_waits_any_more_comes_to_nothing():
    bed = Bed(VERSIONS[0])
    while not (flight := bed.server.shakes_hands()) or not bed.server.ready:
        bed.comes(flight)
    bed.connection.opened.cancel()  # Whoever cancelled aborts in the loop's next turn.
    bed.comes(flight)
    bed.connection.abort()
    bed.connection.connection_lost(None)
    assert bed.above.told == []


async def test_the_peers_farewell_closes_it():
    bed = Bed().opens()
    bed.comes(bed.server.says(b"last words") + bed.server.says_goodbye())
    assert bed.above.told == ["made", b"last words", "end"]
    assert bed.tcp.closed and bed.connection.is_closing()
    assert bed.server.hears() == b"<end>"
    bed.connection.connection_lost(None)
    assert bed.above.told[-1] == ("lost", type(None))


async def test_a_forged_record_cuts_it_and_is_the_reason():
    bed = Bed().opens()
    forged = bytearray(bed.server.says(b"forged"))
    forged[-1] ^= 1
    bed.comes(bytes(forged))
    assert bed.tcp.aborted and bed.connection.is_closing()
    bed.connection.connection_lost(None)
    assert bed.above.told == ["made", ("lost", ssl.SSLError)]


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_what_is_written_after_leaving_goes_nowhere(leave):
    bed = Bed().opens()
    getattr(bed.connection, leave)()
    bed.connection.write(b"too late")
    assert bed.server.hears() == (b"<end>" if leave == "close" else b"")
    bed.connection.connection_lost(None)
    bed.connection.close()
    assert bed.above.told == ["made", ("lost", type(None))]


async def test_who_leaves_in_the_middle_of_a_delivery_hears_no_more_of_the_peer():
    bed = Bed().opens()
    bed.above.data_received = lambda data: bed.connection.abort()
    bed.connection.set_protocol(bed.above)
    bed.comes(bed.server.says(b"last words") + bed.server.says_goodbye())
    assert bed.above.told == ["made"]


@pytest.mark.parametrize("why", [None, ConnectionResetError()])
async def test_an_end_before_the_handshake_is_told_to_who_waits_for_it_alone(why):
    bed = Bed()
    bed.connection.connection_lost(why)
    with pytest.raises(type(why) if why else ConnectionAbortedError):
        await bed.connection.opened
    assert bed.above.told == []
