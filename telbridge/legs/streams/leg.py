"""One media stream as the call's telephone side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol, assert_never

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    CallFacts,
    Dtmf,
    Ending,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegQuality,
    TransferFailed,
)
from telbridge.call.ports import Media
from telbridge.legs.streams.intake import Intake
from telbridge.legs.streams.keys_out import KeysOut
from telbridge.legs.streams.lead import Lead
from telbridge.legs.streams.peer import (
    Answering,
    Cleared,
    Complained,
    Curious,
    Fault,
    Flow,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    Started,
    Stopped,
    StreamPeer,
)
from telbridge.legs.streams.socket import BINARY, TEXT
from telbridge.legs.streams.transfer import CallControl, Transfer, Wish, destination, nothing_told

FRAME_MS: Final = 20
MS: Final = 1_000_000
FRAME_NS: Final = FRAME_MS * MS
PARTING_NS: Final = 1_000_000_000
"""On top of the lead: for what stands at the carrier to be played before we close."""
STALLED_FRAMES: Final = 2
"""Less is jitter."""
JITTER_NS: Final = STALLED_FRAMES * FRAME_NS
PAUSE_NS: Final = 500_000_000
"""Before a transfer, an agent that sends no more of its reply for so long is taken to have finished: some end
it only with the answer to the tool call that asked for the transfer."""
AWAY_NS: Final = 100_000_000
"""Silence that the agent gets at a time after a stall, while its caller is with somebody else."""
BAD_TARGET: Final = 400
NORMAL, POLICY, BUG = 1000, 1008, 1011
"""Close codes (RFC 6455 §7.4.1)."""


class Wire(Protocol):
    """The socket, as a leg sees it (`socket.py`)."""

    def framed(self, opcode: int, message: bytes) -> bytes:
        """A message as it is written."""

    def write(self, frames: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    @property
    def is_stuck(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What the door gives to a new leg."""

    facts: CallFacts
    format: AudioFormat
    peer: StreamPeer
    """Has said `Started`."""
    wire: Wire
    clock: Callable[[], int]
    log: Any
    lead_ms: int
    media_timeout_s: float
    on_over: Callable[[StreamLeg], None]
    """The leg has ended, whatever its socket still does."""
    control: CallControl | None = None


class _State(Enum):
    ARRIVED = auto()
    TALKING = auto()
    PARTING = auto()
    """We hung up; what stands at the carrier is still being played."""
    AWAY = auto()
    """A transfer: there is no stream, and the call goes on."""
    OVER = auto()
    """LegEnded is out."""


