"""What a call needs of its two sides, and what it gives to a leg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import AgentEvent, CallFacts, LegEvent, LegQuality, SessionEnd
from telbridge.call.playout import Heard
from telbridge.dialplan.vocabulary import Json, NeutralSettings


class Media(Protocol):
    """The call as a leg sees it: one frame up, one frame down, at the leg's clock.

    Both are called on the event loop, must return at once and never raise.
    """

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        """One frame of the caller's audio in the leg's format. The buffer is valid during the call only."""

    def downlink(self, now_ns: int) -> bytes | memoryview:
        """The next frame for the caller, `frame_ms` long, in the leg's format; silence when there is
        nothing to say. Valid until the next `downlink`."""


class Leg(Protocol):
    """The telephone side of one call.

    Order: `attach`, then `ring`, then `answer` or `reject`, then `hang_up`; the last event is always
    `LegEnded`. Every method may be called after the leg ended and then does nothing.
    """

    @property
    def facts(self) -> CallFacts: ...

    @property
    def format(self) -> AudioFormat:
        """What `Media` takes and gives (SIP: linear 8 kHz, pjmedia does the law)."""

    @property
    def frame_ms(self) -> int: ...

    def attach(self, media: Media, on_event: Callable[[LegEvent], None]) -> None:
        """Join the leg to its call; events come on the event loop, never inside one of these methods."""

    def ring(self) -> None:
        """Tell the caller that it rings (180)."""

    def answer(self) -> None:
        """Accept the call (200); `LegAnswered` follows."""

    def reject(self, status: int, *, retry_after_s: int | None = None) -> None:
        """Refuse the call with a SIP status or its nearest equivalent."""

    def hang_up(self) -> None:
        """End an answered or ringing call; `LegEnded` follows."""

    def flush(self) -> None:
        """Throw away what the leg itself or its peer has buffered towards the caller."""

    def quality(self) -> LegQuality | None:
        """RTP statistics, while the leg lives and after its end; None where the leg has none."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """How the agent opens. `verbatim`: say exactly `text`; otherwise `text` tells what to say."""

    text: str
    verbatim: bool = True
    is_default: bool = False
    """Nobody asked for this one: a greeting among the provider's own settings is said in its place. One that
    was asked for replaces it."""


class TextRole(Enum):
    """In whose name a text joins the conversation."""

    CALLER = auto()
    """As if the caller had said it."""
    CONTEXT = auto()
    """For the agent to know; nobody said it."""


class UpdateImpossible(Exception):
    """A change that this agent API cannot take, or not any more; nothing was sent."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why = key, why


class Session(Protocol):
    """The agent side of one call, as the call sees it.

    All but `run` are plain calls that queue and return; they do nothing once the session ended.
    """

    @property
    def uplink_format(self) -> AudioFormat:
        """What `send_audio` takes."""

    @property
    def downlink_format(self) -> AudioFormat:
        """What `AgentAudio.audio` is in."""

    async def run(self, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        """Connect, configure, pump until the end. Events are handed over on the event loop, in order.
        Never raises for a fault of the network or the API: that is the returned `SessionEnd`."""

    def send_audio(self, frame: bytes) -> None:
        """One frame of the caller's audio. Dropped and counted when the network cannot keep up."""

    def greet(self, greeting: Greeting) -> None:
        """How to open; before `run`."""

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        """Put text into the conversation; `respond`: ask for an answer."""

    def say(self, text: str) -> None:
        """Make the agent say exactly this, or as nearly as the API can."""

    def request_reply(self, instructions: str | None = None) -> None:
        """Make the agent speak now; `instructions` hold for this reply only."""

    def interrupt(self) -> None:
        """Stop the reply that the agent is at (a key was pressed, say). The call flushes its playout."""

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool = False) -> None:
        """`output`: text, JSON as a rule. Unknown and cancelled calls are ignored."""

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        """Change the running session: what is set in `neutral`, then `vendor` (the provider's own settings,
        merged). `SessionUpdated` or `UpdateRefused` follows. UpdateImpossible if it cannot be asked."""

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """After a flush: what of each cut reply the caller heard."""

    def pause_reading(self) -> None:
        """Back-pressure: stop reading the socket until `resume_reading`."""

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """Ask for an orderly end; `run` returns soon after, within its own bound."""

    @property
    def uplink_dropped_ms(self) -> int:
        """Caller audio thrown away because the network fell behind."""
