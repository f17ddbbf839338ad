"""What the server side of an agent API is: a facade per session, and the routes that lead to it.

A facade is sans-IO: messages in, brain events out, messages out. `server.py` is the one shell around all of
them. A new API is one facade file and one line in doors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from aiohttp import web

from telbridge.agent.events import BrainEvent, Configured, Misdeed, ReplyId, TurnId


class Wants(Enum):
    """How the brain takes caller audio."""

    SAMPLES = auto()
    """Decoded and checked."""
    BASE64 = auto()
    """As it came, unchecked: the brain only passes it on. A facade of a binary protocol ignores this."""


class Updates(Enum):
    """What becomes of the client's configuration. The real service answers; the others are for tests of a
    client."""

    ANSWER = "answer"
    IGNORE = "ignore"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class FacadeOptions:
    """What the shell tells a new facade."""

    session_id: str
    """A few characters that no other session has; ids of all kinds contain it."""
    wants: Wants
    updates: Updates
    silence_ms: int
    """End-of-turn silence unless the client sets it."""
    now_ns: int
    expires_at_unix_s: int


class Facade(Protocol):
    """One session as its API shows it. All calls return at once and never raise for what a client sends;
    whatever the real service refuses is refused here, in its words and with its codes."""

    # -- the shell's side

    def receive(self, message: str | bytes, *, now_ns: int) -> list[BrainEvent]:
        """One whole WebSocket message, text or binary."""

    def take_messages(self) -> list[str | bytes]:
        """What is to be sent, once; the next call starts empty. bytes go as binary frames."""

    @property
    def waiting_octets(self) -> int:
        """Size of what waits to be sent."""

    @property
    def close_with(self) -> tuple[int, str] | None:
        """Close code and reason, once the session is over by itself: sent behind what waits to be sent."""

    def configured(self, *, by_client: bool) -> Configured | None:
        """The settings as they stand; None while the client has not configured a session that has no
        defaults. Asked once at the start; after that `receive` gives a Configured with each change."""

    def deadline_ns(self) -> int | None:
        """When `time_passed` wants to be called (idle time-outs, keep-alives); asked after each call."""

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]: ...

    def expire(self) -> tuple[int, str]:
        """The longest session is over: queue what the service says then; close code and reason."""

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        """Messages of a broken server of this API, for tests: see `Misdeed`."""

    # -- the brain's side: see `Line`

    def begin_reply(self) -> ReplyId | None: ...
    def audio(self, reply: ReplyId, payload: bytes) -> None: ...
    def audio_text(self, reply: ReplyId, base64_text: str) -> None: ...
    def words(self, reply: ReplyId, text: str) -> None: ...
    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str: ...
    def end_reply(self, reply: ReplyId) -> None: ...
    def is_open(self, reply: ReplyId) -> bool: ...
    def speech_started(self, start_ms: int) -> None: ...
    def speech_stopped(self, end_ms: int) -> TurnId: ...
    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None: ...
    def idle(self, start_ms: int, end_ms: int) -> TurnId: ...


class House(Protocol):
    """What a door finds behind it: the running agent server."""

    @property
    def key(self) -> str | None:
        """The key that clients must show; None: any client is let in."""

    def admits(self, given: str) -> bool:
        """Whether this is the key, compared in constant time; always true where none is asked for."""

    async def converse(
        self, request: web.Request, make: Callable[[FacadeOptions], Facade]
    ) -> web.WebSocketResponse:
        """Upgrade, then the whole session with the facade that `make` gives."""

    async def turn_away(self, request: web.Request, code: int, reason: str) -> web.WebSocketResponse:
        """Upgrade and close at once."""


Door = Callable[[House], Iterable[web.RouteDef]]
"""The routes of one API."""