class StreamLeg:
    """Implements `telbridge.call.ports.Leg`; driven by its door (messages) and by the clock (ticks).

    Speech is taken from the call as soon as it is there, up to the lead. Only when the carrier has run dry
    does the call learn, tick by tick, that time passes in silence; that is sent to a peer that wants it.
    """

    def __init__(self, parts: StreamParts) -> None:
        self.facts: CallFacts = parts.facts
        self._format, self._peer, self._wire = parts.format, parts.peer, parts.wire
        self._clock, self._log = parts.clock, parts.log
        self._control, self._on_over = parts.control, parts.on_over
        self._transfer = Transfer()
        self._loop = asyncio.get_running_loop()
        self._end_told = False
        """The peer knows why, or will not be told."""
        self._curious = parts.peer if isinstance(parts.peer, Curious) else None
        self._opcode = TEXT if parts.peer.audio_is_text else BINARY
        self._lead_ms = parts.lead_ms
        self._lead = Lead(parts.lead_ms, marks=parts.peer.answers_marks)
        self._media_timeout_s = parts.media_timeout_s if parts.peer.traits.sends_always else None
        self._intake = Intake(parts.format, parts.clock(), self._media_timeout_s)
        self._state = _State.ARRIVED
        self._media: Media | None = None
        self._on_event: Callable[[LegEvent], None] | None = None
        self._early_events: list[LegEvent] = []
        self._silence = parts.format.silence(parts.format.rate_hz * FRAME_MS // 1000)
        # It counts as answered already; where we are still to say so, silence would end its ringing.
        self._silence_early = parts.peer.wants_silence and not isinstance(parts.peer, Answering)
        self._silent_ns = 0
        """Silence sent since the last speech."""
        # Half a frame before it is dry, ticks being late by less: an unbroken stream.
        self._patience_ns = -FRAME_NS // 2 if parts.peer.wants_silence else FRAME_NS
        self._rests_until_ns = 0
        """The carrier holds speech until then and no more of it waits: no tick has anything to send."""
        self._parting_until_ns = 0
        self._sent_frames = self._rx_messages = self._rx_lost = 0
        """The last two: of streams before the present one."""
        self._dry_frames = self._late_frames = 0
        """Of silence inside speech, as far as the call knows: at a dry carrier, at one that plays late."""
        self._all_marked = False
        """Before a transfer: a mark stands behind the last words."""
        self._silent_until_ns = 0
        self._next_check_ns = 0
        self._ending: tuple[Ending, str] = (Ending.AGENT_HUNG_UP, "")
        self._keys = KeysOut(parts.peer.key, self._say, self._emit, parts.clock)

    # ---------------------------------------------------------------- call.ports.Leg

    @property
    def format(self) -> AudioFormat:
        return self._format

    @property
    def frame_ms(self) -> int:
        return FRAME_MS

    def attach(self, media: Media, on_event: Callable[[LegEvent], None]) -> None:
        self._media, self._on_event = media, on_event
        for event in self._early_events:
            self._loop.call_soon(on_event, event)
        self._early_events.clear()

    def ring(self) -> None:
        """The carrier has answered by itself."""

    def answer(self) -> None:
        if self._state is not _State.ARRIVED:
            return
        self._state = _State.TALKING
        now_ns = self._clock()
        if isinstance(self._peer, Answering):
            self._say(self._peer.answer())
        if self._peer.traits.answers_idle_mark:
            self._mark(now_ns)
        elif self._peer.traits.answers_clear:
            self._clear(now_ns)
        self._emit(LegAnswered(now_ns))

    def reject(self, status: int, *, retry_after_s: int | None = None) -> None:
        self.end(Ending.AGENT_HUNG_UP, f"refused with {status}")

    def transfer(self, target: str, *, timeout_s: float) -> None:
        """By the carrier, once the stream is closed; the caller then hears the carrier, not us. Where nobody
        takes the call, it comes back by another stream."""
        now_ns = self._clock()
        if self._control is None or self._state is not _State.TALKING:
            why = "the call is not answered" if self._control else "streams of this peer cannot transfer"
            self._emit(TransferFailed(0, now_ns, why))
            return
        try:
            wish = Wish(destination(target), timeout_s)
        except ValueError as error:
            self._emit(TransferFailed(BAD_TARGET, now_ns, str(error)))
            return
        self._all_marked = False
        self._rests_until_ns = 0
        self._transfer.begin(wish, now_ns)

    def send_dtmf(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        if self._state is not _State.OVER:
            self._keys.send(digits, tone_ms=tone_ms, gap_ms=gap_ms)

    def hang_up(self) -> None:
        """After the last words: what the carrier holds is played first, within reason."""
        now_ns = self._clock()
        if self._state is not _State.TALKING or self._lead.finished(now_ns):
            self.end(Ending.AGENT_HUNG_UP)
            return
        self._state = _State.PARTING
        self._parting_until_ns = now_ns + self._lead_ms * MS + PARTING_NS
        self._mark(now_ns)

    def wake(self) -> None:
        if self._state is _State.TALKING:
            self._send(self._clock())

    def flush(self) -> int:
        if self._state not in (_State.TALKING, _State.PARTING) or not self._lead.outstanding:
            return 0
        if not self._peer.traits.clears:
            return 0  # What has left will be heard.
        now_ns = self._clock()
        self._clear(now_ns)
        unplayed_ns = self._lead.cleared(now_ns) - self._silent_ns
        return max(0, unplayed_ns) // MS

    def tell(self, event: str, facts: Mapping[str, str | int | bool]) -> None:
        self._end_told = self._end_told or event == "ended"
        if self._curious is not None and self._state is not _State.OVER:
            self._say(self._curious.event(event, facts))

    def quality(self) -> LegQuality | None:
        """TCP loses nothing; `rx_lost` is what the carrier says it threw away before."""
        return LegQuality(
            codec=str(self._format),
            rx_packets=self._rx_messages + self._intake.audio_messages,
            rx_lost=self._rx_lost + self._peer.lost,
            rx_discarded=0,
            rx_jitter_ms=0.0,
            tx_packets=self._sent_frames,
            tx_lost=0,
            tx_jitter_ms=0.0,
            rtt_ms=self._lead.round_trip_ms,
            drift_ppm=self._intake.drift.ppm,
        )

    def told(self) -> Awaitable[Mapping[str, str]]:
        """What the carrier told of the call beside its stream, by its own names; once the leg has ended."""
        return nothing_told() if self._control is None else self._control.told()

    # ---------------------------------------------------------------- for door and clock

    @property
    def over(self) -> bool:
        return self._state is _State.OVER

    def uses(self, wire: Wire) -> bool:
        """Whether this socket is the one that carries the call."""
        return self._wire is wire and self._state not in (_State.AWAY, _State.OVER)

    def receive(self, message: Message, now_ns: int) -> None:
        """One message of the peer."""
        intake = self._intake
        intake.messages += 1
        intake.last_ns = now_ns
        happening = self._peer.receive(message)
        if type(happening) is bytes:
            intake.audio_messages += 1
            intake.took(len(happening), now_ns)
            if self._state is _State.TALKING and self._media is not None:
                self._media.uplink(happening, now_ns)
            return
        if self._state is _State.AWAY:
            return  # Of the stream that we have left.
        match happening:
            case MarkPlayed(name):
                self._on_mark(name, now_ns)
            case Key(digit, duration_ms):
                self._emit(Dtmf(digit, "stream", duration_ms, now_ns))
            case Cleared():
                self._lead.clear_answered(now_ns)
            case Flow(stopped):
                self._lead.stopped = stopped
                self._rests_until_ns = 0
            case Stopped(detail):
                self.end(Ending.CALLER_HUNG_UP, detail)
            case Fault(reason):
                self.fault(reason)
            case Started():
                self.fault("started twice")
            case Complained(what):
                self._log.warning("stream_peer_complains", what=what)
            case Ignored(kind):
                self._log.debug("stream_message_ignored", kind=kind)
            case bytes():
                raise AssertionError
            case _:
                assert_never(happening)

    def gone(self, detail: str) -> None:
        """The connection is closed or lost, without a word that the stream is over."""
        self.end(Ending.LEG_FAILED if detail else Ending.CALLER_HUNG_UP, detail)

    def fault(self, reason: str) -> None:
        """The peer broke its contract: it is told, and the call ends."""
        self.end(Ending.LEG_FAILED, reason, code=POLICY)

    def tick(self, now_ns: int) -> None:
        """Every 20 ms."""
        if now_ns < self._rests_until_ns and now_ns < self._next_check_ns and self._state is _State.TALKING:
            return
        if self._state is _State.PARTING:
            if self._lead.finished(now_ns) or now_ns >= self._parting_until_ns:
                self.end(Ending.AGENT_HUNG_UP)
            return
        if self._state is _State.AWAY:
            self._wait(now_ns)
            return
        if self._state is _State.ARRIVED and self._silence_early:
            self._keep_quiet(now_ns)
        if self._state is _State.TALKING:
            self._send(now_ns)
            leaving = self._transfer.leaving
            may_take = not self._lead.stopped and (self._words_wait() or not leaving)
            if self._lead.dry_ns(now_ns) >= self._patience_ns and may_take:
                self._take_silence(now_ns)
            if leaving and self._has_said_all(now_ns):
                self._leave(now_ns)
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + 200_000_000
            self._check(now_ns)

    def end(self, ending: Ending, detail: str = "", *, code: int = NORMAL) -> None:
        """End it for this reason, at once. `detail` is told to the peer."""
        if self._state is _State.OVER:
            return
        was_away = self._state is _State.AWAY
        if not self._end_told and ending is not Ending.CALLER_HUNG_UP:
            self.tell("ended", {"cause": ending.value})
        self._state = _State.OVER
        self._keys.stop()
        reason = detail or ending.value.replace("_", " ")
        if ending is not Ending.CALLER_HUNG_UP:
            self._say(self._peer.goodbye(reason))
        self._wire.close(BUG if ending is Ending.INTERNAL_ERROR else code, reason)
        if self._control is not None and not was_away and ending is not Ending.CALLER_HUNG_UP:
            self._control.end_call()
        self._emit(LegEnded(ending, self._clock(), detail))
        self._on_over(self)

    # ---------------------------------------------------------------- for the carrier's requests

    @property
    def awaited(self) -> bool:
        """The next stream of this call belongs to this leg."""
        return self._state is _State.AWAY and self._transfer.returning

    def next_wish(self) -> Wish | None:
        """The stream is closed, and the carrier asks what comes next; None: nothing."""
        return self._transfer.asked() if self._state is _State.AWAY else None

    def transfer_rings(self) -> None:
        self._tell(self._transfer.rings(self._clock()))

    def transfer_answered(self) -> None:
        """The caller is with somebody else: the call is over for us."""
        self._tell(self._transfer.answered(self._clock()))
        if self._transfer.done:
            self.end(Ending.TRANSFERRED)

    def transfer_failed(self, status: int, detail: str) -> bool:
        """Whether the call is still ours, so that another stream for it is to be opened."""
        return self._state is _State.AWAY and self._transfer.failed(status, detail, self._clock())

    def resume(self, peer: StreamPeer, wire: Wire, format: AudioFormat) -> bool:
        """The next stream of the call; `peer` has said `Started`. False if none is awaited, or it is in
        another format."""
        if not self.awaited or format != self._format:
            return False
        now_ns = self._clock()
        self._rx_messages += self._intake.audio_messages
        self._rx_lost += self._peer.lost
        self._peer, self._wire = peer, wire
        self._lead = Lead(self._lead_ms, marks=peer.answers_marks)
        self._intake = Intake(format, now_ns, self._media_timeout_s)
        self._keys.stop()
        self._keys = KeysOut(peer.key, self._say, self._emit, self._clock)
        self._silent_ns = 0
        # At once: the call throws away what has become stale before any of it is sent.
        for event in self._transfer.returned(now_ns):
            if self._on_event is not None:
                self._on_event(event)
        if self.over:
            return True
        self._state = _State.TALKING
        if peer.traits.answers_idle_mark:
            self._mark(now_ns)
        self._send(now_ns)
        return True

    # ---------------------------------------------------------------- inside

    def _has_said_all(self, now_ns: int) -> bool:
        """Before a transfer: the last words were heard, or took too long."""
        if self._words_wait() and self._lead.dry_ns(now_ns) < PAUSE_NS:
            self._all_marked = False
        elif not self._all_marked:
            self._all_marked = True
            self._mark(now_ns)
        elif self._lead.finished(now_ns):
            return True
        return self._transfer.overdue(now_ns) is not None

    def _words_wait(self) -> bool:
        return self._media is not None and self._media.has_words

    def _leave(self, now_ns: int) -> None:
        if self._media is not None and not self._media.has_words:
            self._media.speech(now_ns, ahead=False)  # Nothing: so the call learns that all has been said.
        self._transfer.left(now_ns)
        self._state = _State.AWAY
        self._silent_until_ns = now_ns
        self._wire.close(NORMAL, "transfer")

    def _wait(self, now_ns: int) -> None:
        """Without a stream the agent hears silence, for its clock's sake."""
        self._silent_until_ns = max(self._silent_until_ns, now_ns - AWAY_NS)
        while self._silent_until_ns + FRAME_NS <= now_ns:
            self._silent_until_ns += FRAME_NS
            if self._media is not None:
                self._media.uplink(self._silence, now_ns)
        if (what := self._transfer.overdue(now_ns)) is not None:
            self._log.warning("stream_transfer_lost", what=what)
            if self._transfer.returning and self._control is not None:
                self._control.end_call()  # Otherwise they may be talking with each other.
            self.end(Ending.LEG_FAILED, what)

    def _tell(self, events: list[LegEvent]) -> None:
        for event in events:
            self._emit(event)

    def _send(self, now_ns: int) -> None:
        """What is ready, as far as the lead goes; one write, however much it is."""
        media, lead = self._media, self._lead
        self._rests_until_ns = 0
        if media is None:
            return
        dry_ns = lead.dry_ns(now_ns)
        if dry_ns >= FRAME_NS:
            self._tell_dryness(dry_ns)
        frames: list[bytes] = []
        leaving = self._transfer.leaving
        while lead.room(FRAME_NS, dry_ns) and (not leaving or self._words_wait()):
            standing_ms = -dry_ns // MS if dry_ns < 0 else -self._jitter_ms(dry_ns)
            speech = media.speech(now_ns, ahead=True, standing_ms=standing_ms)
            if speech is not None:
                self._pack(speech, now_ns, frames)
                dry_ns = min(dry_ns, 0) - FRAME_NS
            if not media.more_speech:
                if not leaving:
                    self._rests_until_ns = now_ns - dry_ns + self._patience_ns
                break
            if speech is None:
                break
        if frames:
            self._wire.write(b"".join(frames))

    def _jitter_ms(self, dry_ns: int) -> int:
        """How long the carrier has been dry beyond what the call knows of, in whole frames."""
        return min(max(0, dry_ns - self._dry_frames * FRAME_NS), JITTER_NS) // MS

    def _tell_dryness(self, dry_ns: int) -> None:
        """After a stall of ours the carrier has been dry for longer than anybody asked for silence."""
        missed = dry_ns // FRAME_NS - self._dry_frames
        if missed >= STALLED_FRAMES and self._media is not None:
            self._dry_frames += missed
            self._media.lagged(missed, just_now=True)

    def _tell_lateness(self) -> None:
        """After a stall of the network the carrier plays late: its marks told so."""
        late = self._lead.late_ns // FRAME_NS
        if late - self._late_frames >= STALLED_FRAMES and self._media is not None:
            self._media.lagged(late - self._late_frames, just_now=False)
            self._late_frames = late
        self._late_frames = min(late, self._late_frames)

    def _take_silence(self, now_ns: int) -> None:
        """The carrier is dry. The end of a reply that is shorter than a frame comes out here too."""
        self._tell_dryness(self._lead.dry_ns(now_ns))
        self._dry_frames += 1
        speech = self._media.speech(now_ns, ahead=False) if self._media is not None else None
        frames: list[bytes] = []
        if speech is not None:
            self._pack(speech, now_ns, frames)
        elif self._peer.wants_silence:
            self._pack_silence(now_ns, frames)
        if frames:
            self._wire.write(b"".join(frames))

    def _keep_quiet(self, now_ns: int) -> None:
        """Nothing is to be heard yet, but something has to flow."""
        frames: list[bytes] = []
        if self._lead.dry_ns(now_ns) >= self._patience_ns:
            self._pack_silence(now_ns, frames)
            self._wire.write(b"".join(frames))

    def _pack_silence(self, now_ns: int, frames: list[bytes]) -> None:
        silent_ns = self._silent_ns
        self._pack(self._silence, now_ns, frames)
        self._silent_ns = silent_ns + FRAME_NS

    def _pack(self, speech: bytes | memoryview, now_ns: int, frames: list[bytes]) -> None:
        self._silent_ns = self._dry_frames = 0
        frames.append(self._wire.framed(self._opcode, self._peer.audio(speech)))
        self._sent_frames += 1
        lead = self._lead
        if lead.sent(FRAME_NS, now_ns) and (number := lead.mark(now_ns)) is not None:
            mark = self._peer.mark(str(number))
            if mark is not None:
                frames.append(self._framed(mark))

    def _say(self, message: Message | None) -> None:
        if message is not None:
            self._wire.write(self._framed(message))

    def _framed(self, message: Message) -> bytes:
        if isinstance(message, str):
            return self._wire.framed(TEXT, message.encode())
        return self._wire.framed(BINARY, message)

    def _mark(self, now_ns: int) -> None:
        if (number := self._lead.mark(now_ns)) is not None:
            self._say(self._peer.mark(str(number)))

    def _clear(self, now_ns: int) -> None:
        self._say(self._peer.clear())
        self._lead.clear_sent(now_ns)
        self._rests_until_ns = 0

    def _on_mark(self, name: str, now_ns: int) -> None:
        if name.isascii() and name.isdigit() and len(name) < 16:
            self._lead.mark_played(int(name), now_ns)
            self._rests_until_ns = 0
            self._tell_lateness()

    def _check(self, now_ns: int) -> None:
        """A few times a second: has the peer gone, does it flood, does it read?"""
        missing = self._lead.marks_missing
        self._lead.check(now_ns)
        if self._lead.marks_missing and not missing:
            self._log.warning("stream_marks_missing")
        if (silent_s := self._intake.silent_s(now_ns)) is not None:
            self.end(Ending.MEDIA_TIMEOUT, f"nothing came for {silent_s:.1f} s")
        elif (what := self._intake.flooding(now_ns)) is not None:
            self.fault(what)
        elif self._wire.is_stuck:
            self.end(Ending.LEG_FAILED, "the peer does not read")

    def _emit(self, event: LegEvent) -> None:
        if self._on_event is None:
            self._early_events.append(event)
        else:
            self._loop.call_soon(self._on_event, event)
