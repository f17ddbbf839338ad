"""What can happen in a call: small frozen facts, one class each.

`AgentEvent` comes from the session (the agent side), `LegEvent` from the leg (the telephone side).
Times are nanoseconds of one monotonic clock, passed in by the shell that received the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, NewType

from telbridge.audio.formats import AudioFormat

ReplyId = NewType("ReplyId", int)
"""One reply of the agent, numbered by the protocol from 1 within its session."""


class Ending(Enum):
    """Why a call or one of its sides ended: a closed set, fit for a metric's label."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_CANCELLED = "caller_cancelled"
    """The caller gave up before the call was answered."""
    AGENT_HUNG_UP = "agent_hung_up"
    AGENT_UNREACHABLE = "agent_unreachable"
    """The session never became ready: refused, timed out, no network."""
    AGENT_REFUSED = "agent_refused"
    """The API refused our credentials or our configuration."""
    AGENT_LOST = "agent_lost"
    """The session broke after it had been ready."""
    MEDIA_TIMEOUT = "media_timeout"
    """No RTP came from the caller for the leg's media time-out."""
    LEG_FAILED = "leg_failed"
    """The telephone side broke: transport error, refused re-INVITE, no codec in common."""
    TRANSFERRED = "transferred"
    """Somebody else took the call over, and it goes on without us."""
    DRAINED = "drained"
    """The worker was asked to stop and the deadline passed."""
    DIALPLAN_HUNG_UP = "dialplan_hung_up"
    """The call's dialplan ended it; the detail is the cause that it gave."""
    NO_DIALPLAN = "no_dialplan"
    """No dialplan wanted it: it was refused."""
    INTERNAL_ERROR = "internal_error"
    """A bug of ours; the log has the traceback."""
    WORKER_DIED = "worker_died"
    """The process that carried the call was killed, or crashed: the supervisor tells so in its place."""


# ---------------------------------------------------------------- agent side


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The API acknowledged the configuration; uplink audio may flow."""

    at_ns: int
    resumed: bool = False
    """The API itself carries on a session whose connection broke."""


class AgentAudio(NamedTuple):
    """Speech of the agent, in the session's downlink format; any length, any speed. Fifty are made a second
    for each call: a frozen dataclass takes twice as long to make."""

    reply: ReplyId
    audio: bytes
    at_ns: int


@dataclass(frozen=True, slots=True)
class ReplyAudioDone:
    """No more audio will come for this reply: its tail may be played out."""

    reply: ReplyId


class ReplyStatus(Enum):
    """How the API says a reply ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """The API is done with a reply. That says nothing of what was heard."""

    reply: ReplyId
    status: ReplyStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CallerStartedSpeaking:
    """The API hears the caller. `interrupts`: whatever is being played must stop now."""

    at_ns: int
    interrupts: bool


@dataclass(frozen=True, slots=True)
class CallerStoppedSpeaking:
    """The API decided that the caller's turn is over."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class CallerTranscript:
    """What the caller said, as the API understood it; may come after the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class AgentTranscript:
    """What a reply has said so far, from its start. More than was heard, if the reply was cut."""

    reply: ReplyId
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent asks for a tool; its result goes back by `tool_call_id`."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the API sent it, not parsed."""


@dataclass(frozen=True, slots=True)
class ToolCallCancelled:
    """The agent no longer wants the result of a tool call: drop it, send nothing."""

    tool_call_id: str


@dataclass(frozen=True, slots=True)
class AgentInterrupted:
    """The API stopped its own reply, whatever it took for an interruption: what is being played must stop
    now. Comes with or without a `CallerStartedSpeaking` before it."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The API took a change of the running session."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """The API did not take a change; the session goes on as it was."""

    code: str
    message: str
    """May hold user data: never logged at info."""


@dataclass(frozen=True, slots=True)
class AgentLatency:
    """Figures that the API tells of one turn."""

    figures_ms: Mapping[str, float]
    """By the vendor's names, such as "total_latency"."""


@dataclass(frozen=True, slots=True)
class AgentWarning:
    """The API warns; the session goes on."""

    code: str
    message: str
    """May hold user data: never logged at info."""


@dataclass(frozen=True, slots=True)
class SessionExpiring:
    """The API will end the session by itself, for its age or for silence."""

    in_s: float
    of_age: bool = False
    """No session lives longer: the connection takes a new one in time, at a quiet moment."""


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The connection broke and is being made again; the caller waits."""

    at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class SessionBack:
    """The session goes on, with the conversation so far."""

    at_ns: int
    resumed: bool
    """True: the API's own resumption; False: a new session that was told what had been said."""


