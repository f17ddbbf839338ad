"""What is kept of a call when it is over; the raw material of its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from telbridge.call.events import CallFacts, Ending, LegQuality
from telbridge.call.journal import Happening
from telbridge.call.playout import PlayoutTotals
from telbridge.call.taping import Recording
from telbridge.call.turns import Turn


@dataclass(slots=True)
class Marks:
    """What a dialplan left for the record."""

    tags: list[str] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)
    """Of each metric, with its labels: `name{label=value}`."""
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class CallerVoice:
    """What came from the caller, by our own meter, in steps of 20 ms."""

    heard_ms: int = 0
    voiced_ms: int = 0
    silent_ms: int = 0
    """Without the least noise: muted, or nothing came."""
    clipped_ms: int = 0
    """With samples at full scale."""


@dataclass(slots=True)
class SessionSetup:
    """How a session came to be, or not. Lengths in ms; None where that point was never reached."""

    agent: str
    asked_ms: float
    """Since the call arrived."""
    connect_ms: float | None = None
    """From there to its open WebSocket."""
    configure_ms: float | None = None
    """From there to the API's acknowledgement."""
    gave_up_ms: float | None = None
    """Another agent was to come and did not: since the call arrived."""


@dataclass(slots=True)
class CallSummary:
    """Durations are ms since the call arrived; None where the point was never reached."""

    facts: CallFacts
    ending: Ending
    detail: str
    duration_ms: float
    answered_ms: float | None
    session_ready_ms: float | None
    turns: list[Turn]
    playout: PlayoutTotals
    """In samples at the leg's rate, which is `rate_hz`."""
    rate_hz: int
    quality: LegQuality | None
    uplink_dropped_ms: int
    dtmf_count: int
    session_losses: int
    """Connections to the agent that broke and were made again."""
    dialplan: str
    dialplan_version: str
    marks: Marks
    frame_ms: int = 20
    """Of the leg."""
    agent: str = ""
    """The agent API that the call began with."""
    first_sound_ms: float | None = None
    """When the caller heard anything for the first time."""
    voice: CallerVoice = field(default_factory=CallerVoice)
    caller_speech: list[tuple[float, float]] = field(default_factory=list)
    agent_speech: list[tuple[float, float]] = field(default_factory=list)
    """Stretches in which that voice was heard, ms since the call arrived."""
    events: list[Happening] = field(default_factory=list)
    events_dropped: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Complaints about the session by kind: bad messages, unknown types, errors."""
    sessions: list[SessionSetup] = field(default_factory=list)
    """In the order in which they were asked for; what is connected again does not count."""
    recording: Recording | None = None
    carrier: Mapping[str, str] = field(default_factory=dict)
    """What the carrier told of the call, by its own names."""
