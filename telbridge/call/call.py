"""The actor that joins one leg and one session.

It lives on the event loop and holds no queue but the playout: audio passes through it in plain calls, events
change its state, and `run` waits for the few moments that decide what happens next.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from telbridge.audio.speech import FRAME_MS, SpeechMeter
from telbridge.call.director import Director, Script
from telbridge.call.downlink import Downlink
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentInterrupted,
    AgentLatency,
    AgentTranscript,
    AgentWarning,
    ApiNotice,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Dtmf,
    DtmfFailed,
    DtmfSent,
    Ending,
    Held,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegQuality,
    LegReport,
    MediaBack,
    MediaLost,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    Resumed,
    SessionBack,
    SessionEnd,
    SessionExpiring,
    SessionLost,
    SessionReady,
    SessionUpdated,
    ToolCall,
    ToolCallCancelled,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
    Unknown,
    UpdateRefused,
)
from telbridge.call.journal import OF_TURNS, Journal
from telbridge.call.observer import NOBODY, Observer
from telbridge.call.owed import Owed
from telbridge.call.playout import Heard
from telbridge.call.ports import Agents, Greeting, Leg, Outside, Session, SessionImpossible
from telbridge.call.recovery import Recovery
from telbridge.call.seat import Seat
from telbridge.call.stage import Stage
from telbridge.call.summary import CallerVoice, CallSummary, SessionSetup
from telbridge.call.taping import Tape, Taping
from telbridge.call.turns import TurnBook
from telbridge.dialplan.orders import HangUp, Recorded, SwitchAgent
from telbridge.dialplan.plan import Opening

DOWNLINK_HIGH_MS: Final = 180_000
"""Stop reading the session above this much queued speech: only a broken peer gets there. It lies so high
because `speech started` stands behind the audio in the same socket."""
DOWNLINK_LOW_MS: Final = DOWNLINK_HIGH_MS // 4
LAST_WORDS_MS: Final = 4_000
"""After the session was lost, speech already queued goes on for at most so long before the apology."""
GOODBYE_MS: Final = 60_000
"""An agent that hung up in good order is heard to its end, within reason."""
DRAINED_MS: Final = 1_000
"""The worker's own deadline has passed: what was being said is cut short."""
_LAST_WORDS_MS: Final = {Ending.AGENT_HUNG_UP: GOODBYE_MS, Ending.DRAINED: DRAINED_MS}
UNANSWERED_TURNS: Final = 3
RETRY_AFTER_S: Final = 5
HANG_UP_S: Final = 5.0
"""For the leg to confirm its end, and for the session to close."""
PARTING_S: Final = 1.5
"""An agent that hung up by a tool may still say goodbye: so long after its last reply it has not."""
LOOKUP_S: Final = 10.0
"""What `on.ringing` asks other servers may keep the agent waiting for so long; the phone rings meanwhile."""
SWITCH_S: Final = 15.0
GREETING: Final = 0
LAST_WORDS: Final = -1
"""Tokens of utterances that no order stands behind."""
REFUSALS: Final = {"normal": 480, "busy": 486, "unavailable": 480, "rejected": 603}
"""SIP status for a cause, while the phone still rings (RFC 3261 §21)."""
_BACK: Final = (
    "The line between you and the caller was interrupted for a moment. "
    "Say sorry in a few words, then go on where you were."
)


REPLIES_APART: Final = 1_000_000
"""Between the reply ids of one agent and the next."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What this call is to be; resolved before it starts."""

    script: Script
    greeting_is_default: bool
    """Nobody chose the greeting: one of the agent's own goes before it."""
    apology: bytes
    """Spoken by ourselves when the agent cannot be; in the leg's format."""
    filler: bytes
    """Spoken by ourselves while a lost session is being got back; in the leg's format."""
    reply_timeout_s: float
    """An agent that owes an answer and stays silent so long counts as lost."""
    observer: Observer = NOBODY
    """Is told what the metrics want to know."""
    tape: Tape | None = None
    """Where the call is recorded, if it may be at all."""
    asks_first: bool = False
    """It is recorded only once the caller has agreed."""


