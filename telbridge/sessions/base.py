"""What every agent API implements: a value machine, messages in, events out, frames out.

A protocol holds no socket, awaits nothing and reads no clock. The shell (`connection.py`) repeats one
rhythm: feed a message, take the events, take the data to send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import AgentEvent, SessionEnd
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """How to open the WebSocket. Headers may hold secrets: never logged, hidden from repr."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class AgentProtocol(Protocol):
    """One session of one agent API (sans-IO).

    Audio of a reply that was cut (`CallerStartedSpeaking(interrupts=True)`) is dropped here, by reply id,
    however late it comes.
    """

    @property
    def uplink_format(self) -> AudioFormat: ...

    @property
    def downlink_format(self) -> AudioFormat: ...

    @property
    def uplink_is_text(self) -> bool:
        """Whether `audio` belongs into text frames (ready-made JSON, already encoded) or binary ones."""

    def connect_request(self) -> ConnectRequest: ...

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        """One whole WebSocket message. Never raises for what the API sends: see `BadMessage`."""

    def audio(self, frame: bytes) -> bytes | None:
        """The message that carries one uplink frame, to be sent at once; None while the session must
        not get audio yet (the shell then drops it: what is said before `SessionReady` is ringing)."""

    def greet(self, greeting: Greeting) -> None: ...

    def send_text(self, text: str, *, respond: bool) -> None: ...

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Positions are in ms from the start of each reply's audio; the protocol splits them over its
        own items and clamps them to what it received."""

    def data_to_send(self) -> list[str | bytes]:
        """Control messages queued so far, str for text frames and bytes for binary ones; handed over
        once, the next call starts empty."""

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        """Judge the end of the WebSocket: close code and reason. None: no close frame came, for the
        connection broke, was never made, or the shell gave up (`reason` says which)."""

    def refused(self, status: int) -> SessionEnd:
        """Judge an HTTP status that came instead of the upgrade."""
