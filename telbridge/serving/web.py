"""Webhooks and HTTP tools: bounded, signed, tried again, and silent about what they carry."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import structlog

from telbridge import __version__
from telbridge.call.ports import OutsideFailed
from telbridge.dialplan.orders import CallHttp, CallWebhook

log = structlog.get_logger()

SIGNATURE: Final = "X-Telbridge-Signature"
"""`t=SECONDS,v1=HEX`: HMAC-SHA256 of "SECONDS.BODY" under the key of `secret_env`."""
IDEMPOTENCY: Final = "Idempotency-Key"
"""The same over all tries of one webhook (draft-ietf-httpapi-idempotency-key-header)."""
LARGEST: Final = 64 * 1024
"""Octets of an answer, after decompression."""
BACKOFF_S: Final = (0.2, 0.5, 1.0, 1.5, 2.0)
"""Before each further try. The engine's own bound allows 2 s for each."""
_PIECE: Final = 8192


class _TryAgain(Exception):
    """This try failed in a way that may pass."""


class Web:
    """The HTTP client of the dialplans. Errors and logs name the host only: paths, bodies and headers may
    hold numbers, digits and keys."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.time
    ) -> None:
        """`environ`: where `secret_env` is looked up. `clock`: seconds since 1970."""
        self._environ, self._clock = environ, clock
        self._http: aiohttp.ClientSession | None = None

    async def webhook(self, order: CallWebhook) -> Any:
        """POST it; the JSON object of the answer, {} for an empty one. OutsideFailed."""
        body = encoded(order.body)
        key = self._key(order)
        headers = {**_plain(order.headers), IDEMPOTENCY: secrets.token_hex(16)}
        for attempt in range(order.retries + 1):
            if attempt:
                await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1])
            signed = headers if key is None else {**headers, SIGNATURE: signature(key, body, self._clock())}
            try:
                answer, _ = await self._ask("POST", order.url, body, signed, order.timeout_s)
            except _TryAgain as fault:
                log.warning("webhook_failed", host=_host(order.url), what=str(fault), attempt=attempt + 1)
                failure = fault
            else:
                return _object(answer, order.url)
        raise OutsideFailed(f"{_host(order.url)}: {failure}") from None

    async def http(self, order: CallHttp) -> Any:
        """One request; JSON where the answer says that it is some, else its text. OutsideFailed."""
        body = None if order.body is None else encoded(order.body)
        try:
            answer, kind = await self._ask(
                order.method, order.url, body, _plain(order.headers), order.timeout_s
            )
        except _TryAgain as fault:
            raise OutsideFailed(f"{_host(order.url)}: {fault}") from None
        if kind == "application/json" or kind.endswith("+json"):
            return _json(answer, order.url) if answer.strip() else ""
        return answer.decode("utf-8", "replace")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _key(self, order: CallWebhook) -> bytes | None:
        if order.secret_env is None:
            return None
        if key := self._environ.get(order.secret_env, ""):
            return key.encode("utf-8", "surrogateescape")
        raise OutsideFailed(f"{_host(order.url)}: {order.secret_env} is not set, so it cannot be signed")

    async def _ask(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[bytes, str]:
        """The body of a good answer and its content type. _TryAgain, OutsideFailed."""
        ours = {"User-Agent": f"telbridge/{__version__}", "Accept": "application/json"}
        if body is not None:
            ours["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(timeout_s):
                return await self._tried(method, url, body, {**ours, **headers})
        except TimeoutError:
            raise _TryAgain(f"no whole answer within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise OutsideFailed(f"{_host(url)}: its certificate was not accepted") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
            raise OutsideFailed(f"{_host(url)}: the URL or a header cannot be sent") from None
        except aiohttp.ClientConnectorError:
            raise _TryAgain("no connection") from None
        except (aiohttp.ClientError, OSError) as fault:
            raise _TryAgain(f"the connection broke ({type(fault).__name__})") from None

    async def _tried(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[bytes, str]:
        if self._http is None:
            self._http = _client()
        request = self._http.request(method, url, data=body, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status >= 500 or response.status == 429:
                raise _TryAgain(f"answered {response.status}")
            if 300 <= response.status < 400:
                raise OutsideFailed(f"{_host(url)}: answered {response.status}; redirects are not followed")
            if not 200 <= response.status < 300:
                raise OutsideFailed(f"{_host(url)}: answered {response.status}")
            answer = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                answer += piece
                if len(answer) > LARGEST:
                    raise OutsideFailed(f"{_host(url)}: answered more than {LARGEST // 1024} kB")
            return bytes(answer), response.content_type.lower()


def signature(key: bytes, body: bytes, at: float) -> str:
    """The value of SIGNATURE for a body that is sent at this time (seconds since 1970)."""
    moment = str(int(at))
    digest = hmac.new(key, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def encoded(body: Mapping[str, Any]) -> bytes:
    """As JSON; what JSON has no form for, as text."""
    return json.dumps(body, separators=(",", ":"), default=_as_json).encode()


def _as_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _client() -> aiohttp.ClientSession:
    """No cookies, addresses cached for a minute, certificates verified."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Without those that are ours: how long the body is, and that it is signed."""
    ours = {SIGNATURE.lower(), IDEMPOTENCY.lower(), "content-length", "transfer-encoding"}
    return {name: value for name, value in headers.items() if name.lower() not in ours}


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"


def _object(answer: bytes, url: str) -> Any:
    if not answer.strip():
        return {}
    found = _json(answer, url)
    if not isinstance(found, dict):
        raise OutsideFailed(f"{_host(url)}: its JSON is no object")
    return found


def _json(answer: bytes, url: str) -> Any:
    try:
        return json.loads(answer, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise OutsideFailed(f"{_host(url)}: its answer is no JSON") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
