"""The way of a frame through a call: from the leg to the agent in its seat, and back.

It is walked fifty times a second both ways, in plain calls. What decides about a frame is a flag here, set by
whoever learns of it, so that a frame need not ask around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from telbridge.audio.speech import SpeechMeter
from telbridge.call.downlink import Downlink
from telbridge.call.events import AgentAudio, AgentEvent, AgentNews, ReplyId, SessionReady
from telbridge.call.goodbye import Goodbye
from telbridge.call.moments import Moments
from telbridge.call.owed import Owed
from telbridge.call.playout import Heard
from telbridge.call.ports import Leg, Session
from telbridge.call.seat import Seat
from telbridge.call.taping import Taping
from telbridge.call.turns import TurnBook

DOWNLINK_HIGH_MS: Final = 180_000
"""Stop reading the session above this much queued speech: only a broken peer gets there. It lies so high
because `speech started` stands behind the audio in the same socket."""
DOWNLINK_LOW_MS: Final = DOWNLINK_HIGH_MS // 4


class Way:
    """`Media` for the leg, which calls at its own clock; sessions hand their events to `on_event`."""

    on_news: Callable[[Seat, AgentNews], None]
    """Takes every event of the agent in the seat but its audio. Set before anybody sits there."""

    def __init__(
        self,
        leg: Leg,
        downlink: Downlink,
        taping: Taping,
        meter: SpeechMeter,
        turns: TurnBook,
        moments: Moments,
        owed: Owed,
        goodbye: Goodbye,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._leg, self._downlink, self._taping, self._meter = leg, downlink, taping, meter
        self._turns, self._moments, self._owed, self._goodbye = turns, moments, owed, goodbye
        self._utterances, self._playout, self._clock = downlink.utterances, downlink.playout, clock
        self._silence = leg.format.silence(leg.format.rate_hz * leg.frame_ms // 1000)
        self._high_octets = leg.format.bytes_for_ms(DOWNLINK_HIGH_MS)
        self._low_octets = leg.format.bytes_for_ms(DOWNLINK_LOW_MS)
        self.seat: Seat | None = None
        """The agent's: only who sits here is heard."""
        self.heard_from: Final[set[ReplyId]] = set()
        """Replies of which there was audio."""
        self.answered_ns: int | None = None
        self.talking = False
        """The agent hears the line: see `note_talking`."""
        self.held = False
        """The caller holds the line, and hears nothing."""
        self.covered = False
        """The agent must not hear the caller; it goes on to hear silence, for its clock's sake."""
        self.agent_muted = False
        self.paused = False
        """The session is not read: too much is queued."""
        self.more_speech = False
        """See `Media.more_speech`."""
        self.deaf = False
        """Our own last words are being said, or all is over: nothing may stir any more."""

    # ------------------------------------------------------------ up

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        """The caller's audio: to the session, unless nobody listens yet or music on hold plays."""
        if (tape := self._taping.tape) is not None:
            tape.caller(frame, now_ns)
        if self.held:
            return
        meter = self._meter
        if meter.hear(frame, now_ns):
            self._turns.voice_changed()
        if not self.talking:
            return
        seat = self.seat
        assert seat is not None
        if self.covered or self._utterances.protected:
            frame = self._leg.format.silence(self._leg.format.samples_in(len(frame)))
        seat.session.send_audio(seat.up.convert(frame))
        if meter.voiced:
            self._turns.sent_ns = self._clock()

    def note_talking(self) -> None:
        """The lobby was left, or the line answered, or the agent is ready: once all are true, it listens."""
        answered = self.answered_ns is not None
        self.talking = self._downlink.connected and answered and self._moments.ready.done()

    # ------------------------------------------------------------ down

    def downlink(self, now_ns: int) -> bytes | memoryview:
        """The next frame for the caller; speech is kept, not spent, while the caller cannot hear it."""
        if self.held or self.answered_ns is None:
            return self._silence
        frame = self._downlink.pull(now_ns)
        if (tape := self._taping.tape) is not None:
            tape.agent(frame, now_ns)
        if self.paused:
            self._go_on_reading()
        return frame

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> bytes | memoryview | None:
        """For a leg that sends ahead (`Media.speech`)."""
        if self.held or self.answered_ns is None:
            return None
        downlink = self._downlink
        frame = downlink.speech(now_ns, ahead=ahead, standing_ms=standing_ms)
        self.more_speech = downlink.more
        if frame is not None and (tape := self._taping.tape) is not None:
            tape.agent_ahead(frame, now_ns)
        if self.paused:
            self._go_on_reading()
        return frame

    def lagged(self, frames: int, *, just_now: bool) -> None:
        """For a leg that sends ahead (`Media.lagged`)."""
        self._downlink.audible.lagged(frames, just_now=just_now)

    @property
    def has_words(self) -> bool:
        """For a leg that waits for the end of a sentence (`Media.has_words`)."""
        return not self._nobody_hears() and self._downlink.audible.unfinished

    def agent_unheard(self) -> bool:
        """On hold, not answered, or still in the lobby."""
        return self._nobody_hears() or not self._downlink.connected

    def _nobody_hears(self) -> bool:
        return self.held or self.answered_ns is None

    def _go_on_reading(self) -> None:
        if self._playout.queued_octets < self._low_octets and self.seat is not None:
            self.paused = False
            self.seat.session.resume_reading()

    # ------------------------------------------------------------ from the agent

    @property
    def session(self) -> Session | None:
        """The agent, if it can be asked for anything now."""
        return self.seat.session if self.seat is not None and not self.deaf else None

    def on_event(self, seat: Seat, event: AgentEvent) -> None:
        """One event of a session, in order."""
        if seat is self.seat:
            if self.deaf:
                return
            if isinstance(event, AgentAudio):  # The way of every frame.
                self._on_audio(seat, event)
            else:
                self.on_news(seat, event)
        elif isinstance(event, SessionReady):
            seat.arrived(event.at_ns)

    def _on_audio(self, seat: Seat, event: AgentAudio) -> None:
        reply, playout = event.reply, self._playout
        is_news = reply not in self.heard_from
        if is_news:
            self._utterances.began(reply)
        if self.agent_muted:
            self._owed.nothing()
            return
        if reply != seat.reply:
            seat.begin(reply)
        if not playout.append(reply, seat.down.convert(event.audio)):
            return
        if is_news:
            self.heard_from.add(reply)
            self._turns.agent_audio(reply, event.at_ns)
            self._owed.came()
            self._goodbye.wait()
        self._leg.wake()  # Only now: a stream takes it at once, and it has its turn.
        if not self.paused and playout.queued_octets > self._high_octets:
            self.paused = True
            seat.session.pause_reading()

    def complete(self, reply: ReplyId) -> None:
        """Nothing more will come of it."""
        if self.seat is not None and reply == self.seat.reply:
            self._playout.append(reply, self.seat.rest())
        self._downlink.complete(reply)

    def flush(self, at_ns: int, *, cut_by: str = "") -> list[Heard]:
        """Silence; the agent is told what was heard. `cut_by`: who interrupted (`Interruption.by`)."""
        heard = self._downlink.flush(at_ns, cut_by=cut_by)
        if self.seat is not None:
            self.seat.cut()
            if heard:
                self.seat.session.report_heard(heard)
        return heard
