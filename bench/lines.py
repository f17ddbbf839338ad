"""Many SIP calls on few sockets: the load by telephone.

The signalling is that of our softphone; the audio has a way of its own, since the softphone's (an object a
packet, two sockets a call) would take more of a core than the bridge. Here 25 calls share a socket: what
comes is told apart by its source, and the kernel's time stamps (SO_TIMESTAMPNS) say when it came.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from types import TracebackType
from typing import Final, cast

from sipmessage import URI

from bench.crowd import PHASES, Counts
from bench.pulses import PERIOD_MS, delays_ms, onsets, train
from telbridge.audio.formats import PCMU_8K
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller.dialog import Dialog
from telbridge.caller.handle import CallHandle
from telbridge.caller.media import MediaStream
from telbridge.caller.pacer import Pacer
from telbridge.caller.requests import Local, Peers, hop_of
from telbridge.caller.rtcp import sender_report
from telbridge.caller.rtp import FRAME_SAMPLES, HEADER, Packet
from telbridge.caller.sdp import SessionDescription, codecs_for
from telbridge.caller.transport import UdpLink
from telbridge.caller.wire import Hop, parse

HOST: Final = "127.0.0.1"
A_SOCKET: Final = 25
"""Lines of one socket: a burst of theirs fits into its buffer even where that may not be enlarged."""
BUFFER: Final = 4 << 20
MOST_AT_ONCE: Final = 64
"""Packets that are read before the clock gets its turn."""
RTCP_EVERY: Final = 250
"""Frames: five seconds."""
CYCLE: Final = PERIOD_MS // 20
SILENCE: Final = 0xFF
"""μ-law's zero; what has more of it than this is no sound:"""
SILENT: Final = 150
_SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_TIMESPEC: Final = struct.Struct("@ll")
_EVENTS: Final = 101
_WAVE: Final = pcm16_to_ulaw(train(1))
_FRAMES: Final = [_WAVE[at : at + FRAME_SAMPLES] for at in range(0, len(_WAVE), FRAME_SAMPLES)]
_QUIET: Final = bytes([SILENCE]) * FRAME_SAMPLES
(_ONSET_NS,) = onsets([Packet(0, 0, 0, _FRAMES[0], False, 0, 0)])
"""Of the pulse, inside its first frame."""


