"""What a call needs of its two sides, and what it gives to a leg."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol, runtime_checkable

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import AgentEvent, CallFacts, LegEvent, LegQuality, Said, SessionEnd
from telbridge.call.playout import Heard
from telbridge.dialplan.orders import CallHttp, CallPython, CallWebhook
from telbridge.dialplan.plan import Wanted
from telbridge.dialplan.vocabulary import Json, NeutralSettings


class Media(Protocol):
    """The call as a leg sees it: one frame up, one frame down, at the leg's clock.

    Both are called on the event loop, must return at once and never raise.
    """

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        """Some of the caller's audio in the leg's format: one frame, or what a carrier put into one message.
        The buffer is valid during the call only."""

    def downlink(self, now_ns: int) -> bytes | memoryview:
        """The next frame for the caller, `frame_ms` long, in the leg's format; silence when there is
        nothing to say. Valid until the next `downlink`."""

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> bytes | memoryview | None:
        """The same for a leg that is not owed a frame each tick: None in place of silence. `ahead`: the frame
        before has not been played yet, so nothing is taken that may still grow. `standing_ms`: so much of
        what was taken is still to be heard: a delay may be given back out of it. Negative: for so long
        nothing has been, besides the frames for which None was given."""

    @property
    def more_speech(self) -> bool:
        """Whether `speech` may give another frame at once after the last one; False: it would be in vain."""

    def lagged(self, frames: int, *, just_now: bool) -> None:
        """So many frames of silence stood inside the speech that nobody pulled: the leg stood still, until
        `just_now`, or its network did."""

    @property
    def has_words(self) -> bool:
        """Whether speech, not music, waits to be heard."""


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

    def transfer(self, target: str, *, timeout_s: float) -> None:
        """Send the caller to somebody else (SIP: blind REFER). One `TransferRinging` may follow, then always
        `TransferAnswered` (the leg's end follows soon) or `TransferFailed` (the caller is back with us)."""

    def send_dtmf(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Press keys towards the peer; `,` is half a second of pause. `DtmfSent` or `DtmfFailed` follows."""

    def wake(self) -> None:
        """Speech was queued: a leg that sends ahead of its clock may take it at once."""

    def flush(self) -> int:
        """Throw away what the leg itself or its peer has buffered towards the caller. Returns how many ms of
        the frames taken last were not played; 0 where a frame leaves when it is taken."""

    def tell(self, event: str, facts: Mapping[str, str | int | bool]) -> None:
        """What happens in the conversation, for a peer that asked to be told (docs/media-streams.md, Events);
        nothing where there is nobody to tell. The only way by which words leave on a leg."""

    def quality(self) -> LegQuality | None:
        """RTP statistics, while the leg lives and after its end; None where the leg has none."""


@runtime_checkable
class TakesTags(Protocol):
    """A leg whose peer keeps what a dialplan notes of the call."""

    def tag(self, text: str) -> None: ...


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

    @property
    def connected_ns(self) -> int | None:
        """When the present connection was open; None before."""

    @property
    def said(self) -> Sequence[Said]:
        """The conversation so far, as far as the API told."""

    @property
    def says_exactly(self) -> bool:
        """Whether `say` is to be had at all."""


class SessionImpossible(Exception):
    """No such session can be made; one line that tells why, without secrets."""


class Agents(Protocol):
    """Makes the sessions of one call."""

    def open(self, wanted: Wanted, *, said: Sequence[Said] = (), replies_from: int = 0) -> Session:
        """A session, not connected yet, with what is wanted of it over the settings. `said`: it takes over
        this conversation. `replies_from`: its reply ids lie above. SessionImpossible."""


class OutsideFailed(Exception):
    """Something outside the call did not work; one line without secrets."""


class Outside(Protocol):
    """What a dialplan asks of the world outside the call. All may raise OutsideFailed, and take no longer
    than their order says."""

    async def webhook(self, order: CallWebhook) -> Any:
        """POST it, signed, with its retries; the JSON of the answer."""

    async def http(self, order: CallHttp) -> Any:
        """A tool's request; the answer, JSON or text."""

    async def python(self, order: CallPython) -> Any:
        """Call a tool's entry point, off the event loop where it is not a coroutine function."""

    async def speech(self, text: str) -> bytes:
        """Synthesised by ourselves, in the leg's format."""

    def recording(self, file: str) -> bytes:
        """A WAV file as the dialplan names it, in the leg's format. It was read when the dialplan was."""

    def music(self) -> bytes:
        """Our own music on hold, in the leg's format; it is played in a loop."""
