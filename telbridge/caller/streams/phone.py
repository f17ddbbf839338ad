"""A carrier with many callers: one HTTP client, one clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from telbridge.caller.pacer import Pacer
from telbridge.caller.streams.audiosocket import AudioSocketDialect, AudioSocketLink, Wanted, announce
from telbridge.caller.streams.call import Link, OnTrace, StreamCall
from telbridge.caller.streams.chan_websocket import chan_websocket
from telbridge.caller.streams.dialects import Dialect, GenericDialect, TwilioDialect
from telbridge.caller.streams.webhook import (
    Account,
    Refusal,
    new_sid,
    post,
    read_twiml,
    sign,
    voice_form,
    webhook_url,
)

TEST_ACCOUNT: Final = "AC" + "0" * 31 + "1"
CALLER: Final = "+15005550006"
CALLED: Final = "+15005550001"
HANDSHAKE_S: Final = 10.0


class StreamPhone:
    """Opened with `async with`; closing ends its calls."""

    def __init__(self, *, account: Account | None = None, keep: bool = True, phases: int = 8) -> None:
        self.account = account or Account(TEST_ACCOUNT, "")
        self._keep, self._phases = keep, phases
        self._calls: set[StreamCall] = set()
        self._webhooks: dict[StreamCall, tuple[str, dict[str, str]]] = {}

    async def __aenter__(self) -> StreamPhone:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._pacer = Pacer(asyncio.get_running_loop(), phases=self._phases)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in list(self._calls):
            await call.hang_up()
        self._pacer.close()
        await self._http.close()

    async def call(
        self,
        url: str,
        *,
        caller: str = CALLER,
        called: str = CALLED,
        on_trace: OnTrace | None = None,
    ) -> StreamCall:
        """`twilio+ws://…` asks the webhook first, `audiosocket://…` and `asterisk-ws://…` do as Asterisk,
        `ws://…` speaks the generic protocol. Refusal if the bridge does not take it, ValueError for another
        scheme."""
        if url.startswith("twilio+"):
            return await self._twilio(url, caller, called, on_trace)
        if url.startswith(("asterisk-ws:", "asterisk-wss:")):
            address, dialect = chan_websocket(url, {"TELBRIDGE_FROM": caller, "TELBRIDGE_TO": called})
            return await self._open(address, {}, dialect, on_trace, protocols=("media",))
        if url.startswith("audiosocket:"):
            return await self._audiosocket(url, caller, called, on_trace)
        if urlsplit(url).scheme not in ("ws", "wss"):
            raise ValueError(f"{url!r}: expected twilio+ws://HOST:PORT/twilio/stream or ws://HOST:PORT/…")
        generic = GenericDialect(new_sid("call-"), {"from": caller, "to": called})
        return await self._open(url, {}, generic, on_trace)

    async def _twilio(self, url: str, caller: str, called: str, on_trace: OnTrace | None) -> StreamCall:
        trace = on_trace or (lambda *_: None)
        voice, call_sid = webhook_url(url), new_sid("CA")
        trace(time.monotonic_ns(), "->", f"POST {urlsplit(voice).path}")
        form = voice_form(self.account, call_sid, caller, called)
        twiml = read_twiml(await post(self._http, self.account, voice, form))
        trace(time.monotonic_ns(), "<-", f"TwiML with {len(twiml.parameters)} parameters")
        headers = {"X-Twilio-Signature": sign(self.account.token, twiml.url)}
        dialect = TwilioDialect(new_sid("MZ"), call_sid, self.account.sid, twiml.parameters)
        call = await self._open(twiml.url, headers, dialect, on_trace)
        self._webhooks[call] = voice, form
        return call

    async def _audiosocket(self, url: str, caller: str, called: str, on_trace: OnTrace | None) -> StreamCall:
        wanted = Wanted.of(url)
        uuid = wanted.uuid
        if wanted.announce:
            uuid = await announce(self._http, wanted.announce, {"from": caller, "to": called})
        link = await AudioSocketLink.connect(wanted.host, wanted.port)
        return self._begin(link, AudioSocketDialect(uuid, wanted.rate_hz), link.abort, on_trace)

    async def tell_status(self, call: StreamCall, status: str = "completed") -> None:
        """The status callback, `/status` beside `/voice`. Refusal if it is not taken."""
        voice, form = self._webhooks[call]
        url = voice.removesuffix("voice") + "status"
        await post(self._http, self.account, url, {**form, "CallStatus": status})

    async def _open(
        self,
        url: str,
        headers: dict[str, str],
        dialect: Dialect,
        on_trace: OnTrace | None,
        protocols: Sequence[str] = (),
    ) -> StreamCall:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                socket = await self._http.ws_connect(
                    url, headers=headers, max_msg_size=0, compress=0, protocols=protocols
                )
        except aiohttp.WSServerHandshakeError as error:
            raise Refusal(f"31920: handshake answered {error.status}") from None
        except aiohttp.ClientConnectionError as error:
            raise Refusal(f"31902: {error}") from None
        except TimeoutError:
            raise Refusal("31901: handshake timed out") from None
        return self._begin(socket, dialect, partial(_abort, socket), on_trace)

    def _begin(
        self, link: Link, dialect: Dialect, abort: Callable[[], None], on_trace: OnTrace | None
    ) -> StreamCall:
        call = StreamCall(link, dialect, abort=abort, on_trace=on_trace, keep=self._keep)
        if on_trace is not None:
            on_trace(call.facts.opened_ns, "->", "stream opened, start")
        self._calls.add(call)
        self._pacer.add(call)
        return call


def _abort(socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
    """The connection, without a close."""
    connection = socket._response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
