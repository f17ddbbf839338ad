"""What systemd is told, read from a socket as its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from telbridge.config import ConfigErrors
from telbridge.legs.sip.settings import SipSettings
from telbridge.serving.children import ChildFailed
from telbridge.serving.systemd import ServiceManager, check_passed, passed_sockets
from tests.serving.pretended import let_calls_end, plan_to_be, running, settings_of


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield there


async def next_of(manager: socket.socket) -> dict[str, str]:
    loop = asyncio.get_running_loop()
    told = (await asyncio.wait_for(loop.sock_recv(manager, 4096), 30)).decode()
    return dict(line.split("=", 1) for line in told.split("\n"))


def drain(manager: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            manager.recv(4096)


async def test_ready_reloads_and_the_end_are_told(folder: Path, manager: socket.socket) -> None:
    settings = settings_of(folder, serve={"drain_s": 7})
    plan_to_be(folder, settings)
    let_calls_end(folder)
    async with running(settings) as serving:
        ready = await next_of(manager)
        assert ready["READY"] == "1" and ready["STATUS"].endswith("1 workers, SIP at here")
        await serving.upgrade()
        reloading = await next_of(manager)
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
        assert (await next_of(manager))["READY"] == "1"
        (folder / "plan.json").write_text('{"error": "no"}', "utf-8")
        with pytest.raises(ChildFailed):
            await serving.upgrade()
        assert "RELOADING" in await next_of(manager)
        assert (await next_of(manager))["READY"] == "1", "the old ones serve"
        os.kill(os.getpid(), signal.SIGHUP)
        assert "RELOADING" in await next_of(manager)
        assert (await next_of(manager))["READY"] == "1"
    stopping = await next_of(manager)
    assert stopping["STOPPING"] == "1" and int(stopping["EXTEND_TIMEOUT_USEC"]) > 7_000_000


async def test_the_watchdog_is_fed_only_while_a_worker_takes_calls(
    folder: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    async with running(settings_of(folder)) as serving:
        assert "READY" in await next_of(manager)
        assert await next_of(manager) == {"WATCHDOG": "1"}
        monkeypatch.setattr(type(serving._workers), "taking", [])
        drain(manager)
        await asyncio.sleep(0.3)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        let_calls_end(folder)


def test_without_a_manager_nothing_is_said_and_another_process_is_not_watched(tmp_path: Path) -> None:
    nobody = ServiceManager({})
    nobody.ready("fine")
    assert nobody.watchdog_s is None
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "3000000"})
    gone.alive()
    assert gone.watchdog_s == 3
    of_another = {"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    assert ServiceManager(of_another).watchdog_s is None


def test_sockets_for_another_process_are_not_taken() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert passed_sockets(environ) == []
    assert environ == {"HOME": "/"}, "a child would take them for its own"
    assert passed_sockets({}) == []


@pytest.mark.parametrize(
    ("family", "kind", "host", "settings", "what"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", {}, None),
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", {}, None),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", {"transports": ["tcp"]}, "is not where [sip]"),
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", {"transports": ["udp"]}, "is not where [sip]"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", {"host": "0.0.0.0"}, "is not where [sip]"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", {"port": 5059}, "is not where [sip]"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::1", {}, "is not an IPv4 address"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "", {}, "is not an IPv4 address"),
    ],
)
def test_a_passed_socket_must_be_where_sip_is_expected(
    family: int, kind: int, host: str, settings: dict[str, object], what: str | None
) -> None:
    with socket.socket(family, kind) as passed:
        passed.bind((host, 0) if host else "")
        name = passed.getsockname()
        sip = SipSettings.model_validate({"host": "127.0.0.1", "port": name[1] or 5060, **settings})
        if what is None:
            check_passed([passed], sip)
            return
        with pytest.raises(ConfigErrors, match="socket unit") as wrong:
            check_passed([passed], sip)
    assert what in str(wrong.value) and f"ListenDatagram={sip.host}:{sip.port}" in str(wrong.value)
