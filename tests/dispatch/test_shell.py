"""The dispatcher on real sockets, with a worker that is a bare one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
import structlog

from telbridge.dispatch import shell
from telbridge.dispatch.core import Dispatcher, Terms
from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.hops import Hop
from telbridge.dispatch.shell import Place, Shell, inner_socket
from telbridge.legs.sip.tls import Tls
from tests.dispatch.sides import Net, Phone, answer, header
from tests.ports import free_port

HOST = "127.0.0.1"


class Box(asyncio.DatagramProtocol):
    """A datagram socket that keeps what it gets."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: Any = None

    @classmethod
    async def open(cls) -> Box:
        _, box = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=(HOST, 0))
        return box

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.put_nowait(data)

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def send(self, data: bytes, port: int) -> None:
        self.transport.sendto(data, (HOST, port))

    async def next(self) -> bytes:
        return await asyncio.wait_for(self.got.get(), 30)


class Bed:
    """A dispatcher that listens, its one worker, and a peer with a socket."""

    tls: Tls | None = None
    tls_port = 0

    async def open(self, permits: Any = lambda host: True, tls: Callable[[int], Tls] | None = None) -> Bed:
        self.worker, self.peer = await Box.open(), await Box.open()
        inner = inner_socket(0)
        self.inner_port = inner.getsockname()[1]
        self.port = free_port()
        if tls is not None:
            self.tls_port = free_port()
            self.tls = tls(self.tls_port)
        self.core = Dispatcher(Terms(self.port, self.inner_port, 10, "us", tls_port=self.tls_port))
        self.core.worker_up(Worker(1, self.worker.port, 10))
        place = Place(HOST, self.port, frozenset({"udp", "tcp"}), self.tls)
        self.shell = Shell(self.core, place, inner, permits, structlog.get_logger())
        await self.shell.open()
        await self.shell.listen()
        return self

    def phone(self, transport: Any = "udp", port: int | None = None, **kinds: Any) -> Phone:
        source = Hop(transport, HOST, port or self.peer.port, HOST)
        return Phone(Net(), source=source, via_host=HOST, **kinds)

    def close(self) -> None:
        self.shell.close()
        self.worker.transport.close()
        self.peer.transport.close()


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    made = await Bed().open()
    yield made
    made.close()


async def tcp(bed: Bed) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    reader, writer = await asyncio.open_connection(HOST, bed.port)
    return reader, writer, writer.get_extra_info("sockname")[1]


async def test_a_call_by_udp_goes_in_and_comes_back(bed: Bed) -> None:
    bed.peer.send(b"\r\n\r\n", bed.port)  # keep-alive
    bed.peer.send(bed.phone().request("INVITE"), bed.port)
    got = await bed.worker.next()
    bed.worker.send(answer(got, 180), bed.inner_port)
    assert (await bed.peer.next()).startswith(b"SIP/2.0 180")
    assert bed.core.counters.malformed == 0


async def test_a_call_by_tcp_comes_back_on_its_connection_in_pieces_or_not(bed: Bed) -> None:
    reader, writer, port = await tcp(bed)
    request = bed.phone("tcp", port).request("INVITE")
    writer.write(b"\r\n\r\n" + request[:50])
    assert await asyncio.wait_for(reader.readexactly(2), 30) == b"\r\n"
    writer.write(request[50:])
    bed.worker.send(answer(await bed.worker.next(), 180), bed.inner_port)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"SIP/2.0 180")
    writer.close()


async def test_an_answer_whose_connection_is_gone_takes_a_new_one(bed: Bed) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    listener = await asyncio.start_server(on_connection, HOST, 0)
    named = listener.sockets[0].getsockname()[1]
    reader, writer, port = await tcp(bed)
    request = bed.phone("tcp", port, rport=False).request("INVITE")
    writer.write(request.replace(f"TCP {HOST}:{port}".encode(), f"TCP {HOST}:{named}".encode()))
    got = await bed.worker.next()
    writer.close()
    await reader.read()
    await asyncio.sleep(0.05)  # until the dispatcher's side has seen it, too
    bed.worker.send(answer(got, 200), bed.inner_port)
    assert (await asyncio.wait_for(came.get(), 30)).startswith(b"SIP/2.0 200")
    listener.close()


async def test_a_peer_that_is_named_is_found(bed: Bed) -> None:
    phone = bed.phone(contact=f"sip:a@localhost:{bed.peer.port}")
    bed.peer.send(phone.request("INVITE"), bed.port)
    bed.worker.send(answer(await bed.worker.next(), 200), bed.inner_port)
    assert (await bed.peer.next()).startswith(b"SIP/2.0 200")
    bed.shell.send(bed.core.worker_gone(1, 0))
    bye = await bed.peer.next()
    assert bye.startswith(b"BYE sip:a@localhost")
    bed.peer.send(answer(bye), bed.port)


