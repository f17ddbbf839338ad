"""One inbound SIP call as the call's telephone side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from telbridge.audio.dtmf import DtmfDetector
from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.audio.shortening import joined
from telbridge.call.events import (
    CallFacts,
    Dtmf,
    DtmfFailed,
    Ending,
    Held,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegQuality,
    Resumed,
    TransferFailed,
)
from telbridge.call.ports import Media
from telbridge.legs.sip.arrivals import Arrivals
from telbridge.legs.sip.backlog import Backlog
from telbridge.legs.sip.edge import response
from telbridge.legs.sip.keys import KeyWatch
from telbridge.legs.sip.keys_out import CannotPress, KeysOut, Way
from telbridge.legs.sip.lines import media_lines
from telbridge.legs.sip.message import offered_codec
from telbridge.legs.sip.pjmedia import FRAME_BYTES, FRAME_MS
from telbridge.legs.sip.ports import AudioPort
from telbridge.legs.sip.quality import QualityBook
from telbridge.legs.sip.transferring import CannotRefer, Transferring
from telbridge.legs.sip.watch import MediaWatch

SIP_FORMAT: Final[AudioFormat] = PCM_8K
HANG_UP_PATIENCE_S: Final = 2.0
"""A caller that vanished never answers our BYE: the call does not wait 32 s (RFC 3261 timer F) for that."""
KEPT_BACK_NS: Final = 5_000_000
"""pjmedia keeps the newest 5 ms back, to conceal a loss from there on: each frame begins with those of the
one before (PJMEDIA_WSOLA_DELAY_MSEC)."""
PARTING_S: Final = 0.2
"""Between the last words and the BYE: a phone that gets a BYE throws its jitter buffer away, and the last
syllable with it."""
_SILENCE: Final = memoryview(bytes(FRAME_BYTES))


class Line(Protocol):
    """What a leg does to its endpoint."""

    def drop_later(self, leg: SipLeg) -> None:
        """The library is done with this call: release it, but not inside its own callback."""


@dataclass(frozen=True, slots=True)
class LegParts:
    """What the endpoint gives to a new leg."""

    facts: CallFacts
    pj: Any
    call: Any
    port: AudioPort
    line: Line
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], int]
    log: Any
    media_timeout_s: float
    fixed_tone: bool = False
    """The library's telephone-events have one length."""


class _State(Enum):
    ARRIVED = auto()
    ANSWERED = auto()
    """200 sent; the caller has not acknowledged it, or there is no stream yet."""
    TALKING = auto()
    ENDING = auto()
    """We asked the library to end it."""
    OVER = auto()
    """LegEnded is out. The library may still wait for its last response."""


