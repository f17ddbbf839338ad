"""Many SIP calls on few sockets: the load by telephone.

The signalling is that of our softphone; the audio has a way of its own, since the softphone's (an object a
packet, two sockets a call) would take more of a core than the bridge. Here the calls of one beat, one of ten
instants of each 20 ms, share a socket: they are sent with one call of the kernel, and what comes back is told
apart by its source. The kernel's time stamps say when it came.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from array import array
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, cast

import numpy as np
from sipmessage import URI

from bench.batches import Receiver, Sender
from bench.crowd import PHASES, Counts, Times
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
BUFFER: Final = 4 << 20
RTCP_EVERY: Final = 250
"""Frames: five seconds."""
CYCLE: Final = PERIOD_MS // 20
SILENCE: Final = 0xFF
"""μ-law's zero; a packet with less of other than this is no sound:"""
SOUND: Final = 10
_SILENT_WORD: Final = 0xFFFFFFFF
RTP: Final = HEADER.size
_SO_RCVBUFFORCE: Final = 33
_WAVE: Final = np.frombuffer(pcm16_to_ulaw(train(1)), np.uint8).reshape(CYCLE, FRAME_SAMPLES)
_FRAMES: Final = np.concatenate([_WAVE, np.full((1, FRAME_SAMPLES), SILENCE, np.uint8)])
"""A pulse's cycle, and a frame for who says nothing:"""
_MUTE: Final = CYCLE
(_ONSET_NS,) = onsets([Packet(0, 0, 0, _WAVE[0].tobytes(), False, 0, 0)])
"""Of the pulse, inside its first frame."""


class Line:
    """The audio of one call. It stands where a `CallHandle` wants its `MediaStream`."""

    def __init__(self, beat: Beat, number: int) -> None:
        self.beat, self.number = beat, number
        self.sender = _Codec()
        self.remote: tuple[str, int] | None = None
        self.pulses = True
        """False: the caller says nothing."""
        self.ssrc = random.getrandbits(32)
        self.shift = random.randrange(CYCLE)
        """Not all pulse at once."""
        self.since_ns = self.until_ns = 0
        """Of what is counted."""

    # --- what CallHandle asks of it

    @property
    def port(self) -> int:
        return self.beat.port

    def connect(self, ours: SessionDescription, theirs: SessionDescription) -> None:
        self.remote = (theirs.address, theirs.port)
        self.beat.change()

    def close(self) -> None:
        """Safe twice."""
        self.beat.leave(self)

    # --- the load's side

    def begin(self, now_ns: int) -> None:
        """Keep what comes from now on."""
        assert self.remote is not None
        self.since_ns, self.until_ns = now_ns, 0
        self.beat.keep(self.remote[1])

    def end(self, now_ns: int) -> None:
        self.until_ns = now_ns

    def counts(self) -> Counts:
        """Then nothing is kept any more."""
        counts = Counts(self.since_ns, self.until_ns)
        at_ns, sequences, _ = self._kept()
        counts.arrivals = array("q", at_ns.tobytes())
        counts.lost = _lost(sequences[at_ns < self.until_ns])
        counts.silent = len(at_ns) - len(self.sounds())
        ticks = self.beat.ticks_ns
        counts.ticks = array("q", ticks[(ticks >= self.since_ns) & (ticks < self.until_ns)].tobytes())
        # A pulse of which the half was sent before the end has no echo of its own.
        sent = [at for at in self._pulses_sent() if self.since_ns <= at < self.until_ns - 40_000_000]
        counts.said = len(sent)
        counts.delays_ms = delays_ms(sent, onsets(self.beat.loud_of(self._port, self.since_ns)))
        self.beat.forget(self._port)
        return counts

    def arrivals(self) -> Times:
        """Since `begin`."""
        return self._kept()[0]

    def clock(self) -> tuple[list[int], list[int]]:
        """Arrivals and RTP timestamps since `begin`."""
        at_ns, _, stamps = self._kept()
        return at_ns.tolist(), stamps.tolist()

    def sounds(self) -> list[int]:
        """When something else than silence came, since `begin`."""
        return [packet.at_ns for packet in self.beat.loud_of(self._port, self.since_ns)]

    @property
    def _port(self) -> int:
        assert self.remote is not None
        return self.remote[1]

    def _kept(self) -> tuple[Times, Times, Times]:
        return self.beat.kept_of(self._port, self.since_ns)

    def _pulses_sent(self) -> list[int]:
        """Of those that were heard, sent in the frames that begin a cycle."""
        if not self.pulses:
            return []
        ticks, frames = self.beat.ticks_ns, self.beat.frames
        mine = ticks[(frames + self.shift) % CYCLE == 0]
        return [int(at) + _ONSET_NS for at in mine]


