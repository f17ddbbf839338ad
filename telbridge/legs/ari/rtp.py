"""RTP to and from an external-media channel of Asterisk, G.711 (RFC 3550 §5.1, RFC 3551 §6). Pure but for
the UDP socket at its end.

Asterisk has no jitter buffer here, and there is none in front of us: the two are neighbours. What is lost is
filled with silence, so that the agent's clock goes on; what comes late is dropped. Keys come as
telephone-events, too, and are left to ARI.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable
from typing import Final, cast

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.peer import Happening, Ignored, Message, PeerTraits

PAYLOAD_TYPES: Final = {PCMU_8K: 0, PCMA_8K: 8}
LEAD_MS: Final = 40
"""Nothing that was sent can be taken back."""
MOST_FILLED: Final = 10
"""Packets in a row that are filled with silence; a longer gap is none of ours."""
_HEADER: Final = struct.Struct("!BBHII")
_VERSION: Final = 0x80

RTP: Final = PeerTraits(
    name="rtp",
    title="RTP",
    formats=tuple(PAYLOAD_TYPES),
    messages="RTP over UDP",
    authentication="the address that Asterisk names",
    marks=False,
    answers_idle_mark=False,
    clears=False,
    dtmf_in=False,
    dtmf_out="",
    hangs_up="falls silent",
    sends_always=False,
)


def payload_of(packet: bytes) -> tuple[int, int, int, bytes] | None:
    """Payload type, sequence number, SSRC, payload; None for what is no RTP."""
    if len(packet) < _HEADER.size:
        return None
    flags, kind, sequence, _, source = _HEADER.unpack_from(packet)
    if flags & 0xC0 != _VERSION:
        return None
    begin, end = _HEADER.size + 4 * (flags & 0x0F), len(packet)
    if flags & 0x10:  # A header extension.
        if len(packet) < begin + 4:
            return None
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4], "big")
    if flags & 0x20:  # Padding, its length in the last octet.
        end -= packet[-1]
    return (kind & 0x7F, sequence, source, packet[begin:end]) if begin <= end else None


class RtpPeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`; a message is a packet."""

    traits: Final = RTP
    audio_is_text: Final = False
    answers_marks: Final = False
    wants_silence: Final = True

    def __init__(self, form: AudioFormat) -> None:
        """KeyError for a format that has no payload type."""
        self._format, self._payload_type = form, PAYLOAD_TYPES[form]
        self._next: int | None = None
        self._source = -1
        self.lost = 0
        self._sequence, self._timestamp = secrets.randbits(15), secrets.randbits(31)
        self._own_source = secrets.randbits(32)
        self._marker = 0x80
        """On the first packet: a talkspurt begins (RFC 3551 §4.1)."""

    def receive(self, message: Message) -> Happening:
        found = payload_of(message) if isinstance(message, bytes) else None
        if found is None:
            return Ignored("no RTP")
        kind, sequence, source, payload = found
        if source != self._source:
            self._source, self._next = source, sequence
        assert self._next is not None
        missing = (sequence - self._next) & 0xFFFF
        if missing >= 0x8000:
            return Ignored("late packet")
        self._next = (sequence + 1) & 0xFFFF
        self.lost += missing
        if kind != self._payload_type or not payload:
            return Ignored(f"payload type {kind}")
        if 0 < missing <= MOST_FILLED:
            return self._format.silence(self._format.samples_in(len(payload)) * missing) + payload
        return payload

    def audio(self, frame: bytes | memoryview) -> bytes:
        header = _HEADER.pack(
            _VERSION, self._marker | self._payload_type, self._sequence, self._timestamp, self._own_source
        )
        self._marker = 0
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + self._format.samples_in(len(frame))) & 0xFFFFFFFF
        return header + frame

    def greeting(self) -> Message | None:
        return None

    def mark(self, name: str) -> Message | None:
        return None

    def clear(self) -> Message | None:
        return None

    def key(self, digit: str) -> Message | None:
        return None

    def goodbye(self, reason: str) -> Message | None:
        return None


class RtpSocket(asyncio.DatagramProtocol):
    """Implements `telbridge.legs.streams.leg.Wire`: packets of one address go to the leg."""

    def __init__(self, remote: tuple[str, int], clock: Callable[[], int]) -> None:
        self._remote, self._clock = remote, clock
        self.leg: StreamLeg | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self.leg is not None and not self.leg.over and address[:2] == self._remote:
            self.leg.receive(data, self._clock())

    def error_received(self, error: Exception) -> None:
        """ICMP says that nobody listens: ARI tells soon whether the call is over."""

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def framed(self, opcode: int, message: bytes) -> bytes:
        """Packets must not run into each other: each has its length before it, until it is sent."""
        return len(message).to_bytes(2, "big") + message

    def write(self, frames: bytes) -> None:
        begin = 0
        while begin < len(frames) and not self._transport.is_closing():
            end = begin + 2 + int.from_bytes(frames[begin : begin + 2], "big")
            self._transport.sendto(frames[begin + 2 : end], self._remote)
            begin = end

    @property
    def is_stuck(self) -> bool:
        return False

    def close(self, code: int, reason: str) -> None:
        self._transport.close()
