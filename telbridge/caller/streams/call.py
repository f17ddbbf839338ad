"""One call over a media stream, as its carrier holds it: paces, plays, returns marks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

import aiohttp
from aiohttp import WSMsgType

from telbridge.audio.formats import PCM_8K, PCMU_8K
from telbridge.caller.rtp import DIGITS, FRAME_SAMPLES, Histogram, Packet
from telbridge.caller.sender import Item, Played
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Mark, Message, Pressed, Told
from telbridge.caller.streams.player import Player

DIGIT_GAP_MS: Final = 160
OnTrace = Callable[[int, str, str], None]
_SILENCE: Final = PCMU_8K.silence(FRAME_SAMPLES)


class Link(Protocol):
    """A connection, as aiohttp gives WebSockets."""

    @property
    def closed(self) -> bool: ...

    @property
    def close_code(self) -> int | None: ...

    async def receive(self) -> aiohttp.WSMessage: ...

    async def send_str(self, data: str) -> None: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def close(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Cleared:
    """The bridge threw away what was buffered."""

    at_ns: int
    played: int
    """Octets that the caller had heard by then."""
    dropped: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Who closed, and with which code and reason."""

    by: str
    """"us", "peer" or "network"."""
    code: int | None
    reason: str


@dataclass(slots=True)
class StreamFacts:
    """What came, for reports and tests; times are monotonic."""

    opened_ns: int = 0
    ended_ns: int | None = None
    first_audio_ns: int | None = None
    """Arrival of the first audio message."""
    messages: int = 0
    clears: list[Cleared] = field(default_factory=list)
    pressed: str = ""
    """Keys that the bridge pressed."""
    complaints: list[str] = field(default_factory=list)
    """Where the bridge broke the protocol."""


