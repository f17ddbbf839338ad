"""A carrier with many callers: one HTTP client, one clock."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from telbridge.caller.pacer import Pacer
from telbridge.caller.streams.audiosocket import AudioSocketDialect, AudioSocketLink, Wanted, announce
from telbridge.caller.streams.call import Link, OnTrace, StreamCall
from telbridge.caller.streams.carriers import CarrierSide, Following, Request, ask
from telbridge.caller.streams.carriers import webhook_url as carrier_webhook_url
from telbridge.caller.streams.chan_websocket import chan_websocket
from telbridge.caller.streams.dialects import Dialect, GenericDialect, TwilioDialect
from telbridge.caller.streams.line import DialEnd, Line
from telbridge.caller.streams.twiml import Dial, Stream
from telbridge.caller.streams.webhook import (
    Account,
    Refusal,
    new_sid,
    post,
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

    def __init__(
        self,
        *,
        account: Account | None = None,
        sides: Mapping[str, CarrierSide] | None = None,
        keep: bool = True,
        phases: int = 8,
        on_dial: Callable[[Dial], Awaitable[DialEnd]] | None = None,
    ) -> None:
        """`account`: Twilio's. `sides`: other carriers, by the name before `+ws://`. `on_dial`: what becomes
        of those whom the bridge has dialled; by default they answer."""
        self._on_dial = on_dial or _answers
        self.sides = dict(sides or {})
        self.account = account or Account(TEST_ACCOUNT, "")
        self._keep, self._phases = keep, phases
        self._calls: set[StreamCall] = set()
        self._lines: list[Line] = []
        self._webhooks: dict[StreamCall, tuple[str, dict[str, str]]] = {}
        self._statuses: dict[StreamCall, Callable[[str], Request]] = {}

    async def __aenter__(self) -> StreamPhone:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._pacer = Pacer(asyncio.get_running_loop(), phases=self._phases)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            await line.hang_up()
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
        """`twilio+ws://…` and other carriers ask the webhook first, `audiosocket://…` and `asterisk-ws://…`
        do as Asterisk, `ws://…` speaks the generic protocol. Refusal if the bridge does not take it,
        ValueError for another scheme."""
        if url.startswith("twilio+"):
            return await self._twilio(url, caller, called, on_trace)
        if url.startswith(("asterisk-ws:", "asterisk-wss:")):
            address, dialect = chan_websocket(url, {"TELBRIDGE_FROM": caller, "TELBRIDGE_TO": called})
            return await self._open(address, {}, dialect, on_trace, protocols=("media",))
        if url.startswith("audiosocket:"):
            return await self._audiosocket(url, caller, called, on_trace)
        name = url.partition("+")[0]
        if name in self.sides:
            return await self._carrier(name, url, caller, called, on_trace)
        if urlsplit(url).scheme not in ("ws", "wss"):
            raise ValueError(f"{url!r}: expected twilio+ws://HOST:PORT/twilio/stream or ws://HOST:PORT/…")
        generic = GenericDialect(new_sid("call-"), {"from": caller, "to": called})
        return await self._open(url, {}, generic, on_trace)

    async def _twilio(self, url: str, caller: str, called: str, on_trace: OnTrace | None) -> StreamCall:
        trace = on_trace or (lambda *_: None)
        voice, call_sid = webhook_url(url), new_sid("CA")
        trace(time.monotonic_ns(), "->", f"POST {urlsplit(voice).path}")
        form = voice_form(self.account, call_sid, caller, called)
        twiml = await post(self._http, self.account, voice, form)

        async def open_stream(stream: Stream, call_sid: str) -> StreamCall:
            trace(time.monotonic_ns(), "<-", f"TwiML with {len(stream.parameters)} parameters")
            headers = {"X-Twilio-Signature": sign(self.account.token, stream.url)}
            dialect = TwilioDialect(new_sid("MZ"), call_sid, self.account.sid, stream.parameters)
            call = await self._open(stream.url, headers, dialect, on_trace)
            self._webhooks[call] = voice, form
            return call

        async def send(url: str, form: Mapping[str, str]) -> str:
            return await post(self._http, self.account, url, form)

        line = Line(send, form, open_stream, self._on_dial, on_trace)
        self._lines.append(line)
        return await line.start(twiml)

    def line(self, call: StreamCall) -> Line | None:
        """The call at its carrier that this stream belongs to; None for a stream of its own."""
        return next((line for line in self._lines if call in line.streams), None)

    async def _carrier(
        self, name: str, url: str, caller: str, called: str, on_trace: OnTrace | None
    ) -> StreamCall:
        trace, side = on_trace or (lambda *_: None), self.sides[name]
        voice, status = (carrier_webhook_url(url, name, what) for what in ("voice", "status"))
        call_id = str(uuid.uuid4())
        request = side.voice(voice, call_id, caller, called)
        trace(time.monotonic_ns(), "->", f"{request.method} {urlsplit(voice).path}")
        answer = await ask(self._http, request)

        async def open_stream(document: str) -> StreamCall:
            stream_url, dialect = side.connected(document, call_id, caller, called)
            trace(time.monotonic_ns(), "<-", f"answer of {len(document)} characters")
            call = await self._open(stream_url, {}, dialect, on_trace)
            self._statuses[call] = lambda what: side.status(status, call_id, what)
            return call

        if not isinstance(side, Following):
            return await open_stream(answer)
        following = side

        async def send(url: str, form: Mapping[str, str]) -> str:
            return await ask(self._http, following.signed(url, form))

        async def open_verb(stream: Stream, _call: str) -> StreamCall:
            return await open_stream(stream.document)

        form = side.facts(call_id, caller, called)
        line = Line(send, form, open_verb, self._on_dial, on_trace, side.kind)
        self._lines.append(line)
        return await line.start(answer)

    async def _audiosocket(self, url: str, caller: str, called: str, on_trace: OnTrace | None) -> StreamCall:
        wanted = Wanted.of(url)
        call_uuid = wanted.uuid
        if wanted.announce:
            call_uuid = await announce(self._http, wanted.announce, {"from": caller, "to": called})
        link = await AudioSocketLink.connect(wanted.host, wanted.port)
        return self._begin(link, AudioSocketDialect(call_uuid, wanted.rate_hz), link.abort, on_trace)

    async def tell_status(self, call: StreamCall, status: str = "completed", **news: str) -> None:
        """The status callback, `/status` beside `/voice`, and what it tells besides. Refusal if it is not
        taken."""
        if call in self._statuses:
            await ask(self._http, self._statuses[call](status))
            return
        voice, form = self._webhooks[call]
        url = voice.removesuffix("voice") + "status"
        await post(self._http, self.account, url, {**form, "CallStatus": status, **news})

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


async def _answers(_dial: Dial) -> DialEnd:
    return DialEnd()


def _abort(socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
    """The connection, without a close."""
    connection = socket._response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
