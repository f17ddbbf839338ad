"""What passes between a facade (one vendor's protocol) and a brain (what is said), in neither's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, NewType, Protocol

from telbridge.audio.formats import AudioFormat

ReplyId = NewType("ReplyId", str)
TurnId = NewType("TurnId", str)


class Misdeed(Enum):
    """What a broken agent may do. The first four are the same with every API, the others are worded by its
    facade (`Facade.wrong`)."""

    CLOSE = "close"
    ABORT = "abort"
    EXPIRE = "expire"
    """The longest session is over."""
    HUGE_AUDIO = "huge_audio"
    """30 s in one message."""
    GARBAGE = "garbage"
    """Half a message of JSON."""
    NOT_AN_OBJECT = "not_an_object"
    """JSON, but a list."""
    UNKNOWN_EVENT = "unknown_event"
    MISSING_FIELDS = "missing_fields"
    """A known message without what it must have."""
    BAD_BASE64 = "bad_base64"
    """Audio that can't be decoded; of a binary protocol: half a sample."""
    STRANGE_AUDIO = "strange_audio"
    """Audio that belongs to no reply, where the API has reply ids."""
    SERVER_ERROR = "server_error"
    """An error event that ends nothing."""


# -- to the brain -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """How the client wants turns cut. None in its place: the client does it itself."""

    threshold: float
    prefix_ms: int
    silence_ms: int
    idle_ms: int | None
    answers: bool
    """A finished turn is answered unasked."""
    interrupts: bool
    """The caller's speech cancels the running reply."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the client offers."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Configured:
    """The session's settings, whenever they change and once at its start."""

    input: AudioFormat
    output: AudioFormat
    instructions: str
    turns: TurnDetection | None
    text_only: bool
    tools: tuple[Tool, ...]
    by_client: bool
    """False for the defaults that the session starts with."""


@dataclass(frozen=True, slots=True)
class AudioIn:
    """Caller audio in the input format."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class AudioText:
    """Caller audio still in the base64 it came in, unchecked: for a brain that only passes it on."""

    base64_text: str


@dataclass(frozen=True, slots=True)
class TextIn:
    """A text put into the conversation; no answer is asked for by this alone."""

    text: str
    role: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a function called by the brain gave back."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class ReplyRequested:
    """The client wants a reply now; `reply` is open already and must be ended."""

    reply: ReplyId
    instructions: str | None
    """In place of the session's, for this reply only."""
    output: AudioFormat
    text_only: bool


@dataclass(frozen=True, slots=True)
class ReplyCancelled:
    """The client stopped a reply; it is closed already."""

    reply: ReplyId


@dataclass(frozen=True, slots=True)
class ReplyTruncated:
    """The client says how much of a reply was heard."""

    reply: ReplyId
    heard_ms: int


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The client ended the caller's turn by hand (no turn detection)."""

    turn: TurnId


@dataclass(frozen=True, slots=True)
class AudioCleared:
    """The client threw away the caller audio that is in no turn yet."""


BrainEvent = (
    Configured
    | AudioIn
    | AudioText
    | TextIn
    | ToolResult
    | ReplyRequested
    | ReplyCancelled
    | ReplyTruncated
    | TurnCommitted
    | AudioCleared
)


# -- from the brain -----------------------------------------------------------------------------------


class Line(Protocol):
    """What a brain may do: speak, tell what it hears, wait. All calls return at once."""

    def begin_reply(self) -> ReplyId | None:
        """Open a reply of the brain's own accord; None while another one is open."""

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        """Speech in the output format. A closed reply takes nothing: the late part of a cancelled one."""

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        """The same, already in base64: passed on untouched."""

    def words(self, reply: ReplyId, text: str) -> None:
        """What is being said, in the order of speaking."""

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        """Call a function of the client's; its id returns in ToolResult."""

    def end_reply(self, reply: ReplyId) -> None: ...

    def is_open(self, reply: ReplyId) -> bool: ...

    def speech_started(self, start_ms: int) -> None:
        """The caller speaks since `start_ms` (ms of caller audio). Closes the open reply if it may."""

    def speech_stopped(self, end_ms: int) -> TurnId:
        """The caller's turn has ended; it becomes an item of the conversation."""

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        """The words of a turn that has ended; empty: nothing that could be understood."""

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        """The caller has been silent for the time-out that the client set; the silence is a turn."""

    def misbehave(self, misdeed: Misdeed) -> None:
        """Send what a broken server would: for tests of a client."""

    def expire(self) -> None:
        """End the session as if its longest time were over."""

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None:
        """Cut the connection without a word."""

    def now_ns(self) -> int: ...

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Run `action` in `delay_ms`, unless the session has ended."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the session; its failure is the session's, its end the session's end."""


class Brain(Protocol):
    """The mind of one session."""

    def receive(self, event: BrainEvent, now_ns: int) -> None: ...