class Call:
    """One call. `run` once; `leg` calls `uplink` and `downlink` at its own clock."""

    def __init__(
        self,
        leg: Leg,
        agents: Agents,
        plan: CallPlan,
        outside: Outside,
        *,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._leg, self._agents, self._plan, self._outside = leg, agents, plan, outside
        self._clock, self._log = clock, log
        self._started_ns = clock()
        self._silence = leg.format.silence(leg.format.rate_hz * leg.frame_ms // 1000)
        self._high_octets = leg.format.bytes_for_ms(DOWNLINK_HIGH_MS)
        self._low_octets = leg.format.bytes_for_ms(DOWNLINK_LOW_MS)
        self._seat: Seat | None = None
        self._heard_from: set[ReplyId] = set()
        self._transcripts: dict[ReplyId, str] = {}
        self._observer = plan.observer
        self._meter = SpeechMeter(leg.format)
        self._journal = Journal(self._started_ns)
        self._lost = (0, 0)
        self._turns = TurnBook(self._started_ns, self._meter, plan.script.agent, plan.observer.turn_over)
        self._faults: Counter[str] = Counter()
        self._setups: list[SessionSetup] = []
        self._dtmf_count = 0
        self._unanswered = 0
        self._talking = self._held = self._paused = False
        self._caller_muted = self._agent_muted = self._discreet = self._covered = False
        self._answered_ns: int | None = None
        self._ready_ns: int | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._hanging_up = self._deaf = self._accepted = False
        self._greeting: Greeting | None = None
        self._greeting_wav = b""
        self._greeting_barge_in = True
        self._last_words = ""

        loop = asyncio.get_running_loop()
        self._loop = loop
        self._taping = Taping(
            plan.tape, asks_first=plan.asks_first, started_ns=self._started_ns, later=loop.call_later
        )
        self._downlink = Downlink(
            leg, self._turns, self._taping, tell=self._tell, said=self._on_said, clock=clock
        )
        self._recovery = Recovery(self._downlink, plan.filler, loop, self._agent_unheard)
        self._owed = Owed(plan.reply_timeout_s, self._on_no_reply)
        self._stage = Stage(self, leg, outside, clock=clock, observer=plan.observer, log=log)
        self._director = Director(plan.script, self._stage.perform, clock=clock)
        self._stage.director = self._director
        self._ready: asyncio.Future[None] = loop.create_future()
        self._answered: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[LegEnded] = loop.create_future()
        self._broken: asyncio.Future[SessionEnd] = loop.create_future()
        self._session_over: asyncio.Future[SessionEnd] = loop.create_future()
        self._last_said: asyncio.Future[None] = loop.create_future()
        self._end_asked: asyncio.Future[None] = loop.create_future()

    # ------------------------------------------------------------ the way of a frame

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        """The caller's audio: to the session, unless nobody listens yet or music on hold plays."""
        if (tape := self._taping.tape) is not None:
            tape.caller(frame, now_ns)
        if self._held:
            return
        meter = self._meter
        if meter.hear(frame, now_ns):
            self._turns.voice_changed()
        if not self._talking:
            return
        seat = self._seat
        assert seat is not None
        if self._covered or self._downlink.utterances.protected:
            frame = self._leg.format.silence(self._leg.format.samples_in(len(frame)))
        seat.session.send_audio(seat.up.convert(frame))
        if meter.voiced:
            self._turns.sent_ns = self._clock()

    def downlink(self, now_ns: int) -> bytes | memoryview:
        """The next frame for the caller; speech is kept, not spent, while the caller cannot hear it."""
        if self._held or self._answered_ns is None:
            return self._silence
        frame = self._downlink.pull(now_ns)
        if (tape := self._taping.tape) is not None:
            tape.agent(frame, now_ns)
        if self._paused:
            self._go_on_reading()
        return frame

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> bytes | memoryview | None:
        """For a leg that sends ahead (`Media.speech`)."""
        if self._held or self._answered_ns is None:
            return None
        frame = self._downlink.speech(now_ns, ahead=ahead, standing_ms=standing_ms)
        if frame is not None and (tape := self._taping.tape) is not None:
            tape.agent_ahead(frame, now_ns)
        if self._paused:
            self._go_on_reading()
        return frame

    @property
    def more_speech(self) -> bool:
        """For a leg that sends ahead (`Media.more_speech`)."""
        return self._downlink.more

    def lagged(self, frames: int, *, just_now: bool) -> None:
        """For a leg that sends ahead (`Media.lagged`)."""
        self._downlink.audible.lagged(frames, just_now=just_now)

    @property
    def has_words(self) -> bool:
        """For a leg that waits for the end of a sentence (`Media.has_words`)."""
        return not self._nobody_hears() and self._downlink.audible.unfinished

    def _go_on_reading(self) -> None:
        if self._downlink.playout.queued_octets < self._low_octets and self._seat is not None:
            self._paused = False
            self._seat.session.resume_reading()

    def _nobody_hears(self) -> bool:
        return self._held or self._answered_ns is None

    def _agent_unheard(self) -> bool:
        return self._nobody_hears() or not self._downlink.connected

    def _note_cover(self) -> None:
        """Whether the agent must not hear the caller; it goes on to hear silence, for its clock's sake."""
        self._covered = self._caller_muted or self._discreet or self._stage.transferring

    # ------------------------------------------------------------ agent events

    def _on_event(self, seat: Seat, event: AgentEvent) -> None:
        if seat is self._seat:
            if type(event) is AgentAudio and not self._deaf:  # The way of every frame.
                self._on_audio(event)
            else:
                self.on_agent_event(event)
        elif isinstance(event, SessionReady):
            self._note_ready(seat, event.at_ns)
            seat.ready.set()

    def on_agent_event(self, event: AgentEvent) -> None:
        """One event of the session, in order."""
        if self._deaf:
            return  # Our own last words are being said, or all is over: nothing may stir any more.
        match event:
            case AgentAudio():
                self._on_audio(event)
            case ReplyAudioDone():
                self._complete(event.reply)
            case CallerStartedSpeaking():
                self._on_caller_started(event)
            case CallerStoppedSpeaking():
                self._turns.caller_stopped(event.at_ns)
                self._on_caller_stopped()
            case ReplyDone():
                self._on_reply_done(event)
            case CallerTranscript():
                self._turns.caller_said(event.text)
                self._tell("caller_said", text=event.text)
            case AgentTranscript():
                self._turns.agent_said(event.reply, event.text)
                self._downlink.narration.wrote(event.reply, event.text)
                self._transcripts[event.reply] = event.text
            case SessionReady():
                self._on_ready(event)
            case AgentInterrupted():
                self._silence_agent(event.at_ns)
            case ToolCall():
                if event.name not in self._director.plan.dialplan.tools:
                    self._fault("unknown_tool", event.name)
                self._turns.tool_called(event.tool_call_id, event.name, self._clock())
                self._director.tool_called(event.tool_call_id, event.name, event.arguments)
            case ToolCallCancelled():
                self._director.tool_cancelled(event.tool_call_id)
            case SessionLost():
                self._on_lost(event)
            case SessionBack():
                self._on_back()
            case _:
                self._on_notice(event)

    def _on_notice(self, event: ApiNotice) -> None:
        """What the API tells of itself."""
        match event:
            case AgentError():
                self._fault("agent_error", event.code)
                if event.at_setup:
                    self._break(Ending.AGENT_REFUSED, event.code)
            case BadMessage():
                self._fault("bad_message", event.what)
                if not self._ready.done():
                    self._break(
                        Ending.AGENT_UNREACHABLE, f"bad message before the session was ready: {event.what}"
                    )
            case AgentLatency():
                self._turns.server_latency(event.figures_ms)
            case AgentWarning():
                self._fault("agent_warning", event.code)
            case UpdateRefused():
                self._fault("update_refused", event.code)
                self._tell("update_refused", error=event.code)
            case SessionExpiring():
                self._log.info("session_expiring", in_s=round(event.in_s))
            case SessionUpdated():
                self.note("updated")
            case Unknown():
                self._fault("unknown_message", event.type)
            case _:
                assert_never(event)

    def _on_audio(self, event: AgentAudio) -> None:
        reply, playout = event.reply, self._downlink.playout
        is_news = reply not in self._heard_from
        if is_news:
            self._downlink.utterances.began(reply)
        seat = self._seat
        if self._agent_muted or seat is None:
            self._owed.nothing()
            return
        if not playout.append(reply, seat.audio(reply, event.audio)):
            return
        if is_news:
            self._heard_from.add(reply)
            self._turns.agent_audio(reply, event.at_ns)
            self._unanswered = 0
            self._owed.nothing()
            self._cancel_parting()
        self._leg.wake()  # Only now: a stream takes it at once, and it has its turn.
        if not self._paused and playout.queued_octets > self._high_octets:
            self._paused = True
            seat.session.pause_reading()

    def _complete(self, reply: ReplyId) -> None:
        if self._seat is not None and reply == self._seat.reply:
            self._downlink.playout.append(reply, self._seat.rest())
        self._downlink.complete(reply)

    def _on_caller_started(self, event: CallerStartedSpeaking) -> None:
        """Silence first; what was heard goes to the API next; book-keeping last."""
        self._hanging_up = False  # Who speaks up again has not finished; the agent may call the tool again.
        self._cancel_parting()
        if event.interrupts:
            self._silence_agent(event.at_ns)
        self._turns.caller_started(event.at_ns)
        self._tell("caller_speaking")

    def _silence_agent(self, at_ns: int) -> None:
        """Unless it is saying what must be heard: then the API heard something older than those words."""
        if self._downlink.utterances.protected:
            return
        heard = self._flush(at_ns, cut_by="api")
        if heard:
            self._log.info(
                "barge_in",
                heard_ms=sum(fate.heard_ms for fate in heard),
                discarded_ms=sum(fate.discarded_ms for fate in heard),
            )
            self._tell("interrupted")

    def _flush(self, at_ns: int, *, cut_by: str = "") -> list[Heard]:
        """Silence; the agent is told what was heard. `cut_by`: who interrupted (`Interruption.by`)."""
        heard = self._downlink.flush(at_ns, cut_by=cut_by)
        if self._seat is not None:
            self._seat.cut()
            if heard:
                self._seat.session.report_heard(heard)
        return heard

    def _on_reply_done(self, event: ReplyDone) -> None:
        self._complete(event.reply)
        if text := self._transcripts.pop(event.reply, ""):
            self._tell("agent_said", text=text)
        if event.status is ReplyStatus.FAILED:
            self._fault("reply_failed", event.detail)
            self._break(Ending.AGENT_LOST, f"the API failed to answer: {event.detail}")
        if self._hanging_up:
            self._cancel_parting()
            self._parting = self._loop.call_later(PARTING_S, self._part_by_tool)

    def _on_ready(self, event: SessionReady) -> None:
        """The greeting is asked for while the phone still rings; playout holds it until somebody hears it."""
        if self._ready.done():
            return
        self._ready_ns = event.at_ns
        if self._seat is not None:
            self._note_ready(self._seat, event.at_ns)
        self._ready.set_result(None)
        self._note_talking()
        if self._greeting is not None:
            self._owed.expect()
        self._tell("agent_ready")

    def _note_ready(self, seat: Seat, at_ns: int) -> None:
        connected_ns = seat.session.connected_ns or seat.asked_ns
        connect_ms, configure_ms = (connected_ns - seat.asked_ns) / 1e6, (at_ns - connected_ns) / 1e6
        seat.setup.connect_ms, seat.setup.configure_ms = connect_ms, configure_ms
        self._observer.session_ready(seat.agent, connect_ms, configure_ms)

    def _note_talking(self) -> None:
        answered = self._answered_ns is not None
        self._talking = self._downlink.connected and answered and self._ready.done()

    def _fault(self, kind: str, what: str) -> None:
        """The first of each kind is logged, the rest counted: a peer in a loop must not flood the log."""
        self._faults[kind] += 1
        if self._faults[kind] == 1:
            self._log.warning("session_fault", kind=kind, what=what[:200])

    def _tell(self, event: str, **facts: str) -> None:
        if event not in OF_TURNS:
            self.note(event, **facts)
        if not self._deaf:
            self._downlink.narration.happened(event, facts)
            self._director.happened(event, **facts)

    def note(self, kind: str, **facts: str) -> None:
        """For the record."""
        self._journal.note(kind, self._clock(), **facts)

    # ------------------------------------------------------------ what a dialplan can have done

    @property
    def session(self) -> Session | None:
        return self._seat.session if self._seat is not None and not self._deaf else None

    @property
    def agent_can_say(self) -> bool:
        session = self.session
        return session is not None and self._talking and not self._recovery.lost_now and session.says_exactly

    def connect(self) -> None:
        self._downlink.connect()
        self._note_talking()
        if self._greeting_wav:
            self.play_words(GREETING, self._greeting_wav, barge_in=self._greeting_barge_in)

    def ask_words(self, order: int, text: str, *, barge_in: bool) -> None:
        session = self.session
        if session is None:
            self._on_said(order)
            return
        self._downlink.utterances.ask(order, barge_in=barge_in)
        session.say(text)
        self._owed.expect()

    def play_words(self, order: int, audio: bytes, *, barge_in: bool) -> None:
        if not self._deaf:
            self._downlink.utterances.own(order, self._downlink.say(audio), barge_in=barge_in)

    def _on_said(self, token: int) -> None:
        """Words that were asked for are over."""
        if token == GREETING:
            self._tell("greeting_done")
        elif token == LAST_WORDS:
            if not self._last_said.done():
                self._last_said.set_result(None)
        elif not self._deaf:
            self._director.done(token)

    def stop_speech(self) -> None:
        if self._seat is not None and self._ready.done():
            self._seat.session.interrupt()
        self._flush(self._clock(), cut_by="local")

    def expect_reply(self) -> None:
        self._owed.expect()

    def music(self, loop: bytes | None) -> None:
        if loop is None:
            self._downlink.music.stop()
        else:
            self._downlink.music.start(loop)
            self._leg.wake()

    def mute(self, *, caller: bool, agent: bool, on: bool) -> None:
        if caller:
            self._caller_muted = on
        if agent:
            self._agent_muted = on
            if on:
                self._flush(self._clock())
        self._note_cover()

    def discreet(self, *, on: bool) -> None:
        self._discreet = on
        self._taping.masked(on=on, now_ns=self._clock())
        self._note_cover()

    def record(self, what: Recorded) -> str | None:
        return self._taping.order(what, self._clock())

    def transferring(self) -> None:
        self._note_cover()

    async def switch(self, order: SwitchAgent) -> str | None:
        """The new agent is connected beside the old one and takes its seat when it is ready."""
        old = self._seat
        if old is None:
            return "there is no agent yet"
        try:
            session = self._agents.open(
                order.wanted,
                said=old.session.said if order.handover else (),
                replies_from=max(self._heard_from, default=0) + REPLIES_APART,
            )
        except SessionImpossible as why:
            return str(why)
        agent = order.wanted.agent or self._director.plan.default_agent
        seat = self._take_seat(session, agent)
        arrived = asyncio.ensure_future(seat.ready.wait())
        await _first(seat.task, arrived, self._over, timeout_s=SWITCH_S)
        arrived.cancel()
        if not seat.ready.is_set() or seat.task.done() or self._deaf or self._over.done():
            self._note_connected(seat)
            seat.setup.gave_up_ms = self._ms()
            await seat.leave()
            return "the new agent did not come"
        if old.reply is not None:
            self._complete(old.reply)
        self._seat, self._turns.agent = seat, agent
        self._downlink.utterances.lost()
        await old.leave()
        return None

    def hang_up(self, order: HangUp) -> None:
        if order.after_agent:
            self._hanging_up = True
            self._cancel_parting()
            self._parting = self._loop.call_later(self._plan.reply_timeout_s, self._part_by_tool)
            return
        self._last_words = order.last_words
        self._break(Ending.DIALPLAN_HUNG_UP, order.cause)

    def _part_by_tool(self) -> None:
        self._break(Ending.AGENT_HUNG_UP, "by its tool")

    def _cancel_parting(self) -> None:
        """The goodbye has begun, or the tool's own reply has ended: wait for what follows."""
        if self._parting is not None:
            self._parting.cancel()
            self._parting = None

    # ------------------------------------------------------------ a session that broke

    def _on_lost(self, event: SessionLost) -> None:
        reply = self._seat.reply if self._seat is not None else None
        in_reply = reply is not None or self._unanswered > 0 or self._owed.pending
        if reply is not None:
            self._complete(reply)
        if self._seat is not None:
            self._observer.session_lost(self._seat.agent)
        self._owed.nothing()
        self._paused = False  # The next connection reads.
        self._recovery.lost(in_reply=in_reply)
        self._downlink.utterances.lost()
        self._tell("session_lost", error=event.detail)

    def _on_back(self) -> None:
        missed = self._recovery.back()
        self._tell("session_back")
        session = self.session
        if not missed or session is None:
            return
        if self._greeting is not None and not self._heard_from:
            self._greet_again(session, self._greeting)
        else:
            session.request_reply(_BACK)
        self._owed.expect()

    def _greet_again(self, session: Session, greeting: Greeting) -> None:
        """The first one was lost with its session before anybody heard of it."""
        self._downlink.utterances.ask(GREETING, barge_in=self._greeting_barge_in)
        if greeting.verbatim:
            session.say(greeting.text)
        else:
            session.request_reply(greeting.text)

    # ------------------------------------------------------------ an agent that owes an answer

    def _on_caller_stopped(self) -> None:
        """A cough may rightly stay unanswered, so one silence proves nothing; several turns in a row do."""
        self._tell("caller_stopped")
        self._unanswered += 1
        if not self._owed.running and self._unanswered >= UNANSWERED_TURNS:
            self._owed.expect()

    def _on_no_reply(self) -> None:
        self._break(Ending.AGENT_LOST, f"no answer for {self._plan.reply_timeout_s:g} s")

    def _break(self, ending: Ending, detail: str) -> None:
        if not self._broken.done():
            self._broken.set_result(SessionEnd(ending, detail))

    # ------------------------------------------------------------ leg events

    def _on_leg_event(self, event: LegEvent) -> None:
        match event:
            case LegAnswered():
                self._answered_ns = event.at_ns
                self._taping.answered(event.at_ns)
                if not self._answered.done():
                    self._answered.set_result(None)
                    self._observer.answered()
                    self._tell("answered")
                self._note_talking()
            case Dtmf():
                self._dtmf_count += 1
                self._observer.key(event.method)
                self.note("key", method=event.method)
                if not self._deaf:
                    self._director.key(event.digit, event.method, event.duration_ms)
            case Held():
                self._held = True
                self._owed.hold()
                self._tell("hold")
            case Resumed():
                self._held = False
                self._owed.resume()
                self._tell("resume")
            case LegEnded():
                self._talking = False
                if not self._over.done():
                    self._over.set_result(event)
            case _:
                self._on_leg_report(event)

    def _on_leg_report(self, event: LegReport) -> None:
        """What became of something that was asked of the leg, or of the caller's audio."""
        match event:
            case TransferRinging():
                self._stage.transfer_rings()
            case TransferAnswered():
                self._stage.transfer_over()
            case TransferFailed():
                if event.was_away and self._downlink.playout.unfinished:
                    self.stop_speech()
                self._stage.transfer_over(event.status or 501, event.detail)
            case DtmfSent():
                self._stage.keys_sent()
            case DtmfFailed():
                self._stage.keys_sent(event.detail or "the peer takes no keys")
            case MediaLost():
                self._tell("media_lost")
            case MediaBack():
                self._tell("media_back")
            case _:
                assert_never(event)

    # ------------------------------------------------------------ life

    def end(self) -> None:
        """Ask the call to end: the worker drains and its deadline passed."""
        if not self._end_asked.done():
            self._end_asked.set_result(None)

    async def run(self) -> CallSummary:
        """From the first ring to the summary; both sides are ended, whatever fails first."""
        self._leg.attach(self, self._on_leg_event)
        self._leg.ring()
        try:
            end = await self._live()
            self._director.ended(end.ending.value)
            return self._summary(end)
        finally:
            self._deaf = True
            self._owed.nothing()
            self._recovery.stop()
            self._cancel_parting()
            self._director.ended(Ending.INTERNAL_ERROR.value)
            self._leg.hang_up()
            self._taping.end(self._clock())
            if self._seat is not None:
                await self._seat.leave()
            await self._stage.close()
            await _first(self._over, timeout_s=HANG_UP_S)

    async def _live(self) -> SessionEnd:
        """Ring, answer, talk, part; returns why it ended."""
        await self._open()
        sides: list[asyncio.Future[Any]] = [self._session_over, self._broken, self._over, self._end_asked]
        await _first(self._ready, *sides)
        if not self._over.done() and not self._end_asked.done() and not self._refused_by_dialplan:
            self._leg.answer()
            self._accepted = True
            if not self._failed:
                await _first(self._answered, *sides)
            if not self._failed and self._answered.done() and not self._over.done():
                self._log.info("answered", ms=round(self._ms()))
                await _first(*sides)
        end = self._verdict()
        self._talking = False
        self._owed.nothing()
        self._recovery.stop()
        await self._part(end)
        return end

    async def _open(self) -> None:
        """Look up what the dialplan wants to know of the caller, then ask for the agent."""
        self._tell("ringing")
        known = asyncio.ensure_future(self._director.prepared.wait())
        await _first(known, self._over, self._broken, self._end_asked, timeout_s=LOOKUP_S)
        known.cancel()
        if self._over.done() or self._broken.done() or self._end_asked.done():
            return
        opening = self._director.opening()
        try:
            session = self._agents.open(opening.wanted)
        except SessionImpossible as why:
            self._break(Ending.AGENT_REFUSED, str(why))
            return
        self._choose_greeting(opening)
        if self._greeting is not None:
            session.greet(self._greeting)
            self._downlink.utterances.ask(GREETING, barge_in=self._greeting_barge_in)
        self._seat = self._take_seat(session, self._turns.agent)

    def _choose_greeting(self, opening: Opening) -> None:
        chosen = opening.greeting
        if chosen is None:
            return
        self._greeting_barge_in = chosen.barge_in
        if chosen.wav is not None:
            self._greeting_wav = self._outside.recording(chosen.wav)
        elif opening.greeting_text:
            verbatim = chosen.say is not None
            self._greeting = Greeting(opening.greeting_text, verbatim, self._plan.greeting_is_default)

    def _take_seat(self, session: Session, agent: str) -> Seat:
        asked_ns = self._clock()
        setup = SessionSetup(agent, (asked_ns - self._started_ns) / 1e6)
        self._setups.append(setup)
        seat = Seat(session, self._leg.format, self._on_event, agent=agent, asked_ns=asked_ns, setup=setup)
        seat.task.add_done_callback(lambda _: self._on_session_over(seat))
        return seat

    def _on_session_over(self, seat: Seat) -> None:
        """An exception here is a bug of ours: the log gets its traceback, the caller an apology."""
        if seat is not self._seat or self._session_over.done():
            return
        try:
            end = seat.end()
        except Exception as error:  # noqa: BLE001 - the wall between a session and its call
            self._log.error("session_bug", exc_info=error)
            end = SessionEnd(Ending.INTERNAL_ERROR, type(error).__name__)
        self._session_over.set_result(end)

    @property
    def _failed(self) -> bool:
        return self._session_over.done() or self._broken.done()

    @property
    def _refused_by_dialplan(self) -> bool:
        return self._broken.done() and self._broken.result().ending is Ending.DIALPLAN_HUNG_UP

    def _verdict(self) -> SessionEnd:
        """The side that ended first, the leg before the session: nobody is there to hear the rest."""
        if self._over.done():
            ended = self._over.result()
            return SessionEnd(ended.ending, ended.detail)
        if self._broken.done():
            return self._broken.result()
        if self._session_over.done():
            return self._session_over.result()
        return SessionEnd(Ending.DRAINED)

    async def _part(self, end: SessionEnd) -> None:
        """Last words: the agent's own goodbye, or our apology in its place; then hang up."""
        if self._over.done():
            return
        if not self._accepted and end.ending in (Ending.DRAINED, Ending.DIALPLAN_HUNG_UP):
            self._refuse(end)
            return
        if self._answered_ns is None:
            await _first(self._answered, self._over, timeout_s=HANG_UP_S)
        if end.ending is Ending.DIALPLAN_HUNG_UP:
            await self._say_last_words()
            await self._hang_up(end)
            return
        await self._played_out(_LAST_WORDS_MS.get(end.ending, LAST_WORDS_MS))
        if end.ending is not Ending.AGENT_HUNG_UP and self._plan.apology:
            self._log.warning("apology", ending=end.ending.value, detail=end.detail[:200])
            await self._apologise()
        await self._hang_up(end)

    async def _hang_up(self, end: SessionEnd) -> None:
        self._downlink.narration.ended(end)
        self._leg.hang_up()
        await _first(self._over, timeout_s=HANG_UP_S)

    def _refuse(self, end: SessionEnd) -> None:
        self._downlink.narration.ended(end)
        if end.ending is Ending.DRAINED:
            self._leg.reject(503, retry_after_s=RETRY_AFTER_S)
        else:
            self._leg.reject(REFUSALS.get(end.detail, 480))

    async def _say_last_words(self) -> None:
        """Through the agent where it can, else by ourselves; in place of whatever is being said."""
        if not self._last_words:
            return
        self._flush(self._clock())
        session = self.session
        if session is not None and self._ready.done() and not self._session_over.done():
            session.interrupt()
            self._note_talking()
        self._stage.say_last(LAST_WORDS, self._last_words)
        await _first(self._last_said, self._over, self._session_over, timeout_s=GOODBYE_MS / 1000)

    async def _apologise(self) -> None:
        """Behind an emptied queue; nothing that the agent still sends may cut it or follow it."""
        self._deaf = True
        self._downlink.flush(self._clock())
        self._downlink.say(self._plan.apology)
        await self._played_out(self._downlink.audible.queued_ms + 1000)

    async def _played_out(self, limit_ms: int) -> None:
        if self._downlink.audible.idle:
            return
        self._downlink.drained.clear()
        drained = asyncio.create_task(self._downlink.drained.wait())
        try:
            await _first(drained, self._over, timeout_s=limit_ms / 1000)
        finally:
            drained.cancel()

    def _ms(self) -> float:
        return (self._clock() - self._started_ns) / 1e6

    def _since_start(self, at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - self._started_ns) / 1e6

    def tool_answered(self, tool_call_id: str) -> None:
        self._turns.tool_answered(tool_call_id, self._clock())

    def look_at_line(self) -> LegQuality | None:
        """RTP statistics so far; what was lost since the last look goes into the record."""
        quality = self._leg.quality()
        if quality is not None:
            before, self._lost = self._lost, (quality.rx_lost, quality.tx_lost)
            for way, now, then in zip(("from the caller", "to the caller"), self._lost, before, strict=True):
                if now > then:
                    self.note("loss", packets=str(now - then), way=way)
        return quality

    def figures(self) -> dict[str, Any]:
        """For those who watch the call: small, and JSON."""
        turns = self._turns.turns
        return {
            "answered_ms": self._since_start(self._answered_ns),
            "turns": sum(1 for turn in turns if turn.replies),
            "interruptions": sum(1 for turn in turns if turn.interruption),
            "gap_ms": next((gap for turn in reversed(turns) if (gap := turn.gap_ms) is not None), None),
            "session_losses": self._recovery.losses,
        }

    def _note_connected(self, seat: Seat) -> None:
        """It may have come so far and no further."""
        if seat.setup.connect_ms is None and (connected_ns := seat.session.connected_ns) is not None:
            seat.setup.connect_ms = (connected_ns - seat.asked_ns) / 1e6

    def _summary(self, end: SessionEnd) -> CallSummary:
        self._turns.close()
        if self._seat is not None:
            self._note_connected(self._seat)
        self._turns.agent_speech.ended(self._ms())
        return self._told(end)

    def so_far(self) -> CallSummary:
        """Of a call that goes on, as if it were over now: its ending means nothing."""
        return self._told(SessionEnd(Ending.INTERNAL_ERROR))

    def _told(self, end: SessionEnd) -> CallSummary:
        now_ms = self._ms()
        return CallSummary(
            facts=self._leg.facts,
            ending=end.ending,
            detail=end.detail,
            duration_ms=now_ms,
            answered_ms=self._since_start(self._answered_ns),
            session_ready_ms=self._since_start(self._ready_ns),
            first_sound_ms=self._turns.first_sound_ms,
            agent=self._plan.script.agent,
            turns=self._turns.turns,
            voice=_voice_of(self._meter),
            playout=self._downlink.playout.totals,
            rate_hz=self._leg.format.rate_hz,
            frame_ms=self._leg.frame_ms,
            quality=self.look_at_line(),
            uplink_dropped_ms=self._seat.session.uplink_dropped_ms if self._seat is not None else 0,
            dtmf_count=self._dtmf_count,
            session_losses=self._recovery.losses,
            faults=self._faults,
            dialplan=self._plan.script.plan.name,
            dialplan_version=self._plan.script.plan.version,
            marks=self._stage.marks,
            caller_speech=self._turns.caller_speech.so_far(now_ms),
            agent_speech=self._turns.agent_speech.so_far(now_ms),
            events=self._journal.events,
            events_dropped=self._journal.dropped,
            sessions=self._setups,
        )


def _voice_of(meter: SpeechMeter) -> CallerVoice:
    return CallerVoice(
        heard_ms=meter.frames * FRAME_MS,
        voiced_ms=meter.voiced_frames * FRAME_MS,
        silent_ms=meter.silent_frames * FRAME_MS,
        clipped_ms=meter.clipped_frames * FRAME_MS,
    )


async def _first(*waits: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Until one of them is done. They are left as they are."""
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
