"""Many Twilio streams: the load by WebSocket, with what a carrier does on its side.

Messages are made from ready-made octets and looked at with `find`; frames are masked with zeros, which costs
their receiver what any mask does (RFC 6455 §5.3). Each line plays what it is sent as a carrier would: by its
own clock, returning marks when what stands before them has been heard.
"""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
import struct
import time
from collections import deque
from types import TracebackType
from typing import Final, cast
from urllib.parse import urlsplit

import aiohttp

from bench.crowd import FRAME_NS, PHASES, Counts
from telbridge.caller.pacer import Pacer
from telbridge.caller.streams.dialects import TwilioDialect
from telbridge.caller.streams.phone import CALLED, CALLER, TEST_ACCOUNT
from telbridge.caller.streams.webhook import Account, new_sid, post, read_twiml, sign, voice_form

TOKEN: Final = "0123456789abcdef0123456789abcdef"
OPEN_S: Final = 10.0
SPOKEN, CYCLE = 10, 40
"""Frames: 200 ms of every 800."""
OCTET_NS: Final = 125_000
"""Of μ-law."""
_POOL: Final = [base64.b64encode(random.randbytes(160)) for _ in range(SPOKEN * 16)]
"""No two of a call are the same within 12 s, so that each is known again."""
_QUIET: Final = base64.b64encode(b"\xff" * 160)
_PAYLOAD: Final = b'"payload":"'
_NAME: Final = b'"name":"'
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_PING: Final = 0x89


def frame(payload: bytes, first: int = _TEXT) -> bytes:
    """One whole frame of a client, its mask zero."""
    size = len(payload)
    head = struct.pack("!BBH", first, 0x80 | 126, size) if size > 125 else bytes((first, 0x80 | size))
    return head + b"\0\0\0\0" + payload


