"""The admin port: health and version, told by the supervisor."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from telbridge import __version__
from telbridge.config import ConfigErrors
from telbridge.serving.admin import Admin
from telbridge.serving.admin_settings import AdminSection


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


@pytest.fixture
async def reasons() -> list[str]:
    return []


@pytest.fixture
async def http(port: int, reasons: list[str]) -> AsyncIterator[aiohttp.ClientSession]:
    admin = Admin(AdminSection(port=port), lambda: reasons)
    await admin.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await admin.stop()


async def test_it_lives_and_says_what_it_is(http: aiohttp.ClientSession) -> None:
    async with http.get("/live") as live, http.get("/version") as version:
        assert live.status == 200
        assert await version.json() == {"telbridge": __version__}


async def test_ready_tells_why_not(http: aiohttp.ClientSession, reasons: list[str]) -> None:
    async with http.get("/ready") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "why": []})
    reasons.append("draining")
    async with http.get("/ready") as answer:
        assert (answer.status, await answer.json()) == (503, {"ready": False, "why": ["draining"]})


async def test_a_page_for_people_asks_for_a_name_that_is_ours(port: int) -> None:
    """A probe may ask by any name; a page of another site that points its own name here reads no calls."""

    async def calls(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    section = AdminSection(port=port, names=("Phones.Example.com",))
    admin = Admin(section, list, [web.get("/calls", calls), web.get("/metrics", calls)])
    await admin.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        for host, path, status in [
            (f"127.0.0.1:{port}", "/calls", 200),
            ("phones.example.com", "/calls", 200),
            ("evil.example.com", "/calls", 403),
            ("[1.2]", "/calls", 403),
            ("telbridge:8081", "/metrics", 200),
            ("telbridge:8081", "/ready", 200),
        ]:
            async with http.get(path, headers={"Host": host}) as answer:
                assert answer.status == status, host
    await admin.stop()


async def test_a_port_that_was_asked_for_and_is_taken_is_a_mistake(port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ConfigErrors, match=rf"admin\.port: cannot listen on 127\.0\.0\.1:{port}"):
            await Admin(AdminSection(port=port), list).start()