def _lost(sequences: Times) -> int:
    """Packets that are missing between these."""
    steps = np.diff(sequences) & 0xFFFF
    return int((steps[steps < 0x8000] - 1).clip(0).sum())


class _Codec:
    """Of a `Line`: always the same."""

    codec = codecs_for([PCMU_8K])[0]


class Beat:
    """The lines that send at the same instant of each 20 ms, their socket, and what came there. The RTCP
    socket above it is heard by nobody."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rtp, self._rtcp = _pair()
        self.port: int = self._rtp.getsockname()[1]
        self.lines: list[Line] = []
        self.unsent = 0
        self._sending: list[Line] = []
        self._sender: Sender | None = None
        self._sequence = random.getrandbits(16)
        self._timestamp = random.getrandbits(32)
        self._frame = 0
        self._ticks, self._frames = array("q"), array("q")
        self._receiver = Receiver(self._rtp)
        self._wanted = np.zeros(1 << 16, np.bool_)
        """By source port: whose packets are kept."""
        self._kept: list[Times] = []
        """Columns: port, arrival, sequence number, timestamp."""
        self._loud: dict[int, list[Packet]] = {}
        self._loop.add_reader(self._rtp.fileno(), self._readable)

    def change(self) -> None:
        """Who sends has changed, or where to, or what."""
        self._sending = [line for line in self.lines if line.remote is not None]
        self._sender = None
        if not self._sending:
            return
        addresses = [line.remote for line in self._sending if line.remote is not None]
        self._sender = Sender(self._rtp, addresses, RTP + FRAME_SAMPLES)
        self._sender.data[:, 0] = 0x80
        self._sender.data[:, 8:RTP] = [list(line.ssrc.to_bytes(4, "big")) for line in self._sending]
        self._shifts = np.array([line.shift for line in self._sending])
        self._mute = np.array([not line.pulses for line in self._sending])

    def leave(self, line: Line) -> None:
        """Safe twice."""
        if line in self.lines:
            self.lines.remove(line)
            self.change()

    # --- the pacer's side

    def tick(self, now_ns: int) -> None:
        if (sender := self._sender) is None:
            return
        data = sender.data
        data[:, 2:4] = list(self._sequence.to_bytes(2, "big"))
        data[:, 4:8] = list(self._timestamp.to_bytes(4, "big"))
        places = (self._frame + self._shifts) % CYCLE
        places[self._mute] = _MUTE
        data[:, RTP:] = _FRAMES[places]
        self._ticks.append(time.monotonic_ns())
        self._frames.append(self._frame)
        self.unsent += sender.send()
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        self._frame += 1
        if (at := self._frame % RTCP_EVERY) < len(self._sending):
            self._report(self._sending[at])

    def skip(self, ticks: int) -> None:
        self._timestamp = (self._timestamp + ticks * FRAME_SAMPLES) & 0xFFFFFFFF

    def _report(self, line: Line) -> None:
        """As a telephone does, though without a word about what it hears."""
        assert line.remote is not None
        report = sender_report(
            ssrc=line.ssrc,
            wall_ns=time.time_ns(),
            timestamp=self._timestamp,
            packets=self._frame,
            octets=self._frame * FRAME_SAMPLES,
            block=None,
            cname=f"line{line.number}@{HOST}",
        )
        try:
            self._rtcp.sendto(report, (line.remote[0], line.remote[1] + 1))
        except OSError:
            self.unsent += 1

    @property
    def ticks_ns(self) -> Times:
        """When we sent, since the beginning."""
        return np.array(self._ticks, np.int64)

    @property
    def frames(self) -> Times:
        """The number of each."""
        return np.array(self._frames, np.int64)

    # --- the socket's side

    def keep(self, port: int) -> None:
        self._wanted[port] = True

    def forget(self, port: int) -> None:
        self._wanted[port] = False
        self._loud.pop(port, None)
        if not self._wanted.any():
            self._kept.clear()

    def kept_of(self, port: int, since_ns: int) -> tuple[Times, Times, Times]:
        """Arrivals, sequence numbers, timestamps."""
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept)]
        if not self._kept:
            return (np.empty(0, np.int64),) * 3
        rows = self._kept[0]
        mine = rows[(rows[:, 0] == port) & (rows[:, 1] >= since_ns)]
        return mine[:, 1], mine[:, 2], mine[:, 3]

    def loud_of(self, port: int, since_ns: int) -> list[Packet]:
        return [packet for packet in self._loud.get(port, []) if packet.at_ns >= since_ns]

    def close(self) -> None:
        if self._rtp.fileno() >= 0:
            self._loop.remove_reader(self._rtp.fileno())
            self._rtp.close()
            self._rtcp.close()

    def _readable(self) -> None:
        batch = self._receiver.receive()
        if batch is None:
            return
        words = batch.words
        heads = words[:, 0]
        # Octet 1 holds the payload type; keys are events and no sound.
        wanted = self._wanted[batch.ports] & (heads & 0x7F0000 == 0)
        if not wanted.any():
            return
        rows = np.empty((len(words), 4), np.int64)
        rows[:, 0], rows[:, 1] = batch.ports, batch.at_ns
        rows[:, 2] = heads & 0xFFFF
        rows[:, 3] = words[:, 1]
        self._kept.append(rows if wanted.all() else rows[wanted])
        sounding = (words[:, RTP // 4 : (RTP + FRAME_SAMPLES) // 4] != _SILENT_WORD).any(axis=1)
        for at in np.flatnonzero(sounding & wanted).tolist():
            payload = batch.data[at, RTP : RTP + FRAME_SAMPLES].tobytes()
            if payload.count(SILENCE) < FRAME_SAMPLES - SOUND:
                packet = Packet(int(batch.at_ns[at]), 0, 0, payload, False, 0, 0)
                self._loud.setdefault(int(batch.ports[at]), []).append(packet)


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
        try:
            rtp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except OSError:  # not root: as much as the machine lets us
            rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        return rtp, rtcp
    raise OSError(f"no free pair of UDP ports at {HOST}")


class LinePhone:
    """Opened with `async with`; closing ends its calls."""

    def __init__(self) -> None:
        self._beats: list[Beat] = []
        self._calls: dict[str, CallHandle] = {}
        self._numbers = 0
        self._udp: UdpLink | None = None
        self._pacer: Pacer | None = None

    async def __aenter__(self) -> LinePhone:
        self._udp = await UdpLink.open(HOST, 0, self._on_datagram, lambda address: None)
        self._pacer = Pacer(asyncio.get_running_loop(), phases=PHASES)
        self._beats = [Beat() for _ in range(PHASES)]
        for beat in self._beats:
            self._pacer.add(beat)
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
        for beat in self._beats:
            beat.close()
        await asyncio.sleep(0)

    @property
    def skipped(self) -> int:
        """Frames never sent because we stood still."""
        return self._pacer.skipped if self._pacer is not None else 0

    @property
    def unsent(self) -> int:
        """Packets that the kernel did not take."""
        return sum(beat.unsent for beat in self._beats)

    def dial(self, uri: str, *, pulses: bool = True) -> tuple[CallHandle, Line]:
        """Send an INVITE and wait for nothing."""
        assert self._udp is not None
        udp, target = self._udp, URI.parse(uri)
        address = hop_of(target).address
        beat = min(self._beats, key=lambda one: len(one.lines))
        line = Line(beat, self._numbers)
        line.pulses = pulses
        beat.lines.append(line)
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
        call.start(lambda running: None, self._forgetting(peers.call_id))
        return call, line

    def _forgetting(self, call_id: str) -> Callable[[], None]:
        def on_finished() -> None:
            self._calls.pop(call_id, None)

        return on_finished

    def mute(self, lines: Iterable[Line], *, again: bool = False) -> None:
        """These callers say nothing from now on, or speak again."""
        for line in lines:
            line.pulses = again
            line.beat.change()

    def _on_datagram(self, data: bytes, source: Hop) -> None:
        message = parse(data)
        call = self._calls.get(message.call_id)
        if call is not None:
            call.receive(message, source)