class Line:
    """The audio of one call. It stands where a `CallHandle` wants its `MediaStream`."""

    def __init__(self, trunk: Trunk, number: int) -> None:
        self.trunk, self.number = trunk, number
        self.sender = _Codec()
        self.remote: tuple[str, int] | None = None
        self.pulses = True
        """False: the caller says nothing."""
        self.clock: array[int] | None = None
        """Of lines that are to tell of the bridge's clock: arrival and RTP timestamp of each 10th packet."""
        self.counting: Counts | None = None
        self._ssrc, self._sequence = random.getrandbits(32), random.getrandbits(16)
        self._timestamp = random.getrandbits(32)
        self._at = number % CYCLE
        self._expected = -1
        self._loud: list[Packet] = []
        self._pulses_sent: list[int] = []
        self._packets = 0
        self._closed = False

    # --- what CallHandle asks of it

    @property
    def port(self) -> int:
        return self.trunk.port

    def connect(self, ours: SessionDescription, theirs: SessionDescription) -> None:
        if self.remote is not None:
            self.trunk.lines.pop(self.remote, None)
        self.remote = (theirs.address, theirs.port)
        self.trunk.lines[self.remote] = self

    def close(self) -> None:
        """Safe twice."""
        self._closed = True
        if self.remote is not None and self.trunk.lines.get(self.remote) is self:
            del self.trunk.lines[self.remote]

    # --- the pacer's side

    def tick(self, now_ns: int) -> None:
        if self.remote is None or self._closed:
            return
        at = self._at
        self._at = at + 1 if at < CYCLE - 1 else 0
        payload = _FRAMES[at] if self.pulses else _QUIET
        packet = HEADER.pack(0x80, 0, self._sequence, self._timestamp, self._ssrc) + payload
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        at_ns = time.monotonic_ns()
        self.trunk.send(packet, self.remote)
        self._packets += 1
        if (counts := self.counting) is not None and not counts.until_ns:
            counts.ticks.append(at_ns)
            if at == 0 and self.pulses:
                self._pulses_sent.append(at_ns + _ONSET_NS)
        if self._packets % RTCP_EVERY == 0:
            self._report()

    def skip(self, ticks: int) -> None:
        self._timestamp = (self._timestamp + ticks * FRAME_SAMPLES) & 0xFFFFFFFF

    def _report(self) -> None:
        """As a telephone does, though without a word about what it hears."""
        assert self.remote is not None
        report = sender_report(
            ssrc=self._ssrc,
            wall_ns=time.time_ns(),
            timestamp=self._timestamp,
            packets=self._packets,
            octets=self._packets * FRAME_SAMPLES,
            block=None,
            cname=f"line{self.number}@{HOST}",
        )
        self.trunk.send_rtcp(report, (self.remote[0], self.remote[1] + 1))

    # --- the socket's side

    def hear(self, data: bytes, at_ns: int) -> None:
        counts = self.counting
        if counts is None:
            return
        if data[1] & 0x7F == _EVENTS:
            return
        sequence = data[2] << 8 | data[3]
        if self._expected >= 0 and sequence != self._expected and not counts.until_ns:
            ahead = (sequence - self._expected) & 0xFFFF
            counts.lost += ahead if ahead < 0x8000 else 0
        self._expected = (sequence + 1) & 0xFFFF
        counts.arrivals.append(at_ns)
        if data.count(SILENCE, 12) < SILENT:
            self._loud.append(Packet(at_ns, 0, 0, data[12:], False, 0, 0))
        if self.clock is not None and sequence % 10 == 0:
            self.clock.append(at_ns)
            self.clock.append(int.from_bytes(data[4:8], "big"))

    # --- the load's side

    def begin(self, now_ns: int) -> None:
        self.counting = Counts(now_ns)
        self._expected = -1
        self._loud, self._pulses_sent = [], []

    def end(self, now_ns: int) -> None:
        assert self.counting is not None
        self.counting.until_ns = now_ns

    def counts(self) -> Counts:
        counts, self.counting = self.counting, None
        assert counts is not None
        # A pulse of which the half was sent before the end has no echo of its own.
        last_ns = counts.until_ns - 2 * FRAME_SAMPLES * 125_000
        sent = self._pulses_sent[: bisect_right(self._pulses_sent, last_ns)]
        counts.said = len(sent)
        counts.delays_ms = delays_ms(sent, onsets(self._loud))
        return counts

    def sounds(self) -> list[int]:
        """When something else than silence came, since `begin`."""
        return [packet.at_ns for packet in self._loud]


class _Codec:
    """Of a `Line`: always the same."""

    codec = codecs_for([PCMU_8K])[0]


