"""Asterisk's end of AudioSocket: a second reading of the protocol, from res_audiosocket.c."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import aiohttp
from aiohttp import WSMessage, WSMsgType

from telbridge.audio.formats import PCMU_8K, AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder
from telbridge.caller.streams.dialects import Audio, Message, Order, Told
from telbridge.caller.streams.webhook import WEBHOOK_S, Refusal

KINDS: Final = {
    8_000: 0x10,
    12_000: 0x11,
    16_000: 0x12,
    24_000: 0x13,
    32_000: 0x14,
    44_100: 0x15,
    48_000: 0x16,
}
"""Of linear audio, by rate."""
CONNECT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """`audiosocket://HOST:PORT/UUID?rate=16000&announce=URL`; without `announce` nothing is announced,
    without a UUID one is made up."""

    host: str
    port: int
    uuid: str
    rate_hz: int
    announce: str

    @classmethod
    def of(cls, url: str) -> Wanted:
        """ValueError for what is none."""
        parts, wrong = urlsplit(url), f"{url!r} is no address; expected audiosocket://HOST:PORT/UUID"
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            uuid = str(UUID(parts.path.strip("/"))) if parts.path.strip("/") else str(uuid4())
            rate_hz = int(query.pop("rate", "8000"))
        except ValueError:
            raise ValueError(wrong) from None
        announce = query.pop("announce", "")
        if not parts.hostname or not parts.port or rate_hz not in KINDS or query:
            raise ValueError(wrong)
        return cls(parts.hostname, parts.port, uuid, rate_hz, announce)


async def announce(http: aiohttp.ClientSession, url: str, form: dict[str, str]) -> str:
    """What a dialplan does with CURL(); the UUID. Refusal if there is none."""
    timeout = aiohttp.ClientTimeout(total=WEBHOOK_S)
    async with http.post(url, data=form, timeout=timeout) as answer:
        text = await answer.text()
    try:
        return str(UUID(text))
    except ValueError:
        raise Refusal(f"the announcement was answered {answer.status} {text[:40]!r}") from None


class AudioSocketLink:
    """The TCP connection, in the shape of a WebSocket: a message is a frame. Implements
    `telbridge.caller.streams.call.Link`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.close_code: int | None = None

    @classmethod
    async def connect(cls, host: str, port: int) -> AudioSocketLink:
        """Refusal if nobody listens."""
        try:
            async with asyncio.timeout(CONNECT_S):
                return cls(*await asyncio.open_connection(host, port))
        except (OSError, TimeoutError) as error:
            raise Refusal(str(error) or "connection timed out") from None

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    async def receive(self) -> WSMessage:
        """A frame; CLOSE for the hang-up frame or the end of the connection, ERROR for one that broke."""
        try:
            header = await self._reader.readexactly(3)
            payload = await self._reader.readexactly(int.from_bytes(header[1:], "big"))
        except asyncio.IncompleteReadError:
            self._writer.close()
            return WSMessage(WSMsgType.CLOSE, None, "")
        except ConnectionError as error:
            self._writer.close()
            return WSMessage(WSMsgType.ERROR, error, None)
        if header[0] == 0x00:
            self._writer.close()
            return WSMessage(WSMsgType.CLOSE, None, "hang-up frame")
        return WSMessage(WSMsgType.BINARY, header + payload, None)

    async def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def send_str(self, data: str) -> None:
        raise TypeError("AudioSocket has no text")

    async def close(self) -> bool:
        self._writer.close()
        return True

    def abort(self) -> None:
        self._writer.transport.abort()


class AudioSocketDialect:
    """Implements `telbridge.caller.streams.dialects.Dialect`."""

    def __init__(self, uuid: str, rate_hz: int = 8_000) -> None:
        form = AudioFormat(Encoding.PCM16, rate_hz)
        self._uuid, self._kind = uuid, KINDS[rate_hz]
        self._to_wire, self._from_wire = Transcoder(PCMU_8K, form), Transcoder(form, PCMU_8K)

    def opening(self) -> list[Message]:
        return [_frame(0x01, UUID(self._uuid).bytes)]

    def media(self, payload: bytes) -> Message:
        return _frame(self._kind, self._to_wire.convert(payload))

    def digit(self, digit: str) -> Message:
        return _frame(0x03, digit.encode())

    def mark(self, name: str) -> Message:
        raise AssertionError("AudioSocket has no marks")

    def cleared(self, marks: list[str]) -> list[Message]:
        raise AssertionError("AudioSocket has no clear")

    def stop(self) -> Message | None:
        """Asterisk only closes."""
        return None

    def receive(self, message: Message) -> Order:
        """The channel driver drops audio of another rate than its own; anything else ends the call."""
        assert isinstance(message, bytes)
        kind, payload = message[0], message[3:]
        if kind not in KINDS.values():
            raise ValueError(f"kind {kind:#04x}: Asterisk hangs up")
        if not payload:
            raise ValueError("audio of no length: Asterisk hangs up")
        if kind != self._kind:
            return Told(f"audio of kind {kind:#04x} dropped")
        return Audio(self._from_wire.convert(payload))


def _frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2, "big") + payload
