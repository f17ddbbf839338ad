"""What a telephone sends: one tick, its RTP packets. Pure.

Speech, digits and pauses stand in one queue; when it is empty, silence is sent: the stream never stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from telbridge.audio.formats import PCM_8K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import pcm16_to_alaw, pcm16_to_ulaw
from telbridge.caller.rtp import FRAME_SAMPLES, DtmfEvent, digit_payloads, pack
from telbridge.caller.sdp import Codec

ENCODERS: Final[dict[AudioFormat, Callable[[bytes], bytes]]] = {
    PCMU_8K: pcm16_to_ulaw,
    PCMA_8K: pcm16_to_alaw,
}


@dataclass(slots=True)
class Played:
    """What became of a queued item; times are of the packets as they were sent, monotonic."""

    first_ns: int | None = None
    """Its first packet; None if it never began."""
    last_ns: int | None = None
    """Its last packet so far."""
    complete: bool = False
    """False while it waits or plays, and for ever if it was cut short."""


@dataclass(slots=True, eq=False)
class Item:
    """Something queued: an iterator of payload groups a tick, for telephone-events or for audio."""

    played: Played
    done: Callable[[Played], None]
    pcm: bytes = b""
    events: Iterator[tuple[DtmfEvent, ...]] | None = None
    timestamp: int | None = None
    """Of the event's first packet; all packets of a digit carry it (RFC 4733 §2.3.5)."""
    _encoded: dict[AudioFormat, bytes] = field(default_factory=dict)
    _at: int = 0

    def next_audio(self, form: AudioFormat) -> bytes:
        """The next frame in this format, filled up with silence; encoded once a format, not once a frame."""
        whole = self._encoded.get(form)
        if whole is None:
            whole = self._encoded[form] = ENCODERS[form](self.pcm)
        frame = whole[self._at : self._at + FRAME_SAMPLES]
        self._at += FRAME_SAMPLES
        missing = FRAME_SAMPLES - len(frame)
        return frame + form.silence(missing) if missing else frame

    @property
    def spoken(self) -> bool:
        return self._at >= len(self.pcm) // PCM_8K.sample_bytes


class RtpSender:
    """One outgoing stream: numbers its packets and empties its queue, 20 ms a tick."""

    def __init__(self, codec: Codec, *, ssrc: int, sequence: int, timestamp: int) -> None:
        self.codec = codec
        self.ssrc = ssrc
        self.event_payload_type: int | None = None
        self.enabled = True
        """False while the stream is on hold: time goes on, nothing is sent, the queue waits."""
        self.packets = 0
        self.octets = 0
        """Payload only (RFC 3550 §6.4.1)."""
        self._sequence = sequence & 0xFFFF
        self.timestamp = timestamp & 0xFFFFFFFF
        """Of the next frame."""
        self._marker = True
        self._queue: deque[Item] = deque()
        self._silence = {form: form.silence(FRAME_SAMPLES) for form in ENCODERS}

    def say(self, pcm: bytes, done: Callable[[Played], None]) -> Played:
        """Queue linear 16-bit 8 kHz audio."""
        return self._enqueue(Item(Played(), done, pcm=pcm))

    def press(self, digit: str, duration_ms: int, done: Callable[[Played], None]) -> Played:
        """Queue a digit as telephone-event. ValueError if it is none, or the peer takes no events."""
        if self.event_payload_type is None:
            raise ValueError("the peer's SDP has no telephone-event (RFC 4733)")
        payloads = list(digit_payloads(digit, duration_ms))
        return self._enqueue(Item(Played(), done, events=iter(payloads)))

    def stop(self) -> None:
        """Drop the queue; what was playing is cut short."""
        dropped, self._queue = self._queue, deque()
        for item in dropped:
            item.done(item.played)

    @property
    def idle(self) -> bool:
        """Nothing but silence to send."""
        return not self._queue

    def tick(self, now_ns: int) -> list[bytes]:
        """The packets of the next 20 ms: one, three at the end of a digit, none on hold."""
        packets: list[bytes] = []
        if self.enabled:
            packets = self._queued(now_ns) if self._queue else [self._audio(self._silence[self.codec.format])]
        self._marker = not self.enabled  # a talk spurt begins after each pause (RFC 3551 §4.1)
        self.timestamp = (self.timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        return packets

    def skip(self, ticks: int) -> None:
        """Time in which nothing could be sent: the timestamp goes on, the sequence does not."""
        self.timestamp = (self.timestamp + ticks * FRAME_SAMPLES) & 0xFFFFFFFF

    def _queued(self, now_ns: int) -> list[bytes]:
        item = self._queue[0]
        if item.played.first_ns is None:
            item.played.first_ns = now_ns
        item.played.last_ns = now_ns
        packets = (
            [self._audio(item.next_audio(self.codec.format))] if item.events is None else self._events(item)
        )
        if item.spoken if item.events is None else packets[-1][13] & 0x80:
            self._queue.popleft()
            item.played.complete = True
            item.done(item.played)
        return packets

    def _events(self, item: Item) -> list[bytes]:
        assert item.events is not None
        first = item.timestamp is None
        if item.timestamp is None:
            item.timestamp = self.timestamp
        payload_type = (
            self.event_payload_type if self.event_payload_type is not None else self.codec.payload_type
        )
        group = next(item.events)
        return [self._packet(payload_type, item.timestamp, bytes(event), marker=first) for event in group]

    def _audio(self, payload: bytes) -> bytes:
        return self._packet(self.codec.payload_type, self.timestamp, payload, marker=self._marker)

    def _packet(self, payload_type: int, timestamp: int, payload: bytes, *, marker: bool) -> bytes:
        packet = pack(payload_type, self._sequence, timestamp, self.ssrc, payload, marker=marker)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.packets += 1
        self.octets += len(payload)
        return packet

    def _enqueue(self, item: Item) -> Played:
        self._queue.append(item)
        return item.played
