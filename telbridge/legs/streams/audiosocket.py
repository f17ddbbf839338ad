"""AudioSocket over TCP, as Asterisk's application `AudioSocket()` and its channel driver speak it
(res_audiosocket.c; docs.asterisk.org, «AudioSocket»).

A frame is its kind, the length of its payload in two octets, big endian, and the payload. Asterisk opens with
the UUID that the dialplan gave; audio then goes both ways, linear, its kind tells the rate. Asterisk hands on
every frame the moment that it comes, so we are the clock: there is nothing to clear, and nothing is marked.
It may send nothing for long (a caller on mute is not gone), but wants to hear from us.

It hangs up on any kind from us but audio and hang-up, and on audio of no length.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCM_48K, AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder
from telbridge.legs.streams.payload import Malformed, whole_samples
from telbridge.legs.streams.peer import (
    DIGITS,
    Fault,
    Happening,
    Ignored,
    Key,
    Message,
    PeerTraits,
    Started,
    Stopped,
)

HANG_UP, ID, DTMF, ERROR = 0x00, 0x01, 0x03, 0xFF
AUDIO: Final = {
    0x10: PCM_8K,
    0x11: AudioFormat(Encoding.PCM16, 12_000),
    0x12: PCM_16K,
    0x13: PCM_24K,
    0x14: AudioFormat(Encoding.PCM16, 32_000),
    0x15: AudioFormat(Encoding.PCM16, 44_100),
    0x16: PCM_48K,
}
"""By kind. 96 and 192 kHz (0x17, 0x18) are no telephony."""
HEADER: Final = 3
PAUSE_NS: Final = 100_000_000
LEAD_MS: Final = 40
"""Nothing that was sent can be taken back: one frame ahead of what is heard, against our own jitter."""

AUDIOSOCKET: Final = PeerTraits(
    name="audiosocket",
    title="Asterisk AudioSocket",
    formats=tuple(AUDIO.values()),
    messages="frames over TCP",
    authentication="a UUID announced over HTTP, from the networks of `audiosocket.allow`",
    marks=False,
    answers_idle_mark=False,
    clears=False,
    dtmf_in=True,
    dtmf_out="",
    hangs_up="sends the hang-up frame; after `AudioSocket()` Asterisk's dialplan goes on",
    sends_always=False,
)


def framed(kind: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame."""
    return b"".join((bytes((kind,)), len(payload).to_bytes(2, "big"), payload))


class FrameCutter:
    """Cuts what TCP brings into whole frames, their headers included."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, octets: bytes) -> list[bytes]:
        """The frames that these octets complete."""
        kept = self._kept
        kept += octets
        frames: list[bytes] = []
        begin = 0
        while len(kept) - begin >= HEADER:
            end = begin + HEADER + int.from_bytes(kept[begin + 1 : begin + HEADER], "big")
            if end > len(kept):
                break
            frames.append(bytes(kept[begin:end]))
            begin = end
        del kept[:begin]
        return frames


class Compressed:
    """Whether audio that calls itself linear takes twice as long as it says: G.711 or G.722, which the
    channel driver sends as it is where the dial string names no linear codec. Ours is understood even so."""

    def __init__(self) -> None:
        self._frames, self._first_ns, self._last_ns = 0, 0, -PAUSE_NS

    def add(self, frame: bytes, now_ns: int) -> bool:
        """True once, when that has become certain: 20 ms of one octet a sample look like 10 ms of two."""
        if len(frame) != HEADER + 160 or frame[0] != 0x10 or now_ns - self._last_ns > PAUSE_NS:
            self._frames, self._first_ns = 0, now_ns
        self._frames += 1
        self._last_ns = now_ns
        return self._frames == 101 and now_ns - self._first_ns > 1_700_000_000


class AudioSocketPeer:
    """Implements `telbridge.legs.streams.peer.StreamPeer`; a message is a whole frame.

    The rate is known by the first audio, whose 20 ms are lost for that. Where none comes, `assume` one:
    should audio of another rate come later, it is converted, both ways.
    """

    traits: Final = AUDIOSOCKET
    audio_is_text: Final = False
    answers_marks: Final = False
    wants_silence: Final = True
    lost: Final = 0

    def __init__(self) -> None:
        self.uuid = ""
        """In its usual writing; "" until Asterisk has told it."""
        self._kind = -1
        """Of audio, both ways; -1 until it is known."""
        self._format = PCM_8K
        self._up: Transcoder | None = None
        self._down: Transcoder | None = None

    def assume(self, form: AudioFormat) -> Started:
        """Start without having heard anything. ValueError for a format that has no kind."""
        kind = next((kind for kind, known in AUDIO.items() if known == form), None)
        if kind is None or not self.uuid:
            raise ValueError(f"{form} before {self.uuid or 'the UUID'}")
        return self._start(kind)

    def receive(self, message: Message) -> Happening:
        if isinstance(message, str) or len(message) < HEADER:
            return Fault("no frame")
        kind, payload = message[0], message[HEADER:]
        if kind == ID:
            return self._identify(payload)
        if not self.uuid:
            return Fault("no UUID before anything else")
        if kind in AUDIO:
            try:
                return self._audio(kind, whole_samples(payload, AUDIO[kind]))
            except Malformed as fault:
                return Fault(str(fault))
        return self._other(kind, payload)

    def _identify(self, payload: bytes) -> Happening:
        if self.uuid or len(payload) != 16:
            return Fault("UUID twice" if self.uuid else "UUID of another length than 16 octets")
        self.uuid = str(UUID(bytes=payload))
        return Ignored("UUID")

    def _audio(self, kind: int, audio: bytes) -> Happening:
        if self._kind < 0:
            return self._start(kind)
        if kind != self._kind:
            self._turn_to(kind)
        if self._up is not None:
            audio = self._up.convert(audio)
        return audio or Ignored("audio of no length")

    def _other(self, kind: int, payload: bytes) -> Happening:
        match kind:
            case 0x03:
                digit = payload.decode("latin-1")
                return Key(digit) if digit in DIGITS and self._kind >= 0 else Ignored("DTMF")
            case 0x00:
                return Stopped()
            case 0xFF:
                return Fault(f"Asterisk reports error {payload[:8].hex() or 'without a code'}")
            case _:
                return Ignored(f"kind {kind:#04x}")

    def _start(self, kind: int) -> Started:
        self._kind, self._format = kind, AUDIO[kind]
        return Started(self.uuid, self.uuid, "", self._format)

    def _turn_to(self, kind: int) -> None:
        self._kind, form = kind, AUDIO[kind]
        same = form == self._format
        self._up = None if same else Transcoder(form, self._format)
        self._down = None if same else Transcoder(self._format, form)

    def audio(self, frame: bytes | memoryview) -> bytes:
        return framed(self._kind, frame if self._down is None else self._down.convert(frame))

    def greeting(self) -> Message | None:
        return None

    def mark(self, name: str) -> Message | None:
        return None

    def clear(self) -> Message | None:
        return None

    def key(self, digit: str) -> Message | None:
        return None

    def goodbye(self, reason: str) -> Message | None:
        return framed(HANG_UP)
