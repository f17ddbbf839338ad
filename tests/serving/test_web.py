"""Webhooks and HTTP tools against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import structlog
from aiohttp import web

from telbridge.call.ports import OutsideFailed
from telbridge.dialplan.orders import CallHttp, CallWebhook
from telbridge.serving import web as ours
from telbridge.serving.web import Web

KEY = "s3cr3t-k3y"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Keeps what it got; answers in turn, the last answer again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, request.headers, await request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@contextlib.asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Server]:
    server = Server(*answers)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[Web]:
    made = Web({"HOOK_KEY": KEY, "EMPTY": ""}, clock=lambda: 1_800_000_000.9)
    yield made
    await made.aclose()


@pytest.fixture(autouse=True)
def _no_waiting_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "BACKOFF_S", (0.0,))


def answers(body: Any = None, *, status: int = 200, raw: bytes | None = None, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        content = json.dumps(body).encode() if raw is None else raw
        return web.Response(
            status=status, body=content, headers={"Content-Type": "application/json"} | headers
        )

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("waited for")


async def breaks_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def hook(url: str, **changes: Any) -> CallWebhook:
    wanted = {
        "body": {"event": "key", "digits": "4711"},
        "headers": {},
        "timeout_s": 2.0,
        "retries": 2,
        "secret_env": None,
    }
    return CallWebhook(id=1, url=url, **{**wanted, **changes})


def tool(url: str, **changes: Any) -> CallHttp:
    wanted = {"method": "GET", "body": None, "headers": {}, "timeout_s": 2.0}
    return CallHttp(id=1, url=url, **{**wanted, **changes})


async def failure(work: Awaitable[Any]) -> str:
    with pytest.raises(OutsideFailed) as caught:
        await work
    return str(caught.value)


# ---------------------------------------------------------------- what is sent


async def test_the_answer_of_a_webhook_is_the_json_of_its_server(client: Web) -> None:
    async with serving(answers({"set": {"name": "Ann"}})) as server:
        order = hook(f"{server.url}/crm?x=1", headers={"X-Shop": "7"})
        assert await client.webhook(order) == {"set": {"name": "Ann"}}
    method, path, headers, body = server.requests[0]
    assert (method, path) == ("POST", "/crm?x=1")
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Shop"] == "7"
    assert json.loads(body) == {"event": "key", "digits": "4711"}


async def test_the_signature_can_be_verified_by_who_has_the_key(client: Web) -> None:
    async with serving(answers({})) as server:
        await client.webhook(hook(server.url, secret_env="HOOK_KEY", body={"who": "Jürgen 🎧"}))
    _, _, headers, body = server.requests[0]
    given = dict(part.split("=") for part in headers["X-Telbridge-Signature"].split(","))
    assert given["t"] == "1800000000"
    signed = given["t"].encode() + b"." + body
    assert given["v1"] == hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert json.loads(body) == {"who": "Jürgen 🎧"}


async def test_what_is_not_signed_has_no_signature_not_even_one_of_the_dialplan(client: Web) -> None:
    async with serving(answers({})) as server:
        await client.webhook(hook(server.url, headers={"x-telbridge-signature": "t=1,v1=00"}))
    assert "X-Telbridge-Signature" not in server.requests[0][2]


@pytest.mark.parametrize("name", ["MISSING", "EMPTY"])
async def test_without_its_key_nothing_is_sent(client: Web, name: str) -> None:
    async with serving(answers({})) as server:
        assert f"{name} is not set" in await failure(client.webhook(hook(server.url, secret_env=name)))
    assert server.requests == []


async def test_each_webhook_has_a_key_of_its_own_by_which_a_second_try_is_known(client: Web) -> None:
    async with serving(answers(status=503), answers({}), answers({})) as server:
        await client.webhook(hook(server.url))
        await client.webhook(hook(server.url))
    first, again, other = [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]
    assert first == again != other


# ---------------------------------------------------------------- tries


@pytest.mark.parametrize(
    "bad", [answers(status=500), answers(status=429), breaks_off], ids=["500", "429", "cut"]
)
async def test_what_may_pass_is_tried_again(client: Web, bad: Answer) -> None:
    async with serving(bad, bad, answers({"ok": 1})) as server:
        assert await client.webhook(hook(server.url)) == {"ok": 1}
    assert len(server.requests) == 3


async def test_it_is_tried_as_often_as_the_dialplan_says_and_no_more(client: Web) -> None:
    async with serving(answers(status=502)) as server:
        assert await failure(client.webhook(hook(server.url, retries=3))) == "127.0.0.1: answered 502"
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_what_the_server_refuses_is_not_tried_again(client: Web, status: int) -> None:
    async with serving(answers(status=status), answers({})) as server:
        assert await failure(client.webhook(hook(server.url))) == f"127.0.0.1: answered {status}"
    assert len(server.requests) == 1


async def test_each_try_has_its_own_time(client: Web) -> None:
    async with serving(never, answers({"ok": 1})) as server:
        assert await client.webhook(hook(server.url, timeout_s=0.1)) == {"ok": 1}
    assert len(server.requests) == 2


async def test_an_answer_that_never_ends_takes_no_longer_than_its_time(client: Web) -> None:
    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async with serving(drips) as server:
        async with asyncio.timeout(20):
            said = await failure(client.webhook(hook(server.url, timeout_s=0.2, retries=0)))
    assert said == "127.0.0.1: no whole answer within 0.2 s"


async def test_a_server_that_is_not_there(client: Web) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/pin/4711"
        assert await failure(client.webhook(hook(url))) == "127.0.0.1: no connection"


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("raw", [b"", b"  \n"])
async def test_an_empty_answer_says_nothing(client: Web, raw: bytes) -> None:
    async with serving(answers(raw=raw)) as server:
        assert await client.webhook(hook(server.url)) == {}


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"[1]", "its JSON is no object"),
        (b'"text"', "its JSON is no object"),
        (b"<html>", "its answer is no JSON"),
        (b'{"a": NaN}', "its answer is no JSON"),
        (b"\xff\xfe{}", "its answer is no JSON"),
        (b"[" * 60_000, "its answer is no JSON"),
        (b'{"a": ' + b"9" * 6000 + b"}", "its answer is no JSON"),
    ],
    ids=["list", "text", "html", "nan", "octets", "deep", "long number"],
)
async def test_garbage_is_an_error_and_not_asked_for_again(client: Web, raw: bytes, what: str) -> None:
    async with serving(answers(raw=raw)) as server:
        assert await failure(client.webhook(hook(server.url))) == f"127.0.0.1: {what}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_a_huge_answer_is_not_read_to_its_end(client: Web, packed: bool) -> None:
    huge = b'{"a": "' + b"x" * 10_000_000 + b'"}'
    headers = {"Content-Encoding": "gzip"} if packed else {}
    async with serving(answers(raw=gzip.compress(huge) if packed else huge, **headers)) as server:
        assert await failure(client.webhook(hook(server.url))) == "127.0.0.1: answered more than 64 kB"
    assert len(server.requests) == 1


async def test_redirects_are_not_followed(client: Web) -> None:
    async with serving(answers({})) as other, serving(answers(status=307, Location=other.url)) as server:
        said = await failure(client.webhook(hook(server.url)))
    assert said == "127.0.0.1: answered 307; redirects are not followed"
    assert other.requests == []


@pytest.mark.parametrize("url", ["http://[oops/4711", "ftp://127.0.0.1/4711"])
async def test_what_is_no_url_of_the_web_is_an_error_like_any_other(client: Web, url: str) -> None:
    said = await failure(client.webhook(hook(url)))
    assert "4711" not in said
    assert said.endswith("the URL or a header cannot be sent")


async def test_a_header_never_becomes_two(client: Web) -> None:
    async with serving(answers({})) as server:
        said = await failure(client.webhook(hook(server.url, headers={"X-Name": "a\r\nX-Evil: 4711"})))
    assert said == "127.0.0.1: the URL or a header cannot be sent"
    assert server.requests == []


async def test_neither_errors_nor_logs_tell_path_body_headers_or_key(client: Web) -> None:
    order = {"secret_env": "HOOK_KEY", "headers": {"X-Token": "t0ken"}, "retries": 1}
    with structlog.testing.capture_logs() as lines:
        async with serving(answers(status=500, raw=b"4711 is wrong")) as server:
            said = await failure(client.webhook(hook(f"{server.url}/pin/4711?pin=4711", **order)))
    assert len(lines) == 2  # one a try
    for secret in ("4711", "pin", "t0ken", KEY, "v1="):
        assert secret not in said + str(lines)


# ---------------------------------------------------------------- tools


async def test_a_tool_gets_json_where_the_answer_says_so_and_text_else(client: Web) -> None:
    text = answers(raw="18° and fair".encode(), **{"Content-Type": "text/plain; charset=utf-8"})
    problem = answers([1, "two"], **{"Content-Type": "application/problem+json"})
    async with serving(text, problem) as server:
        assert await client.http(tool(f"{server.url}/weather?city=Bonn")) == "18° and fair"
        assert await client.http(tool(server.url, method="POST", body={"city": "Bonn"})) == [1, "two"]
    (got, path, headers, nothing), (post, _, _, body) = server.requests
    assert (got, path, nothing) == ("GET", "/weather?city=Bonn", b"")
    assert "Content-Type" not in headers
    assert (post, json.loads(body)) == ("POST", {"city": "Bonn"})


async def test_a_tool_is_asked_once(client: Web) -> None:
    async with serving(answers(status=503)) as server:
        assert await failure(client.http(tool(server.url))) == "127.0.0.1: answered 503"
    assert len(server.requests) == 1