class SipLeg:
    """Implements `telbridge.call.ports.Leg`; also the watcher of its pjsua2 call (edge.CallWatcher)."""

    def __init__(self, parts: LegParts) -> None:
        self.facts: CallFacts = parts.facts
        self._pj, self._call, self._port, self._line = parts.pj, parts.call, parts.port, parts.line
        self._loop, self._clock, self._log = parts.loop, parts.clock, parts.log
        self._state = _State.ARRIVED
        self._confirmed = False
        self._held = False
        self._media: Media | None = None
        self._on_event: Callable[[LegEvent], None] | None = None
        self._early_events: list[LegEvent] = []
        self._ending: tuple[Ending, str] | None = None
        self._impatient: asyncio.TimerHandle | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._quality = QualityBook()
        self._keys = KeyWatch()
        self._backlog = Backlog(self._port.pieces)
        self._arrivals = Arrivals()
        self._came_ns = 0
        """Of the frame read last."""
        self._watch = MediaWatch(parts.media_timeout_s)
        self._inband: DtmfDetector | None = None
        """Only where the peer takes no telephone-events: its keys are tones then."""
        self._keys_out = KeysOut(
            self._loop, self._clock, self._way_of_keys, self._press, self._emit, fixed_tone=parts.fixed_tone
        )
        self._transferring = Transferring(
            self._loop, self._clock, self._refer, self._emit, self._transferred, self._log
        )

    # ---------------------------------------------------------------- call.ports.Leg

    @property
    def format(self) -> AudioFormat:
        return SIP_FORMAT

    @property
    def frame_ms(self) -> int:
        return FRAME_MS

    def attach(self, media: Media, on_event: Callable[[LegEvent], None]) -> None:
        self._media, self._on_event = media, on_event
        for event in self._early_events:
            self._loop.call_soon(on_event, event)
        self._early_events.clear()

    def ring(self) -> None:
        if self._state is _State.ARRIVED:
            self._respond(180)

    def answer(self) -> None:
        if self._state is _State.ARRIVED and self._respond(200):
            self._state = _State.ANSWERED

    def reject(self, status: int, *, retry_after_s: int | None = None) -> None:
        if self._state is _State.ARRIVED:
            self._ending = self._ending or (Ending.AGENT_HUNG_UP, f"refused with {status}")
            if self._respond(status, retry_after_s=retry_after_s):
                self._enter_ending()

    def hang_up(self) -> None:
        """What has left is heard first."""
        if self._state is not _State.TALKING or self._held:
            self.end(Ending.AGENT_HUNG_UP)
        elif self._parting is None:
            self._parting = self._loop.call_later(PARTING_S, self.end, Ending.AGENT_HUNG_UP)

    def transfer(self, target: str, *, timeout_s: float) -> None:
        if self._state is _State.TALKING:
            self._transferring.begin(target, self.facts.peer.rpartition(":")[0], timeout_s)
        elif self._state in (_State.ARRIVED, _State.ANSWERED):
            self._emit(TransferFailed(0, self._clock(), "the call is not answered"))

    def send_dtmf(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        if self._state is _State.TALKING:
            self._keys_out.send(digits, tone_ms=tone_ms, gap_ms=gap_ms)
        elif self._state in (_State.ARRIVED, _State.ANSWERED):
            self._emit(DtmfFailed(self._clock(), "the call is not answered"))

    def wake(self) -> None:
        """Frames are taken at the tick."""

    def flush(self) -> int:
        """Nothing waits behind the leg: each frame leaves when it is taken."""
        return 0

    def tell(self, event: str, facts: Mapping[str, str | int | bool]) -> None:
        """SIP has no words for it."""

    def quality(self) -> LegQuality | None:
        if self._call is not None and self._port.live:
            return self._quality.with_live(self._call)
        return self._quality.total()

    # ---------------------------------------------------------------- for the endpoint

    @property
    def over(self) -> bool:
        return self._state is _State.OVER

    def end(self, ending: Ending, detail: str = "", *, status: int = 480) -> None:
        """End it for this reason; an unanswered call is refused with `status`."""
        if self._state in (_State.ENDING, _State.OVER) or self._call is None:
            return
        self._ending = self._ending or (ending, detail)
        # Once hangup() runs, the library destroys the stream without a word (call->hanging_up).
        self._forget_stream()
        self._enter_ending()
        try:
            self._call.hangup(response(self._pj, status))
        except self._pj.Error as error:
            self._log.warning("sip_hang_up_failed", why=error.reason)

    def listen(self, due: int, now_ns: int) -> None:
        """The caller's next 20 ms go up; after a stall (`due` > 1) also what came meanwhile."""
        waiting = self._port.waiting
        self._backlog.tick(due, waiting)
        self._arrivals.look(waiting, now_ns)
        self._hear(now_ns, waiting)
        while self._backlog.owed and self._backlog.takes_another(waiting := self._port.waiting):
            self._hear(now_ns, waiting)
        if self._state is not _State.TALKING:
            return
        if self._keys.down is not None:
            for key in self._keys.overdue(now_ns):
                self._emit(key)
        if now_ns >= self._watch.next_look_ns:
            self._watch_media(now_ns)

    def speak(self, due: int, now_ns: int) -> None:
        """The next 20 ms for the caller leave. One on hold takes nothing: the agent's words wait, as they do
        while keys go out."""
        for _ in range(due):
            if (
                self._state is _State.TALKING
                and self._media is not None
                and self._port.live
                and not self._held
            ):
                self._port.write(_SILENCE if self._keys_out.in_audio else self._media.downlink(now_ns))

    def release(self) -> Any:
        """Hand out the pjsua2 call, to be destroyed; the leg keeps nothing of the library."""
        call, self._call = self._call, None
        if call is not None:
            call.watcher = None
        self._port.close()
        self._finish()
        return call

    # ---------------------------------------------------------------- edge.CallWatcher

    def call_state_changed(self) -> None:
        info = self._call.getInfo()
        if info.state == self._pj.PJSIP_INV_STATE_CONFIRMED:
            self._confirmed = True
            self._start_talking()
        elif info.state == self._pj.PJSIP_INV_STATE_DISCONNECTED:
            self._forget_stream()
            if self._ending is None:
                self._ending = self._why_ended(info)
                if self._ending[0] is Ending.CALLER_HUNG_UP:
                    self._transferring.peer_hung_up()
            if self._transferring.succeeded:
                self._ending = Ending.TRANSFERRED, ""
            self._finish()
            self._line.drop_later(self)

    def media_state_changed(self) -> None:
        lines = media_lines(self._pj, self._call)
        if lines.active:
            self._port.stream_active(self._call)
            self._inband = None if self._quality.takes_events(self._call) else DtmfDetector()
        if lines.held != self._held:
            self._held = lines.held
            now_ns = self._clock()
            self._emit(Held(now_ns) if lines.held else Resumed(now_ns))
        self._start_talking()

    def stream_created(self, parameters: Any) -> None:
        if self._state not in (_State.ENDING, _State.OVER):
            self._quality.stream_created(int(parameters.streamIdx))
            self._port.stream_created(parameters)
            # Another stream, another jitter buffer.
            self._backlog, self._arrivals = Backlog(self._port.pieces), Arrivals()
            self._start_talking()

    def offer_received(self, parameters: Any) -> None:
        # By itself the library says 500. An empty offer (a re-INVITE without SDP) asks for ours.
        sdp = parameters.offer.wholeSdp
        if sdp and offered_codec(sdp) is None:
            parameters.statusCode = self._pj.PJSIP_SC_NOT_ACCEPTABLE_HERE

    def stream_destroyed(self) -> None:
        self._forget_stream()

    def dtmf(self, parameters: Any) -> None:
        now_ns = self._clock()
        from_info = parameters.method == self._pj.PJSUA_DTMF_METHOD_SIP_INFO
        for key in self._keys.seen(
            parameters.digit, parameters.duration, parameters.flags, now_ns, from_info=from_info
        ):
            self._emit(key)

    def info_key(self, digit: str) -> None:
        """A key by INFO that the gate took."""
        if self._state is _State.TALKING:
            self._emit(Dtmf(digit, "info", 0, self._clock()))

    def transaction(self, parameters: Any) -> None:
        change = parameters.e.body.tsxState
        transaction = change.tsx
        method = transaction.method
        came = change.type == self._pj.PJSIP_EVENT_RX_MSG
        if transaction.role == self._pj.PJSIP_ROLE_UAS:
            if came and method == "NOTIFY" and transaction.state == self._pj.PJSIP_TSX_STATE_TRYING:
                self._transferring.notified(change.src.rdata.wholeMsg)
        elif change.prevState < self._pj.PJSIP_TSX_STATE_COMPLETED <= transaction.state:
            if method == "REFER":
                text = change.src.rdata.wholeMsg if came else ""
                self._transferring.answered(int(transaction.statusCode), text)
            elif method == "INFO":
                self._keys_out.info_answered(int(transaction.statusCode))

    # ---------------------------------------------------------------- inside

    def _refer(self, refer_to: str) -> None:
        try:
            self._call.xfer(refer_to, self._pj.CallOpParam())
        except self._pj.Error as error:
            raise CannotRefer(error.reason) from error

    def _transferred(self) -> None:
        self.end(Ending.TRANSFERRED)

    def _way_of_keys(self) -> Way | None:
        if self._port.live and self._quality.takes_events(self._call):
            return "rfc4733"
        allows = self._call.remoteHasCap(self._pj.PJSIP_H_ALLOW, "", "INFO")
        # RFC 3261 §20.5: a peer without an Allow header has said nothing against it.
        return None if allows == self._pj.PJSIP_DIALOG_CAP_UNSUPPORTED else "info"

    def _press(self, key: str, way: Way, tone_ms: int) -> None:
        if way == "rfc4733" and self._held:
            raise CannotPress("the peer holds the call")
        order = self._pj.CallSendDtmfParam()
        order.digits, order.duration = key, tone_ms
        order.method = (
            self._pj.PJSUA_DTMF_METHOD_RFC2833 if way == "rfc4733" else self._pj.PJSUA_DTMF_METHOD_SIP_INFO
        )
        try:
            self._call.sendDtmf(order)
        except self._pj.Error as error:
            raise CannotPress(error.reason) from error

    def _hear(self, now_ns: int, waiting: int) -> None:
        heard = self._read(now_ns, waiting)
        if self._state is not _State.TALKING or self._media is None:
            return  # What came between our 200 and the ACK must not become lasting delay.
        if self._backlog.surplus and heard is not None:
            heard = self._shortened(heard, now_ns)
        frame = _SILENCE if heard is None else heard
        if self._inband is not None:
            for tone in self._inband.feed(frame):
                self._emit(Dtmf(tone.digit, "inband", tone.duration_ms, now_ns))
        self._media.uplink(frame, self._came_ns)

    def _read(self, now_ns: int, waiting: int) -> memoryview | None:
        """`waiting`: what stands there now. It need not be asked again afterwards where it sufficed."""
        heard = self._port.read()
        left = waiting - self._port.pieces
        if left < 0 or heard is None:
            left = self._port.waiting
        self._came_ns = self._arrivals.taken(left, now_ns) - KEPT_BACK_NS
        return heard

    def _shortened(self, heard: memoryview, now_ns: int) -> memoryview:
        """What was read, or one frame of that and the next. A key that is a tone is none the shorter."""
        waiting = self._port.waiting
        if not self._backlog.joins(heard, waiting, loud_too=self._inband is None):
            return heard
        first = bytes(heard)
        second = self._read(now_ns, waiting)
        return memoryview(first if second is None else joined(first + second, SIP_FORMAT))

    def _start_talking(self) -> None:
        if self._state is _State.ANSWERED and self._confirmed and self._port.live:
            self._state = _State.TALKING
            now_ns = self._clock()
            self._watch.start(now_ns)
            self._emit(LegAnswered(now_ns))

    def _respond(self, status: int, *, retry_after_s: int | None = None) -> bool:
        if self._call is None:
            return False
        try:
            self._call.answer(response(self._pj, status, retry_after_s))
        except self._pj.Error as error:
            self._log.warning("sip_response_failed", status=status, why=error.reason)
            self.end(Ending.LEG_FAILED, error.reason, status=500)
            return False
        return True

    def _watch_media(self, now_ns: int) -> None:
        """Hang up on a caller that vanished. On hold there may be no RTP; session timers watch over that."""
        packets = self._quality.packets_heard(self._call, now_ns) if self._port.live else None
        for event in self._watch.look(packets, held=self._held, now_ns=now_ns):
            self._emit(event)
        if self._watch.timed_out(now_ns):
            silent_s = self._watch.silent_ns(now_ns) / 1e9
            self.end(Ending.MEDIA_TIMEOUT, f"no RTP for {silent_s:.1f} s")

    def _forget_stream(self) -> None:
        if self._port.live:
            self._quality.keep(self._call)
            self._port.stream_gone()

    def _enter_ending(self) -> None:
        if self._state is not _State.OVER:
            self._state = _State.ENDING
            self._impatient = self._loop.call_later(HANG_UP_PATIENCE_S, self._finish)

    def _finish(self) -> None:
        """LegEnded, exactly once."""
        if self._state is _State.OVER:
            return
        self._state = _State.OVER
        self._transferring.stop()
        self._keys_out.stop()
        for timer in (self._impatient, self._parting):
            if timer is not None:
                timer.cancel()
        for key in self._keys.ended():
            self._emit(key)
        ending, detail = self._ending or (Ending.LEG_FAILED, "")
        self._emit(LegEnded(ending, self._clock(), detail))

    def _why_ended(self, info: Any) -> tuple[Ending, str]:
        status = int(info.lastStatusCode)
        if self._state is _State.ARRIVED and status == self._pj.PJSIP_SC_REQUEST_TERMINATED:
            return Ending.CALLER_CANCELLED, ""
        if status == self._pj.PJSIP_SC_OK:
            return Ending.CALLER_HUNG_UP, ""
        return Ending.LEG_FAILED, f"{status} {info.lastReason}"

    def _emit(self, event: LegEvent) -> None:
        if self._on_event is None:
            self._early_events.append(event)
        else:
            self._loop.call_soon(self._on_event, event)
