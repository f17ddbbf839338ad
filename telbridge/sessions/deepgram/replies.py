"""What a Deepgram agent says: the API has no ids, so replies are told apart here. Pure.

The late-frame gate follows what others saw live on telephone calls: after UserStartedSpeaking a few binary
frames of the cancelled reply may still come, and AgentAudioDone for it may never come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentTranscript,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
)

LATE_NS: Final = 2_000_000_000
"""A frame of a cancelled reply never comes later than this; without a limit a cough that becomes no turn
would leave the agent dumb."""
IN_FLIGHT_NS: Final = 200_000_000
"""After we made the API stop by speaking ourselves: about what was under way, and less than a new voice
needs to begin."""
_FOREVER: Final = 1 << 63
MOST_FIGURES: Final = 16
_LONGEST_S: Final = 3600
"""What is longer, or no number at all (NaN), is no latency."""


@dataclass(slots=True, repr=False)
class _Reply:
    id: ReplyId
    has_audio: bool = False
    said: list[str] = field(default_factory=list)

    def says(self, text: str) -> AgentTranscript:
        self.said.append(text)
        return AgentTranscript(self.id, " ".join(self.said))


class Replies:
    """The replies of one session, numbered on from `last_id`. At most one is open."""

    def __init__(self, sample_bytes: int, last_id: int = 0) -> None:
        self.last_id = last_id
        self._sample_bytes = sample_bytes
        self._half_sample = b""
        self._open: _Reply | None = None
        self._before: _Reply | None = None
        """The one before, as long as words that come may still be its own."""
        self._dropped: _Reply | None = None
        """Cut by us, and the API is still at it."""
        self._closed_until_ns = 0
        self._muted = False

    @property
    def is_open(self) -> bool:
        """Whether the API is known to be at a reply."""
        return self._open is not None

    def is_gated(self, now_ns: int) -> bool:
        """Whether audio that comes now belongs to a reply that was cut."""
        return self._muted or now_ns < self._closed_until_ns

    def mute_greeting(self) -> None:
        """What the API says first, before anything was asked of it, is not for the caller."""
        self._muted = True

    def audio(self, octets: bytes, now_ns: int) -> list[AgentEvent]:
        """One binary message: whole samples of it."""
        if self.is_gated(now_ns):
            return []
        events, reply = self._running()
        if self._sample_bytes > 1:
            octets = self._half_sample + octets
            whole = len(octets) - len(octets) % self._sample_bytes
            octets, self._half_sample = octets[:whole], octets[whole:]
        if not octets:
            return events
        reply.has_audio = True
        return [*events, AgentAudio(reply.id, octets, now_ns)]

    def says(self, text: str, now_ns: int) -> list[AgentEvent]:
        """Words of the agent: of the reply that is open, of a cut one while its rest is dropped, of one
        just completed if they come behind all its audio; else they begin a reply."""
        if self._muted:
            return []
        before = self._before
        if before is not None and (self.is_gated(now_ns) or (self._open is None and not before.said)):
            return [before.says(text)]
        events, reply = self._running()
        return [*events, reply.says(text)]

    def turn_goes_on(self) -> None:
        """The API is at something new, so what comes now is no rest of a cut reply."""
        self._closed_until_ns = 0
        self._before = None
        self._muted = False

    def audio_done(self) -> list[AgentEvent]:
        """All audio of the reply was sent. One that we cut ourselves ends with it, unheard."""
        if self._open is None:
            self._muted = False
            if self._closed_until_ns == _FOREVER:
                self._closed_until_ns = 0
            return self._end_dropped()
        return self._close(ReplyStatus.COMPLETED)

    def cut_by_caller(self, now_ns: int, *, rest_is_heard: bool) -> list[AgentEvent]:
        """The API stopped its reply, also one that we had cut before. `rest_is_heard`: what came of it is
        played all the same."""
        if self._open is None:
            until_ns = _FOREVER if self._muted else self._closed_until_ns
            self._muted = False
            self._closed_until_ns = min(until_ns, now_ns + LATE_NS)
            return self._end_dropped()
        self._closed_until_ns = now_ns + LATE_NS
        return self._close(ReplyStatus.CANCELLED, tail=rest_is_heard)

    def cut_by_us(self) -> None:
        """The API goes on with its reply, and we drop it until it is over."""
        if self._open is not None:
            self._before = self._dropped = self._open
            self._open = None
            self._closed_until_ns = _FOREVER

    def spoken_over(self, now_ns: int) -> None:
        """The API was told to say something else at once: only what is in flight is still dropped."""
        until_ns = _FOREVER if self._muted else self._closed_until_ns
        self._muted = False
        self._closed_until_ns = min(until_ns, now_ns + IN_FLIGHT_NS)

    def _end_dropped(self) -> list[AgentEvent]:
        """The API is done with the reply that we cut, or at another one."""
        dropped, self._dropped = self._dropped, None
        return [] if dropped is None else [ReplyDone(dropped.id, ReplyStatus.CANCELLED)]

    def _running(self) -> tuple[list[AgentEvent], _Reply]:
        events: list[AgentEvent] = []
        if self._open is None:
            events = self._end_dropped()
            self.last_id += 1
            self._open = _Reply(ReplyId(self.last_id))
            self._before = None
            self._half_sample = b""
        return events, self._open

    def _close(self, status: ReplyStatus, *, tail: bool = True) -> list[AgentEvent]:
        reply, self._open = self._open, None
        assert reply is not None
        self._before = reply
        done = ReplyDone(reply.id, status)
        whole = tail and reply.has_audio
        return [ReplyAudioDone(reply.id), done] if whole else [done]


class TurnFigures:
    """Latency figures of one turn. The API sends them one by one, and `stt_latency` again and again."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {}
        self._answered = False

    def add(self, fields: Mapping[str, object]) -> None:
        """Every `…_latency` of a message, in seconds; what is no number is left out."""
        for name, seconds in fields.items():
            if not isinstance(seconds, int | float) or isinstance(seconds, bool):
                continue
            if not name.endswith("_latency") or not 0 <= seconds < _LONGEST_S:
                continue
            if name in self._ms or len(self._ms) < MOST_FIGURES:
                self._ms[name[:64]] = seconds * 1000.0

    def answer_sent(self) -> None:
        """The turn's audio is complete; figures still missing may follow it."""
        self._answered = True

    def complete(self) -> dict[str, float]:
        """The turn's figures once its answer was sent and their sum is known; else nothing yet."""
        return self.take() if self._answered and "total_latency" in self._ms else {}

    def take(self) -> dict[str, float]:
        """What there is; recognition alone, which needs no answer, is no turn. Starts afresh."""
        figures, self._ms, self._answered = self._ms, {}, False
        return figures if figures.keys() - {"stt_latency"} else {}
