"""What a media-stream peer is to a leg: messages in, happenings out, messages for it.

One file a peer. A peer holds no socket and reads no clock; leg (`leg.py`) and door (`door.py`) are the same
for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from telbridge.audio.formats import AudioFormat

MAX_MESSAGE_OCTETS: Final = 64 * 1024
"""Larger messages end the stream: 20 ms of the widest format have 2 kB in base64."""
DIGITS: Final = frozenset("0123456789*#ABCD")

Message = str | bytes
"""A WebSocket message: text, or binary."""


@dataclass(frozen=True, slots=True)
class Started:
    """The peer told what the stream is. Comes once, and before any audio."""

    stream_id: str
    call_id: str
    """The peer's own id of the call; "" where it has none."""
    account: str
    format: AudioFormat
    """Of both directions."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the webhook, or the peer itself, said of the call."""


Audio = bytes
"""The caller's audio, whole samples in the format of `Started`; any length. Plain bytes: one each 20 ms."""


@dataclass(frozen=True, slots=True)
class Key:
    """A DTMF key. `duration_ms` is 0 where the peer does not tell."""

    digit: str
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """A mark of ours came back: what was sent before it has been played, or thrown away by a clear."""

    name: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """The peer has obeyed a clear of ours."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The peer's queue is full, or takes audio again."""

    stopped: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The peer says that the stream is over."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The peer broke its contract: the stream is closed with this reason, a short one without its data."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that says nothing to us; counted."""

    kind: str


@dataclass(frozen=True, slots=True)
class Complained:
    """The peer could not use what we sent, in its own words; logged as a warning."""

    what: str


Happening = Started | Audio | Key | MarkPlayed | Cleared | Flow | Stopped | Fault | Ignored | Complained


@dataclass(frozen=True, slots=True)
class PeerTraits:
    """What a kind of peer can do; docs/media-streams.md has a table made of these."""

    name: str
    """Of the leg kind: `CallFacts.ingress`, metrics' labels."""
    title: str
    formats: tuple[AudioFormat, ...]
    messages: str
    """How audio goes over the socket."""
    authentication: str
    marks: bool
    """Marks come back once what stands before them was played."""
    answers_idle_mark: bool
    """A mark before which nothing waits comes back at once: that tells the round trip."""
    clears: bool
    """What it has buffered can be thrown away."""
    dtmf_in: bool
    dtmf_out: str
    """How keys are pressed towards the caller; "" if they cannot be."""
    hangs_up: str
    """What our hanging up does."""
    transfers: str = ""
    """How the caller is sent to somebody else; "" if not."""
    answers_clear: bool = False
    """`Cleared` comes back: that tells the round trip too."""
    sends_always: bool = True
    """Audio comes in silence too: who sends none for long is gone."""


class StreamPeer(Protocol):
    """One stream of one peer (sans-IO). Nothing here raises for what the peer sends: see `Fault`."""

    @property
    def traits(self) -> PeerTraits: ...

    @property
    def audio_is_text(self) -> bool:
        """Whether `audio` belongs into text messages or binary ones; known once `Started`."""

    @property
    def answers_marks(self) -> bool:
        """Whether marks come back; known once `Started`."""

    @property
    def wants_silence(self) -> bool:
        """Whether audio has to flow when there is nothing to say; known once `Started`."""

    @property
    def lost(self) -> int:
        """Messages that the peer says it sent and that never came; 0 where it does not number them."""

    def receive(self, message: Message) -> Happening:
        """One whole message."""

    def audio(self, frame: bytes | memoryview) -> bytes:
        """The message that carries one frame, encoded."""

    def greeting(self) -> Message | None:
        """What the peer wants to hear after `Started`."""

    def mark(self, name: str) -> Message | None:
        """To come back as `MarkPlayed`."""

    def clear(self) -> Message | None:
        """Throw away what is buffered."""

    def key(self, digit: str) -> Message | None:
        """Press a key towards the caller; None if this peer cannot (`PeerTraits.dtmf_out`)."""

    def goodbye(self, reason: str) -> Message | None:
        """Before the socket is closed by us."""


@runtime_checkable
class Curious(Protocol):
    """A peer that may want to know how the conversation goes."""

    def event(self, event: str, facts: Mapping[str, str | int | bool]) -> Message | None:
        """What it is told of an event; None if it did not ask."""


@runtime_checkable
class Answering(Protocol):
    """What a peer has besides whose calls are not answered before we say so."""

    def answer(self) -> Message:
        """The call is answered."""