def unframed(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The server's whole frames at the head of these octets, as (first octet, payload), and the rest."""
    frames, at, end = [], 0, len(buffer)
    while end - at >= 2:
        size, start = buffer[at + 1], at + 2
        if size == 126:
            start = at + 4
            size = int.from_bytes(buffer[at + 2 : start], "big")
        elif size == 127:
            start = at + 10
            size = int.from_bytes(buffer[at + 2 : start], "big")
        if end < start or end - start < size:
            break
        frames.append((buffer[at], buffer[start : start + size]))
        at = start + size
    return frames, buffer[at:]


class StreamLine(asyncio.Protocol):
    """One stream, from its upgrade to its end."""

    def __init__(self, request: bytes, dialect: TwilioDialect, number: int) -> None:
        self._request, self._dialect = request, dialect
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = False
        """The other side has closed, or we have."""
        self.counting: Counts | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._frames = number * 7
        """Not all begin to speak at once."""
        self._sequence = 2
        stream = str(dialect.mark("")).partition('"streamSid":"')[2].partition('"')[0]
        self._tail = f'"}},"streamSid":"{stream}"}}'.encode()
        self._out: dict[bytes, int] = {}
        self._played_ns = 0
        """Until when there is something to play."""
        self._marks: deque[tuple[int, str]] = deque()

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        if not self.open.done():
            self.open.set_exception(ConnectionError("the upgrade was not answered"))

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            self._buffer += data
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.open.set_exception(ConnectionError(head.split(b"\r\n")[0].decode()))
                return
            self.open.set_result(None)
            for message in self._dialect.opening():
                self._write(str(message))
            self._buffer, data = b"", rest
        now_ns = time.monotonic_ns()
        messages, self._buffer = unframed(self._buffer + data if self._buffer else data)
        for first, payload in messages:
            if first == _TEXT:
                self._heard(payload, now_ns)
            elif first == _PING:
                self._put(frame(payload, 0x8A))
            elif first == _CLOSE:
                self.close()

    def close(self) -> None:
        """Safe twice."""
        self.over = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def hang_up(self) -> None:
        """As Twilio does: stop, then the connection ends."""
        if not self.over:
            self._write(self._dialect.stop())
            self._put(frame(b"\x03\xe8", _CLOSE))
            self.close()

    def vanish(self) -> None:
        """The connection breaks."""
        self.over = True
        if self._transport is not None:
            self._transport.abort()

    # --- speaking

    def tick(self, now_ns: int) -> None:
        if not self.open.done() or self.over:
            return
        number = self._frames
        self._frames = number + 1
        place, spoken = number % CYCLE, b""
        payload = _QUIET
        if place < SPOKEN:
            payload = spoken = _POOL[(number // CYCLE * SPOKEN + place) % len(_POOL)]
        sequence = self._sequence
        self._sequence = sequence + 1
        message = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b%b' % (sequence + 1, sequence - 1, sequence * 20, payload, self._tail)
        )
        at_ns = time.monotonic_ns()
        if (counts := self.counting) is not None and not counts.until_ns:
            counts.ticks.append(at_ns)
            if spoken:
                self._out[spoken] = at_ns
                counts.said += 1
        self._put(frame(message))
        while self._marks and self._marks[0][0] <= now_ns:
            self._return_mark(self._marks.popleft()[1])

    def skip(self, ticks: int) -> None:
        """Frames that we missed are never said."""

    # --- hearing

    def _heard(self, message: bytes, now_ns: int) -> None:
        at = message.find(_PAYLOAD)
        if at >= 0:
            at += len(_PAYLOAD)
            self._audio(message[at : message.index(b'"', at)], now_ns)
        elif b'"event":"mark"' in message:
            at = message.index(_NAME) + len(_NAME)
            name = message[at : message.index(b'"', at)].decode()
            if self._played_ns <= now_ns:
                self._return_mark(name)
            else:
                self._marks.append((self._played_ns, name))
        elif b'"event":"clear"' in message:
            self._played_ns = now_ns
            while self._marks:
                self._return_mark(self._marks.popleft()[1])

    def _audio(self, payload: bytes, now_ns: int) -> None:
        length_ns = (len(payload) // 4 * 3 - payload.count(b"=", -2)) * OCTET_NS
        if (counts := self.counting) is not None:
            if not counts.until_ns:
                counts.arrivals.append(now_ns)
                if 0 < now_ns - self._played_ns < FRAME_NS * 10:
                    # A short hole in what is played; a longer one is a pause between two replies.
                    counts.starved_ms.append((now_ns - self._played_ns) / 1e6)
            sent_ns = self._out.pop(payload, None)
            if sent_ns is not None:
                counts.delays_ms.append((now_ns - sent_ns) / 1e6)
        self._played_ns = max(now_ns, self._played_ns) + length_ns

    def _return_mark(self, name: str) -> None:
        self._sequence += 1
        self._write(self._dialect.mark(name))

    def _write(self, message: object) -> None:
        self._put(frame(str(message).encode()))

    def _put(self, octets: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    # --- the load's side

    def begin(self, now_ns: int) -> None:
        self.counting, self._out = Counts(now_ns), {}

    def end(self, now_ns: int) -> None:
        assert self.counting is not None
        self.counting.until_ns = now_ns

    def counts(self) -> Counts:
        counts, self.counting = self.counting, None
        assert counts is not None
        return counts


class StreamPhone:
    """Opened with `async with`; closing ends its calls. `base`: http://HOST:PORT of the bridge; without
    `webhook` the address of the stream itself, ws://HOST:PORT/PATH."""

    def __init__(self, base: str, *, webhook: bool = True) -> None:
        self._base, self._webhook = base, webhook
        self._lines: set[StreamLine] = set()
        self._numbers = 0
        self._http: aiohttp.ClientSession | None = None
        self._pacer: Pacer | None = None

    async def __aenter__(self) -> StreamPhone:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._pacer = Pacer(asyncio.get_running_loop(), phases=PHASES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        assert self._pacer is not None
        self._pacer.close()
        for line in list(self._lines):
            line.hang_up()
        await self._http.close()
        await asyncio.sleep(0.1)

    @property
    def skipped(self) -> int:
        """Frames never sent because we stood still."""
        return self._pacer.skipped if self._pacer is not None else 0

    async def dial(self, called: str = CALLED) -> tuple[StreamLine, float]:
        """An open stream, and how many ms it took from the webhook's request to the upgrade's answer.
        ConnectionError or `Refusal` if there is none."""
        assert self._http is not None
        assert self._pacer is not None
        began_ns = time.monotonic_ns()
        call_sid, url, parameters = new_sid("CA"), self._base, {}
        if self._webhook:
            account = Account(TEST_ACCOUNT, TOKEN)
            form = voice_form(account, call_sid, CALLER, called)
            twiml = read_twiml(await post(self._http, account, self._base + "/twilio/voice", form))
            url, parameters = twiml.url, dict(twiml.parameters)
        where = urlsplit(url)
        request = (
            f"GET {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}\r\n"
            f"X-Twilio-Signature: {sign(TOKEN, url)}\r\nUser-Agent: Twilio.TmeWs/1.0\r\n\r\n"
        )
        dialect = TwilioDialect(new_sid("MZ"), call_sid, TEST_ACCOUNT, parameters)
        self._numbers += 1
        line = StreamLine(request.encode(), dialect, self._numbers)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: line, where.hostname or "", where.port or 80)
        await asyncio.wait_for(line.open, OPEN_S)
        took_ms = (time.monotonic_ns() - began_ns) / 1e6
        self._lines.add(line)
        self._pacer.add(line)
        return line, took_ms

    def leave(self, line: StreamLine, *, vanish: bool = False) -> None:
        """End this call: as a carrier does, or with a broken connection."""
        assert self._pacer is not None
        self._pacer.remove(line)
        self._lines.discard(line)
        if vanish:
            line.vanish()
        else:
            line.hang_up()
