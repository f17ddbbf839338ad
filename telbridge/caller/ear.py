"""When the other side speaks, told from the power of its packets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from telbridge.caller.rtp import FRAME_MS, Packet
from telbridge.caller.timeline import mean_square, power_of

MS: Final = 1_000_000
SPEECH_DBFS: Final = -45.0
"""Louder is speech. Agents speak at -30 to -15 dBFS; G.711's own noise is below -70."""
MIN_SPEECH_MS: Final = 40
"""Shorter is a click."""
RESUME_MS: Final = 200
"""Quiet for so long and loud again: perhaps a new speech. Needed where one comes soon after another was cut
off by an interruption, sooner than the hangover."""
HANGOVER_MS: Final = 700
"""Pauses between words and sentences of a speaker are shorter."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of speech by arrival, monotonic."""

    start_ns: int
    """Arrival of the first loud packet."""
    end_ns: int
    """Arrival of the last loud packet."""

    @property
    def duration_ms(self) -> float:
        return (self.end_ns - self.start_ns) / MS + FRAME_MS


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody speaks; known 40 ms after it began."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """It has been quiet for the hangover."""

    span: Span


SpeechEvent = SpeechStarted | SpeechEnded


class Ear:
    """Spans of speech out of packets and time."""

    def __init__(self, *, level_dbfs: float = SPEECH_DBFS, hangover_ms: int = HANGOVER_MS) -> None:
        self.spans: list[Span] = []
        """Those that have ended."""
        self.started_ns: int | None = None
        """When the present speech began; None while it is quiet."""
        self.last_loud_ns = 0
        self._power = power_of(level_dbfs)
        self._hangover_ns = hangover_ms * MS
        self._candidate_ns: int | None = None
        self._loud_packets = 0
        self.resumes: list[Span] = []
        """Silences of 200 ms and more after which it went on: last loud packet before, first after."""
        self._resuming: Span | None = None

    @property
    def speaking(self) -> bool:
        return self.started_ns is not None

    def started_after(self, at_ns: int) -> int | None:
        """Start of the first speech that began later than this."""
        for span in self.spans:
            if span.start_ns > at_ns:
                return span.start_ns
        return self.started_ns if self.started_ns is not None and self.started_ns > at_ns else None

    def hear(self, packet: Packet) -> list[SpeechEvent]:
        """A packet, in order of arrival."""
        events = self.tick(packet.at_ns)
        if mean_square(packet.payload, packet.payload_type) <= self._power:
            if self.started_ns is None:
                self._candidate_ns = None
            return events
        self._note_resume(packet.at_ns)
        self.last_loud_ns = packet.at_ns
        if self.started_ns is None:
            if self._candidate_ns is None:
                self._candidate_ns, self._loud_packets = packet.at_ns, 0
            self._loud_packets += 1
            if self._loud_packets * FRAME_MS >= MIN_SPEECH_MS:
                self.started_ns, self._candidate_ns = self._candidate_ns, None
                events.append(SpeechStarted(self.started_ns))
        return events

    def silence_before_reply(self, onset_ns: int, end_ns: int) -> Span | None:
        """The silence between an interrupted speech and the reply: of those that ended after our onset, the
        first that ended after our last word, or else the latest."""
        after = [span for span in self.resumes if span.end_ns > onset_ns]
        return next((span for span in after if span.end_ns > end_ns), after[-1] if after else None)

    def _note_resume(self, now_ns: int) -> None:
        if now_ns - self.last_loud_ns >= RESUME_MS * MS:
            self._resuming = Span(self.last_loud_ns, now_ns)
        elif self._resuming is not None:  # a second loud packet: no click
            self.resumes.append(self._resuming)
            self._resuming = None

    def tick(self, now_ns: int) -> list[SpeechEvent]:
        """Time without a packet."""
        if self.started_ns is None or now_ns - self.last_loud_ns < self._hangover_ns:
            return []
        span = Span(self.started_ns, self.last_loud_ns)
        self.spans.append(span)
        self.started_ns = None
        return [SpeechEnded(span)]