@dataclass(frozen=True, slots=True)
class AgentError:
    """The API complained. The session stays open unless the shell says otherwise."""

    code: str
    message: str
    """May hold user data: never logged at info."""
    at_setup: bool = False
    """The configuration was refused: the call cannot go on with this session."""


@dataclass(frozen=True, slots=True)
class BadMessage:
    """The API broke its contract: not JSON, a missing field, audio of an unknown reply."""

    what: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message type that we do not know; counted, never an error."""

    type: str


ApiNotice = (
    AgentError
    | BadMessage
    | AgentLatency
    | AgentWarning
    | UpdateRefused
    | SessionExpiring
    | SessionUpdated
    | Unknown
)
"""What an API tells of itself, not of the conversation."""
SessionNews = SessionReady | SessionLost | SessionBack | ApiNotice
"""What becomes of the session."""
AgentNews = (
    ReplyAudioDone
    | ReplyDone
    | CallerStartedSpeaking
    | CallerStoppedSpeaking
    | CallerTranscript
    | AgentTranscript
    | ToolCall
    | ToolCallCancelled
    | AgentInterrupted
    | SessionNews
)
"""All but the audio."""
AgentEvent = AgentAudio | AgentNews


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session's run ended."""

    ending: Ending
    detail: str = ""
    """For the log: close code and reason, or the exception's text. No secret."""
    may_reconnect: bool = False
    """A new connection, made now, may carry the conversation on."""


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance of the conversation so far, as the caller knows it."""

    by_caller: bool
    text: str


# ---------------------------------------------------------------- telephone side


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call when it arrives."""

    call_id: str
    """Ours: short, unique, in every log line and record."""
    ingress: str
    """Kind of leg: "sip", later "twilio" …"""
    caller: str
    called: str
    peer: str
    """Address of the peer, host:port."""
    wire_format: AudioFormat
    """What goes over the telephone's wire, as far as the offer tells."""
    signalling_id: str = ""
    """The peer's own id of the call (SIP: Call-ID)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    domain: str = ""
    """Host part of the called address."""
    trunk: str = ""
    """Name of the trunk that the call came over, "" for none."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of a media stream."""


@dataclass(frozen=True, slots=True)
class LegAnswered:
    """The answer was acknowledged and media can flow both ways."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key. `duration_ms` is 0 where the peer does not tell."""

    digit: str
    method: str
    """"rfc4733" | "info" | "inband"."""
    duration_ms: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Held:
    """The peer put us on hold (RFC 3264 §8.4): it takes no audio for now."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The peer took us back from hold."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class LegEnded:
    """The telephone side is over. The last event of a leg, and it always comes."""

    ending: Ending
    at_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TransferRinging:
    """The other side of a transfer rings."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class TransferAnswered:
    """The other side took the call."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """Nobody took the call: the caller is with us as before."""

    status: int
    """SIP status of the refusal, 408 for none in time, 0 where the peer cannot transfer."""
    at_ns: int
    detail: str = ""
    was_away: bool = False
    """Meanwhile the caller did not hear us: what waited for them is stale."""


@dataclass(frozen=True, slots=True)
class DtmfSent:
    """The last key is out."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class DtmfFailed:
    """The peer takes no keys, or is gone."""

    at_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MediaLost:
    """No audio has come from the peer for a while; its media time-out has not passed yet."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class MediaBack:
    """Audio comes again."""

    at_ns: int


LegReport = (
    TransferRinging | TransferAnswered | TransferFailed | DtmfSent | DtmfFailed | MediaLost | MediaBack
)
LegEvent = LegAnswered | Dtmf | Held | Resumed | LegReport | LegEnded


@dataclass(frozen=True, slots=True)
class LegQuality:
    """RTP statistics at the end of a leg (RFC 3550 §6.4); from our point of view."""

    codec: str
    rx_packets: int
    rx_lost: int
    rx_discarded: int
    rx_jitter_ms: float
    tx_packets: int
    tx_lost: int
    tx_jitter_ms: float
    rtt_ms: float | None
    rx_reordered: int = 0
    jitter_buffer_ms: float | None = None
    """How long received audio waited there, on average; None where there is none."""
    drift_ppm: float | None = None
    """Above 0: the peer's clock is faster than ours. None where the call was too short to tell."""