class StreamCall:
    """Implements `telbridge.caller.talk.Talk`; its own `media`. A pacer ticks it every 20 ms.

    Audio is μ-law throughout.
    """

    def __init__(
        self,
        socket: Link,
        dialect: Dialect,
        *,
        abort: Callable[[], None],
        on_trace: OnTrace | None = None,
        keep: bool = True,
    ) -> None:
        self.facts = StreamFacts(opened_ns=time.monotonic_ns())
        self.player = Player()
        self.ended: StreamEnded | None = None
        self.on_packet: list[Callable[[Packet], None]] = []
        self.on_audio: list[Callable[[int, bytes], None]] = []
        """Told of audio when it comes: time and content."""
        self.on_tick: list[Callable[[int], None]] = []
        self.sent: list[Packet] = []
        self.received: list[Packet] = []
        """What the caller heard, 20 ms each, silence too."""
        self.sending_gaps = Histogram()
        self._socket, self._dialect, self._on_trace, self._keep = socket, dialect, on_trace, keep
        self._abort = abort
        self._queue: deque[Item | str] = deque()
        self._pressed: dict[int, tuple[Played, asyncio.Future[Played]]] = {}
        self._ticks = 0
        self._last_tick_ns: int | None = None
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        for message in dialect.opening():
            self._send(message)
        self._reader = asyncio.create_task(self._read(), name="stream call")

    @property
    def media(self) -> StreamCall:
        return self

    # ------------------------------------------------------------ what the caller does

    def play(self, pcm: bytes) -> asyncio.Future[Played]:
        """Queue linear 16-bit 8 kHz audio; done when its last 20 ms have left, or when it is cut short."""
        done: asyncio.Future[Played] = self._loop.create_future()
        if self.ended is not None:
            done.set_result(Played())
        else:
            self._queue.append(Item(Played(), lambda played: _resolve(done, played), pcm=pcm))
        return done

    def dtmf(self, digits: str) -> asyncio.Future[Played]:
        """Press keys, one after the other; done with the gap after the last. ValueError for what is none."""
        if not digits or any(digit.upper() not in DIGITS for digit in digits):
            raise ValueError(f"{digits!r}: DTMF digits are {DIGITS}")
        for digit in digits:
            self._queue.append(digit.upper())
            gap = self.play(PCM_8K.silence(8 * DIGIT_GAP_MS))
        return gap

    async def hang_up(self) -> StreamEnded:
        """Say that it is over, and close. Safe twice."""
        if self.ended is None:
            if (stop := self._dialect.stop()) is not None:
                self._send(stop)
            self._end(StreamEnded("us", None, ""))
            await self._socket.close()
        await asyncio.wait([self._reader])
        assert self.ended is not None
        return self.ended

    def vanish(self) -> None:
        """The network is gone, without a word."""
        self._end(StreamEnded("us", None, "vanished"))
        self._abort()

    async def wait_ended(self) -> StreamEnded:
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    # ------------------------------------------------------------ the clock (caller.pacer.Paced)

    def tick(self, _now_ns: int) -> None:
        """20 ms: send the caller's, play the agent's."""
        if self.ended is not None:
            return
        now_ns = time.monotonic_ns()
        self._speak(now_ns)
        self._listen(now_ns)
        for watch in self.on_tick:
            watch(now_ns)
        self._ticks += 1

    def skip(self, ticks: int) -> None:
        """Time passed in which nothing could be sent: a carrier would have played meanwhile."""
        for _ in range(ticks):
            self._listen(time.monotonic_ns())
            self._ticks += 1

    def _speak(self, now_ns: int) -> None:
        while self._queue and isinstance(self._queue[0], str):
            self._send(self._dialect.digit(str(self._queue.popleft())))
        payload = _SILENCE
        if self._queue:
            item = self._queue[0]
            assert isinstance(item, Item)
            item.played.first_ns = item.played.first_ns or now_ns
            item.played.last_ns = now_ns
            payload = item.next_audio(PCMU_8K)
            if item.spoken:
                self._queue.popleft()
                item.played.complete = True
                item.done(item.played)
        self._send(self._dialect.media(payload))
        if self._last_tick_ns is not None:
            self.sending_gaps.add(now_ns - self._last_tick_ns)
        self._last_tick_ns = now_ns
        if self._keep:
            self.sent.append(self._packet(now_ns, payload))

    def _listen(self, now_ns: int) -> None:
        heard, marks = self.player.play(FRAME_SAMPLES)
        packet = self._packet(now_ns, heard + _SILENCE[len(heard) :])
        for name in marks:
            self._send(self._dialect.mark(name))
        if self._keep:
            self.received.append(packet)
        for watch in self.on_packet:
            watch(packet)

    def _packet(self, at_ns: int, payload: bytes) -> Packet:
        return Packet(at_ns, self._ticks & 0xFFFF, self._ticks * FRAME_SAMPLES, payload, False, 0, 0)

    # ------------------------------------------------------------ the socket

    async def _read(self) -> None:
        socket = self._socket
        while True:
            message = await socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            self.facts.messages += 1
            try:
                self._obey(message.data)
            except (ValueError, TypeError, KeyError, AttributeError) as fault:
                self.facts.complaints.append(str(fault))
                self._trace("!!", str(fault))
        reason = message.extra if message.type is WSMsgType.CLOSE and isinstance(message.extra, str) else ""
        by = "peer" if message.type is WSMsgType.CLOSE else "network"
        self._end(StreamEnded(by, socket.close_code, reason))

    def _obey(self, message: Message) -> None:
        order = self._dialect.receive(message)
        match order:
            case Audio(audio):
                now_ns = time.monotonic_ns()
                if self.facts.first_audio_ns is None:
                    self.facts.first_audio_ns = now_ns
                for hear in self.on_audio:
                    hear(now_ns, audio)
                self.player.add(audio)
            case Mark(name):
                for passed in self.player.mark(name):
                    self._send(self._dialect.mark(passed))
            case Clear():
                counters = self.player.counters
                dropped = self.player.buffered
                self.facts.clears.append(Cleared(time.monotonic_ns(), counters.played, dropped))
                self._trace("<-", f"clear: {dropped // 8} ms thrown away")
                for answer in self._dialect.cleared(self.player.clear()):
                    self._send(answer)
            case Pressed(digits):
                self.facts.pressed += digits
                self._trace("<-", f"keys {digits}")
            case Told(what):
                self._trace("<-", what)
            case _:
                assert_never(order)

    def _send(self, message: Message) -> None:
        """Without awaiting: a telephone's clock does not wait for the network."""
        if self._socket.closed:
            return
        if isinstance(message, str):
            sending = self._socket.send_str(message)
        else:
            sending = self._socket.send_bytes(message)
        try:
            sending.send(None)
        except (StopIteration, ConnectionResetError):
            return
        sending.close()

    def _end(self, ended: StreamEnded) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        self.facts.ended_ns = time.monotonic_ns()
        queued, self._queue = self._queue, deque()
        for item in queued:
            if isinstance(item, Item):
                item.done(item.played)
        self._over.set()

    def _trace(self, direction: str, text: str) -> None:
        if self._on_trace is not None:
            self._on_trace(time.monotonic_ns(), direction, text)


def _resolve(done: asyncio.Future[Played], played: Played) -> None:
    if not done.done():
        done.set_result(played)