class Trunk:
    """A socket for several lines, and the RTCP socket above it, to which nobody listens."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rtp, self._rtcp = _pair()
        self.port: int = self._rtp.getsockname()[1]
        self.lines: dict[tuple[str, int], Line] = {}
        """By where their audio comes from."""
        self.taken = 0
        self.unsent = 0
        self._loop.add_reader(self._rtp.fileno(), self._readable)

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._rtp.sendto(data, address)
        except OSError:
            self.unsent += 1

    def send_rtcp(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._rtcp.sendto(data, address)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        if self._rtp.fileno() >= 0:
            self._loop.remove_reader(self._rtp.fileno())
            self._rtp.close()
            self._rtcp.close()

    def _readable(self) -> None:
        receive, lines = self._rtp.recvmsg, self.lines
        for _ in range(MOST_AT_ONCE):
            try:
                data, ancillary, _, source = receive(2048, 64)
            except OSError:
                return
            line = lines.get(source)
            if line is not None and line.counting is not None and len(data) > 12:
                line.hear(data, time.monotonic_ns() - _age_ns(ancillary))


def _age_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """How long ago the kernel got it."""
    for _, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS:
            seconds, rest = _TIMESPEC.unpack(data)
            age_ns: int = time.time_ns() - seconds * 1_000_000_000 - rest
            return age_ns if 0 <= age_ns < 1_000_000_000 else 0
    return 0


def _pair() -> tuple[socket.socket, socket.socket]:
    """Even port for RTP, the next for RTCP. Below the ephemeral ports and above what telbridge takes by
    default."""
    for _ in range(200):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            port = random.randrange(30_000, 32_700, 2)
            rtp.bind((HOST, port))
            rtcp.bind((HOST, port + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        rtp.setblocking(False)
        rtcp.setblocking(False)
        rtp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            rtp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except OSError:  # not root: as much as the machine lets us
            rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        return rtp, rtcp
    raise OSError(f"no free pair of UDP ports at {HOST}")


class LinePhone:
    """Opened with `async with`; closing ends its calls."""

    def __init__(self) -> None:
        self._trunks: list[Trunk] = []
        self._calls: dict[str, CallHandle] = {}
        self._numbers = 0
        self._udp: UdpLink | None = None
        self._pacer: Pacer | None = None

    async def __aenter__(self) -> LinePhone:
        self._udp = await UdpLink.open(HOST, 0, self._on_datagram, lambda address: None)
        self._pacer = Pacer(asyncio.get_running_loop(), phases=PHASES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in list(self._calls.values()):
            call.leave()
        assert self._pacer is not None
        assert self._udp is not None
        self._pacer.close()
        self._udp.close()
        for trunk in self._trunks:
            trunk.close()
        await asyncio.sleep(0)

    @property
    def skipped(self) -> int:
        """Frames never sent because we stood still."""
        return self._pacer.skipped if self._pacer is not None else 0

    @property
    def unsent(self) -> int:
        """Packets that the kernel did not take."""
        return sum(trunk.unsent for trunk in self._trunks)

    def dial(self, uri: str, *, pulses: bool = True) -> tuple[CallHandle, Line]:
        """Send an INVITE and wait for nothing."""
        assert self._udp is not None
        udp, target = self._udp, URI.parse(uri)
        address = hop_of(target).address
        line = Line(self._trunk(), self._numbers)
        line.pulses = pulses
        self._numbers += 1
        description = SessionDescription(
            address=HOST, port=line.port, codecs=codecs_for([PCMU_8K]), session_id=random.getrandbits(31)
        )
        local = Local(host=HOST, port=udp.local.port, user=f"line{line.number}")
        peers = Peers.calling(target, local)
        call = CallHandle(
            uri,
            Dialog(peers),
            cast(MediaStream, line),
            description,
            lambda out: udp.send(out.data, out.hop.address if out.hop.port else address),
            None,
        )
        self._calls[peers.call_id] = call
        call.start(self._pacing(line), self._finishing(line, peers.call_id))
        return call, line

    def _trunk(self) -> Trunk:
        for trunk in self._trunks:
            if trunk.taken < A_SOCKET:
                break
        else:
            trunk = Trunk()
            self._trunks.append(trunk)
        trunk.taken += 1
        return trunk

    def _pacing(self, line: Line) -> Callable[[bool], None]:
        def on_media(running: bool) -> None:
            assert self._pacer is not None
            self._pacer.remove(line)
            if running:
                self._pacer.add(line)

        return on_media

    def _finishing(self, line: Line, call_id: str) -> Callable[[], None]:
        def on_finished() -> None:
            if self._calls.pop(call_id, None) is not None:
                line.trunk.taken -= 1

        return on_finished

    def _on_datagram(self, data: bytes, source: Hop) -> None:
        message = parse(data)
        call = self._calls.get(message.call_id)
        if call is not None:
            call.receive(message, source)
