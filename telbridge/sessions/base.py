"""What every agent API implements: a value machine, messages in, events out, frames out.

A protocol holds no socket, awaits nothing and reads no clock. The shell (`connection.py`) repeats one
rhythm: feed a message, take the events, take the data to send. docs/adding-a-provider.md walks through one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import AgentEvent, Said, SessionEnd
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """How to open the WebSocket. Headers and query may hold secrets: never logged, hidden from repr."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Pace:
    """A vendor's limit of requests in a time, kept by all sessions of this process together."""

    name: str
    """No secret."""
    every_s: float


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What some APIs want before the WebSocket (a token, a session) or after it."""

    method: Literal["GET", "POST", "DELETE"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Json | None = field(default=None, repr=False)
    after_s: float = 0.0
    """Wait so long first (Retry-After)."""
    pace: Pace | None = None
    """It takes its turn among all requests of this name."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a protocol is told of its call."""

    call_id: str
    wire_format: AudioFormat
    """The leg's format on the telephone's wire, for its law."""
    environ: Mapping[str, str] = field(repr=False)
    """Where secrets are looked up (`SecretRef`)."""
    unix_s: Callable[[], float] = time.time
    """The wall clock, for ends that an API names by it."""

    def lifetime_s(self, expires_at: object, longest_s: float) -> float:
        """How long a session lives that was told now to end at `expires_at`, in Unix seconds; `longest_s`,
        which the vendor's pages promise, where that cannot be true: one of the two clocks is wrong."""
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
            return longest_s
        left_s = expires_at - self.unix_s()
        return left_s if 0 < left_s <= longest_s else longest_s


class AgentProtocol(Protocol):
    """One session of one agent API over one WebSocket (sans-IO).

    Order: `greet` at most once; then `next_step` until it is a ConnectRequest; `connected`; `receive` …;
    `closed` or `refused`. Whatever is asked before the session is ready is kept and sent when it is.
    Audio of a reply that was cut (`CallerStartedSpeaking(interrupts=True)`, `AgentInterrupted`, `interrupt`)
    is dropped here, by the API's reply id where it has one, however late it comes.
    Nothing here raises for what the API sends: see `BadMessage`.
    """

    @property
    def uplink_format(self) -> AudioFormat: ...

    @property
    def downlink_format(self) -> AudioFormat: ...

    @property
    def uplink_is_text(self) -> bool:
        """Whether `audio` belongs into text frames (ready-made JSON, already encoded) or binary ones."""

    # -- opening

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        """What to do next to get a WebSocket; asked again after each `http_answered`."""

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        """The answer to the HttpRequest of the last `next_step`; `status` None: none came."""

    def connected(self, *, now_ns: int) -> None:
        """The WebSocket is open; an API that wants the client to speak first gets its message queued."""

    # -- what the call asks; all but `audio` queue control messages

    def audio(self, frame: bytes) -> bytes | None:
        """The message that carries one uplink frame, to be sent at once; None while the session must
        not get audio yet (the shell then drops it: what is said before `SessionReady` is ringing)."""

    def greet(self, greeting: Greeting) -> None: ...

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None: ...

    def say(self, text: str) -> None: ...

    def request_reply(self, instructions: str | None) -> None: ...

    def interrupt(self) -> None:
        """Cut the running reply, at the API too where it can be told. No event follows for it."""

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None: ...

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        """See `Session.update`. UpdateImpossible before anything is queued."""

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Positions are in samples from the start of each reply's audio; the protocol splits them over its
        own items and clamps them to what it received. Nothing for an API that takes none."""

    # -- the rhythm

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        """One whole WebSocket message."""

    def data_to_send(self) -> list[str | bytes]:
        """Control messages queued so far, str for text frames and bytes for binary ones; handed over
        once, the next call starts empty."""

    def deadline_ns(self) -> int | None:
        """When `time_passed` wants to be called next; asked after every other call."""

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]: ...

    # -- the end

    def say_goodbye(self) -> bool:
        """Queue the API's own farewell, if it has one; True if the API then answers and closes by itself."""

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        """Judge the end of the WebSocket: close code and reason. None: no close frame came, for the
        connection broke, was never made, or the shell gave up (`reason` says which)."""

    def refused(self, status: int) -> SessionEnd:
        """Judge an HTTP status that came instead of the upgrade."""

    def afterword(self) -> HttpRequest | None:
        """What is still to be told the API over HTTP once the WebSocket is closed."""

    def successor(self, said: Sequence[Said]) -> AgentProtocol | None:
        """A protocol for the next connection after this one broke: the API's own resumption, or a new
        session with the settings as they stand by now and what was said so far, without a greeting.
        Its reply ids go on where this one's ended. None if neither is possible."""


class ProtocolDefaults:
    """For the many APIs that need none of these."""

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        raise AssertionError("no HTTP request was asked for")

    def connected(self, *, now_ns: int) -> None:
        """The API speaks first."""

    def deadline_ns(self) -> int | None:
        return None

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        return []

    def say_goodbye(self) -> bool:
        return False

    def afterword(self) -> HttpRequest | None:
        return None