async def test_a_stream_of_something_else_is_cut_off(bed: Bed) -> None:
    reader, writer, _ = await tcp(bed)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 30) == b""
    assert bed.shell.cut_off == 1
    writer.close()


async def test_strangers_get_no_answer_and_no_connection() -> None:
    bed = await Bed().open(permits=lambda host: False)
    bed.peer.send(bed.phone().request("OPTIONS"), bed.port)
    reader, writer, _ = await tcp(bed)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    assert bed.peer.got.empty() and bed.worker.got.empty()
    writer.close()
    bed.close()


async def test_one_connection_more_than_there_is_room_for_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "MAX_CONNECTIONS", 1)
    bed = await Bed().open()
    answers, first, port = await tcp(bed)
    first.write(bed.phone("tcp", port).request("OPTIONS"))
    assert (await asyncio.wait_for(answers.readline(), 10)).startswith(b"SIP/2.0 200")
    reader, second, _ = await tcp(bed)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert bed.shell.cut_off == 1
    for writer in (first, second):
        writer.close()
    bed.close()


# ---------------------------------------------------------------- the process


def up(number: int, port: int) -> dict[str, Any]:
    """The supervisor's order to take a worker."""
    return {"do": "up", "number": number, "port": port, "max_calls": 4, "calls": 0, "streams": 0}


class Process:
    """The dispatcher's, by itself."""

    def __init__(self, port: int, orders: Sequence[Mapping[str, Any]] = ()) -> None:
        self.start: dict[str, Any] = {
            "host": HOST,
            "port": port,
            "transports": ["tcp", "udp"],
            "public_address": None,
            "tls": None,
            "trust_private": True,
            "allow": [],
            "max_calls": 4,
            "requests_per_second": 100.0,
            "server": "us",
            "inner_port": 0,
            "orders": orders,
            "log": {"level": "error", "format": "json", "repeats": 50},
        }

    async def __aenter__(self) -> Process:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telbridge.serving.dispatching"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.tell(self.start)
        assert self.process.stdout is not None
        self.said = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 30)

    async def heard(self, event: str) -> dict[str, Any]:
        """The next that it says of this kind."""
        assert self.process.stdout is not None
        while True:
            said: dict[str, Any] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))
            if said["event"] == event:
                return said

    def tell(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")


async def test_who_can_no_longer_hear_orders_ends_so_that_another_is_started() -> None:
    async with Process(free_port()) as dispatcher:
        assert dispatcher.said["event"] == "ready"
        dispatcher.tell({"do": "up", "number": 1})  # without a port: a bug of the supervisor's
        assert await asyncio.wait_for(dispatcher.process.wait(), 30) == 1


async def test_who_is_started_with_its_orders_refuses_nobody() -> None:
    worker, phone_box = await Box.open(), await Box.open()
    port = free_port()
    phone = Phone(Net(), source=Hop("udp", HOST, phone_box.port, HOST), via_host=HOST)
    orders = [up(1, 9), {"do": "retire", "number": 1}, up(2, worker.port)]
    async with Process(port, orders) as dispatcher:
        assert dispatcher.said["event"] == "ready"
        phone_box.send(phone.request("INVITE", 1), port)
        assert (await worker.next()).startswith(b"INVITE ")
    worker.transport.close()
    phone_box.transport.close()


async def test_the_process_serves_until_its_supervisor_is_gone() -> None:
    worker, phone_box = await Box.open(), await Box.open()
    port = free_port()
    phone = Phone(Net(), source=Hop("udp", HOST, phone_box.port, HOST), via_host=HOST)
    async with Process(port) as dispatcher:
        phone_box.send(phone.request("OPTIONS"), port)  # Nobody could take a call yet: it waits,
        early, writer = await asyncio.open_connection(HOST, port)  # and so does who comes by TCP.
        writer.write(phone.request("OPTIONS"))
        order = up(1, worker.port)
        dispatcher.tell(order)
        assert await dispatcher.heard("obeyed") == {"event": "obeyed", "order": order}
        assert (await asyncio.wait_for(early.readline(), 10)).startswith(b"SIP/2.0 200")
        writer.close()
        assert (await phone_box.next()).startswith(b"SIP/2.0 200")
        phone_box.send(phone.request("INVITE", 2), port)
        got = await worker.next()
        assert header(got, "Telbridge-Peer") == [f"{HOST}:{phone_box.port}"]
        worker.send(answer(got, 200), dispatcher.said["inner_port"])
        assert (await phone_box.next()).startswith(b"SIP/2.0 200")
        async with Process(port) as second:
            assert second.said["event"] == "failed"
            assert second.said["error"].startswith(f"SIP cannot listen on {HOST}:{port}")
        assert second.process.returncode == 1
        dispatcher.tell({"do": "gone", "number": 1})
        assert (await phone_box.next()).startswith(b"BYE ")
    assert dispatcher.process.returncode == 0
    worker.transport.close()
    phone_box.transport.close()
