"""What only happens over TLS. All else of a connection is tested with and without it (`server`)."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from telbridge.call.events import Ending, SessionReady
from telbridge.sessions.connection import make_http_session
from telbridge.sockets.secured import TlsConnection

pytestmark = pytest.mark.parametrize("server", ["wss"], indirect=True)


async def idle(server, ws):
    await server.set_up(ws)
    while await server.hear(ws):
        pass


async def test_every_connection_over_tls_goes_our_way(server, dial):
    """It hangs on a method of aiohttp's that is its own."""
    server.script = lambda ws: idle(server, ws)
    call = dial(server.url)
    await call.until(SessionReady)
    transport = call.session._link._exchange.outgoing._socket._agent_transport
    assert isinstance(transport, TlsConnection)
    assert transport.get_extra_info("cipher")[1] == "TLSv1.3"
    assert transport.get_extra_info("peercert")["subjectAltName"] == (("IP Address", "127.0.0.1"),)
    call.session.close()
    await call.end()
    await server.left.wait()
    assert server.close_code == 1000


async def test_a_certificate_that_nobody_vouches_for(server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with make_http_session() as http:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.ws_connect(server.url)
        assert not http.connector._acquired


async def test_a_certificate_of_somebody_else(server, http):
    with pytest.raises(aiohttp.ClientConnectorCertificateError, match="Hostname mismatch"):
        await http.ws_connect(server.url.replace("127.0.0.1", "localhost"))
    assert not http.connector._acquired


async def test_the_call_is_told_of_a_certificate_that_does_not_hold(server, dial):
    end = await dial(server.url.replace("127.0.0.1", "localhost")).end()
    assert end.ending is Ending.AGENT_UNREACHABLE
    assert "Certificate" in end.detail


async def answering(answer: bytes) -> tuple[asyncio.Server, int]:
    """A server without TLS that says one thing and goes."""

    async def handle(reader, writer):
        await reader.read(1)
        writer.write(answer)
        writer.close()

    there = await asyncio.start_server(handle, "127.0.0.1", 0)
    return there, there.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", aiohttp.ClientConnectorSSLError),
        (b"", aiohttp.ClientConnectorError),
    ],
)
async def test_a_server_that_speaks_no_tls_or_hangs_up_during_the_handshake(server, http, answer, told):
    there, port = await answering(answer)
    async with there:
        with pytest.raises(told):
            await http.ws_connect(f"wss://127.0.0.1:{port}/")
    assert not http.connector._acquired


async def test_a_handshake_that_nobody_waits_for_any_more_leaves_no_connection(server, http):
    loop = asyncio.get_running_loop()
    with socket.socket() as blackhole:
        blackhole.bind(("127.0.0.1", 0))
        blackhole.listen(1)
        blackhole.setblocking(False)
        port = blackhole.getsockname()[1]
        task = asyncio.create_task(http.ws_connect(f"wss://127.0.0.1:{port}/"))
        there, _ = await loop.sock_accept(blackhole)
        with there:
            assert (await loop.sock_recv(there, 4096))[:1] == b"\x16"  # ClientHello
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await loop.sock_recv(there, 4096) == b""
    assert not http.connector._acquired


async def test_the_handshake_counts_as_part_of_connecting(server, http):
    with socket.socket() as blackhole:
        blackhole.bind(("127.0.0.1", 0))
        blackhole.listen(1)
        url = f"https://127.0.0.1:{blackhole.getsockname()[1]}/"
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await http.get(url, timeout=aiohttp.ClientTimeout(sock_connect=0.05))
    assert not http.connector._acquired


async def test_megabytes_either_way(server, http):
    much = bytes(range(256)) * 8192

    async def script(ws):
        message = await ws.receive_bytes()
        await ws.send_bytes(message[::-1])

    server.script, server.options = script, {"max_msg_size": 0}
    ws = await http.ws_connect(server.url)
    await ws.send_bytes(much)
    came: asyncio.Queue[bytes] = asyncio.Queue()
    ws.listen(came.put_nowait, max_octets=len(much))
    assert await came.get() == much[::-1]
    ws.abort()
