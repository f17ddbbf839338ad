"""The telephone on the admin port: its files, their headers, and the line that it calls on."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import aiohttp
import pytest
from yarl import URL

from telbridge.config import Settings
from telbridge.legs.streams.tickets import TicketOffice
from telbridge.serving.admin import Admin
from telbridge.serving.ingress_generic import PHONE_TICKET
from telbridge.serving.phone_page import PhonePage
from tests.ports import free_port

KEY = b"0123456789abcdef"
FOLDER = files("telbridge.serving") / "phone"
SCRIPTS = ["phone.js", "line.js", "playout.js", "microphone.js"]


@dataclass
class Page:
    """The admin port with the page on it; `listening`: whether a worker takes calls."""

    http: aiohttp.ClientSession
    office: TicketOffice = field(default_factory=lambda: TicketOffice(KEY, home="1.a"))
    listening: bool = True

    async def line(self, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post("/phone/line", headers=named) as answer:
            return answer.status, await answer.json(content_type=None) if answer.status != 403 else None


@asynccontextmanager
async def a_page(**http: Any) -> AsyncIterator[Page]:
    port = free_port()
    settings = Settings.model_validate(
        {"admin": {"port": port, "names": ["voice.example.com"]}, "http": {"port": 18080, **http}}
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        page = Page(session)
        phone = PhonePage(settings, TicketOffice(KEY), lambda: "1.a" if page.listening else None)
        admin = Admin(settings.admin, list, phone.routes())
        await admin.start()
        try:
            yield page
        finally:
            await admin.stop()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/phone", "text/html"),
        ("/phone/phone.css", "text/css"),
        ("/phone/icon.svg", "image/svg+xml"),
        *((f"/phone/{name}", "text/javascript") for name in SCRIPTS),
    ],
)
async def test_each_file_is_there_under_a_strict_policy_and_asked_for_anew_by_its_tag(
    path: str, kind: str
) -> None:
    async with a_page() as page:
        async with page.http.get(path) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "connect-src 'self' ws://127.0.0.1:18080;" in policy
            assert not re.search(r"unsafe|\*|data:", policy)
            assert answer.headers["Cache-Control"] == "no-cache"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            tag = answer.headers["ETag"]
        async with page.http.get(path, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")


@pytest.mark.parametrize("path", ["/phone/..%2Fadmin.py", "/phone/nothing.js", "/phone/%2Fetc%2Fpasswd"])
async def test_nothing_else_is_there(path: str) -> None:
    async with a_page() as page, page.http.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404


async def test_a_line_is_a_ticket_for_one_call() -> None:
    async with a_page() as page:
        status, said = await page.line(Sec_Fetch_Site="same-origin")
        url = URL(said["url"])
        assert status == 200
        assert str(url.with_query(None)) == "ws://127.0.0.1:18080/generic/stream"
        assert page.office.take(url.query["ticket"], time.monotonic_ns()) == PHONE_TICKET
        assert (await page.line())[1]["url"] != said["url"]


async def test_the_line_is_where_the_browser_can_reach_it() -> None:
    async with a_page() as page:
        assert (await page.line(Host="localhost:8081"))[1]["url"].startswith("ws://localhost:18080/")
        assert (await page.line(Host="[::1]:8081"))[1]["url"].startswith("ws://[::1]:18080/")
    async with a_page(public_url="https://voice.example.com/tel") as page:
        for host in ("127.0.0.1", "voice.example.com"):
            status, said = await page.line(Host=host)
            assert (status, said["url"].partition("?")[0]) == (
                200,
                "wss://voice.example.com/tel/generic/stream",
            )


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:8081", "a b", "", "x'; script-src *"])
async def test_a_name_that_was_made_to_point_here_gets_nothing(host: str) -> None:
    async with a_page() as page:
        assert (await page.line(Host=host))[0] in (400, 403)
        async with page.http.get("/phone", headers={"Host": host}) as answer:
            assert answer.status in (400, 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_pages_get_no_line(site: str) -> None:
    async with a_page() as page:
        assert (await page.line(Sec_Fetch_Site=site, Origin="https://evil.example.com"))[0] == 403
        async with page.http.options("/phone/line", headers={"Origin": "https://evil.example.com"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_where_no_worker_listens_the_page_is_told_so() -> None:
    async with a_page() as page:
        page.listening = False
        status, said = await page.line()
        assert status == 503
        assert "No worker listens" in said["why"]


@pytest.mark.parametrize("name", [*SCRIPTS, "index.html"])
def test_what_comes_from_outside_never_becomes_markup_or_code(name: str) -> None:
    """The policy would stop it; it shall not be tried."""
    text = (FOLDER / name).read_text("utf-8")
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setHTML|srcdoc"
    assert not re.search(sinks + r"|\son\w+=\"", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|https?://(?!localhost)", text)
