"""The connection to Asterisk's REST interface: requests, and the WebSocket of events, made again for ever.

Asterisk takes the application away while nobody listens: `Stasis()` then returns at once with STASISSTATUS
FAILED, and its dialplan goes on. Live calls stay; they are subscribed to again.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType

from telbridge.legs.ari.messages import Answer, Ask
from telbridge.legs.ari.socket import ClientWire, MediaSocket

ASK_S: Final = 5.0
CONNECT_S: Final = 5.0
HEARTBEAT_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
REQUESTS_AT_A_TIME: Final = 16
"""Asterisk keeps a thread for each connection, and no more than `sessionlimit` of them."""
KEEP_S: Final = 5.0
"""An idle connection; Asterisk closes it after `session_keep_alive`, 15 s."""
MAX_EVENT_OCTETS: Final = 1 << 20


class Disconnected(Exception):
    """The events have ended, or never began; the text says why."""


class AriClient:
    """Use it as a context. `listen` runs until it is cancelled."""

    def __init__(self, url: str, username: str, password: str, app: str, log: Any) -> None:
        """`url`: of Asterisk's HTTP server, without `/ari`."""
        self._url, self._app, self._log = url.rstrip("/"), app, log
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}
        self._rest: aiohttp.ClientSession | None = None
        self._events: aiohttp.ClientSession | None = None
        self._media: aiohttp.ClientSession | None = None

    @property
    def peer(self) -> str:
        """Host and port."""
        return urlsplit(self._url).netloc

    async def __aenter__(self) -> AriClient:
        self._rest = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=REQUESTS_AT_A_TIME, keepalive_timeout=KEEP_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ASK_S),
        )
        self._events, self._media = self._session(), self._session(ws_response_class=MediaSocket)
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (self._rest, self._events, self._media):
            if session is not None:
                await session.close()

    async def ask(self, ask: Ask) -> Answer:
        """One request. Never raises for what the network or Asterisk does."""
        assert self._rest is not None
        url = f"{self._url}/ari/{ask.path}"
        try:
            async with self._rest.request(ask.method, url, params=ask.query) as response:
                body = await response.json() if response.content_type == "application/json" else {}
                answer = Answer(response.status, body if isinstance(body, dict) else {})
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            self._log.warning("ari_no_answer", purpose=ask.purpose.name.lower(), why=type(error).__name__)
            return Answer(0)
        if not answer.good:
            self._log.debug("ari_refused", purpose=ask.purpose.name.lower(), status=answer.status)
        return answer

    def _session(self, **more: Any) -> aiohttp.ClientSession:
        """For WebSockets."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            **more,
        )

    async def media(self, connection_id: str) -> ClientWire:
        """Connect to the media WebSocket of a channel. OSError and aiohttp's errors if it cannot be had."""
        assert self._media is not None
        async with asyncio.timeout(CONNECT_S):
            url = f"{self._url}/media/{connection_id}"
            websocket = await self._media.ws_connect(url, protocols=("media",))
        assert isinstance(websocket, MediaSocket)
        return websocket.wire()

    async def listen(
        self,
        on_message: Callable[[str], None],
        on_connected: Callable[[], None],
        pause_s: Callable[[float], float] = lambda longest_s: random.uniform(longest_s / 2, longest_s),
    ) -> None:
        """Hand over each event as it comes, for ever."""
        longest_s = FIRST_PAUSE_S
        told = ""
        while True:
            try:
                async with await self._open() as websocket:
                    self._log.info("ari_connected", app=self._app)
                    longest_s, told = FIRST_PAUSE_S, ""
                    on_connected()
                    await self._read(websocket, on_message)
            except (aiohttp.ClientError, TimeoutError, OSError, Disconnected) as error:
                why = _words(error)
                if why != told:
                    self._log.warning("ari_disconnected", why=why, remedy=_remedy(error))
                    told = why
            await asyncio.sleep(pause_s(longest_s))
            longest_s = min(2 * longest_s, LONGEST_PAUSE_S)

    async def _open(self) -> aiohttp.ClientWebSocketResponse[Any]:
        assert self._events is not None
        url = f"{self._url}/ari/events?app={self._app}&subscribeAll=false"
        async with asyncio.timeout(CONNECT_S):
            return await self._events.ws_connect(url, heartbeat=HEARTBEAT_S, max_msg_size=MAX_EVENT_OCTETS)

    async def _read(
        self, websocket: aiohttp.ClientWebSocketResponse[Any], on_message: Callable[[str], None]
    ) -> None:
        while True:
            message = await websocket.receive()
            if message.type is WSMsgType.TEXT:
                on_message(message.data)
            elif message.type is not WSMsgType.BINARY:
                raise Disconnected("Asterisk closed the events WebSocket, or was lost")


def _words(error: BaseException) -> str:
    """Without what may hold credentials: aiohttp's texts hold the URL."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"refused with {error.status}"
    if isinstance(error, Disconnected):
        return str(error)
    return f"no connection ({type(error).__name__})"


def _remedy(error: BaseException) -> str:
    if not isinstance(error, aiohttp.WSServerHandshakeError):
        return "is Asterisk up, and ari.url the address of its HTTP server (http.conf)?"
    if error.status == 401:
        return "ari.username and ari.password are a user of ari.conf"
    return "ari.conf: enabled = yes; http.conf: enabled = yes"
