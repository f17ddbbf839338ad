"""SIP's sockets come from systemd, or from whoever opens them as it does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from telbridge.caller.softphone import Softphone
from tests.e2e.bridge import serving
from tests.ports import free_port

OPTIONS = (
    "OPTIONS sip:telbridge SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKonce;rport\r\n"
    "From: <sip:us@127.0.0.1>;tag=1\r\nTo: <sip:telbridge>\r\nCall-ID: once\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """As of a socket unit with ListenDatagram= and ListenStream=."""
    port = free_port()
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(type=socket.SOCK_STREAM) as tcp:
        for each in (udp, tcp):
            each.bind(("127.0.0.1", port))
        tcp.listen()
        yield [udp, tcp]


async def test_calls_come_by_passed_sockets_and_what_comes_while_nobody_reads_is_not_lost(
    tmp_path: Path, opened: list[socket.socket]
) -> None:
    loop = asyncio.get_running_loop()
    async with serving("wheel", tmp_path, listening=opened) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(30)
        await call.hang_up()
        await bridge.records(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(OPTIONS.format(port=1).replace("UDP", "TCP").encode())
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"SIP/2.0 200")
        writer.close()
        bridge.kill("dispatcher")
        await bridge.until_logged("child_died", child="dispatcher")
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.bind(("127.0.0.1", 0))
            await loop.sock_connect(peer, ("127.0.0.1", bridge.port))
            await loop.sock_sendall(peer, OPTIONS.format(port=peer.getsockname()[1]).encode())
            answer = await asyncio.wait_for(loop.sock_recv(peer, 4096), 30)
        assert answer.startswith(b"SIP/2.0 200") and not bridge.logged("dispatcher_bug")
