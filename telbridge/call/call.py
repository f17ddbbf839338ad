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

from telbridge.audio.transcoder import Transcoder
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentInterrupted,
    AgentLatency,
    AgentTranscript,
    AgentWarning,
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
from telbridge.call.playout import OWN_WORDS, Playout
from telbridge.call.ports import Greeting, Leg, Session, TextRole
from telbridge.call.recovery import OwnWords, Recovery
from telbridge.call.summary import CallSummary
from telbridge.call.turns import TurnBook

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
HANG_UP_TOOL: Final = "hang_up"
_BACK: Final = (
    "The line between you and the caller was interrupted for a moment. "
    "Say sorry in a few words, then go on where you were."
)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What this call is to be; resolved before it starts."""

    greeting: Greeting | None
    apology: bytes
    """Spoken by ourselves when the agent cannot be; in the leg's format."""
    filler: bytes
    """Spoken by ourselves while a lost session is being got back; in the leg's format."""
    reply_timeout_s: float
    """An agent that owes an answer and stays silent so long counts as lost."""


class Call:
    """One call. `run` once; `leg` calls `uplink` and `downlink` at its own clock."""

    def __init__(
        self, leg: Leg, session: Session, plan: CallPlan, *, clock: Callable[[], int], log: Any
    ) -> None:
        self._leg, self._session, self._plan = leg, session, plan
        self._clock, self._log = clock, log
        self._started_ns = clock()
        self._playout = Playout(leg.format, leg.frame_ms)
        self._silence = leg.format.silence(leg.format.rate_hz * leg.frame_ms // 1000)
        self._up = Transcoder(leg.format, session.uplink_format)
        self._down = Transcoder(session.downlink_format, leg.format)
        self._down_reply: ReplyId | None = None
        self._sounding: ReplyId | None = None
        self._stopping = False
        self._heard_from: set[ReplyId] = set()
        self._started_replies: set[ReplyId] = set()
        self._turns = TurnBook(self._started_ns)
        self._faults: Counter[str] = Counter()
        self._dtmf_count = 0
        self._unanswered = 0
        self._talking = self._held = self._paused = False
        self._answered_ns: int | None = None
        self._ready_ns: int | None = None
        self._owed: asyncio.TimerHandle | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._hanging_up = False
        self._owed_on_hold = self._deaf = self._accepted = False

        loop = asyncio.get_running_loop()
        self._loop = loop
        self._own = OwnWords(self._playout)
        self._recovery = Recovery(self._playout, self._own, plan.filler, loop, self._nobody_hears)
        self._ready: asyncio.Future[None] = loop.create_future()
        self._answered: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[LegEnded] = loop.create_future()
        self._broken: asyncio.Future[SessionEnd] = loop.create_future()
        self._drained = asyncio.Event()
        self._end_asked: asyncio.Future[None] = loop.create_future()

    # ------------------------------------------------------------ the way of a frame

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        """The caller's audio: to the session, unless nobody listens yet or music on hold plays."""
        if self._talking and not self._held:
            self._session.send_audio(self._up.convert(frame))

    def downlink(self, now_ns: int) -> bytes | memoryview:
        """The next frame for the caller; speech is kept, not spent, while the caller cannot hear it."""
        if self._nobody_hears():
            return self._silence
        frame = self._playout.pull()
        if self._playout.playing != self._sounding:
            self._note_change(self._playout.playing, now_ns)
        if self._paused and self._playout.queued_ms < DOWNLINK_LOW_MS:
            self._paused = False
            self._session.resume_reading()
        return frame

    def _nobody_hears(self) -> bool:
        return self._held or self._answered_ns is None

    def _note_change(self, playing: ReplyId | None, now_ns: int) -> None:
        """Once where speech starts or stops, not once a frame."""
        self._sounding = playing
        if self._stopping:
            self._stopping = False
            self._turns.silent(now_ns)
        if playing is None:
            if self._playout.idle:
                self._drained.set()
        elif playing < OWN_WORDS and playing not in self._started_replies:
            self._started_replies.add(playing)
            self._turns.agent_frame(playing, now_ns)

    # ------------------------------------------------------------ agent events

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
            case AgentTranscript():
                self._turns.agent_said(event.reply, event.text)
            case SessionReady():
                self._on_ready(event)
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
            case AgentInterrupted():
                self._silence_agent(event.at_ns)
            case ToolCall():
                self._on_tool_call(event)
            case SessionLost():
                self._on_lost()
            case SessionBack():
                self._on_back()
            case AgentLatency():
                self._turns.server_latency(event.figures_ms)
            case AgentWarning():
                self._fault("agent_warning", event.code)
            case UpdateRefused():
                self._fault("update_refused", event.code)
            case SessionExpiring():
                self._log.info("session_expiring", in_s=round(event.in_s))
            case SessionUpdated() | ToolCallCancelled():
                pass
            case Unknown():
                self._fault("unknown_message", event.type)
            case _:
                assert_never(event)

    def _on_audio(self, event: AgentAudio) -> None:
        if event.reply != self._down_reply:
            self._down.reset()
            self._down_reply = event.reply
        if not self._playout.append(event.reply, self._down.convert(event.audio)):
            return
        if event.reply not in self._heard_from:
            self._heard_from.add(event.reply)
            self._turns.agent_audio(event.reply, event.at_ns)
            self._unanswered = 0
            self._expect_nothing()
            self._cancel_parting()
        if not self._paused and self._playout.queued_ms > DOWNLINK_HIGH_MS:
            self._paused = True
            self._session.pause_reading()

    def _complete(self, reply: ReplyId) -> None:
        """The resampler holds the last milliseconds of the last word: out with them."""
        if reply == self._down_reply:
            self._playout.append(reply, self._down.finish())
            self._down.reset()
            self._down_reply = None
        self._playout.complete(reply)

    def _on_caller_started(self, event: CallerStartedSpeaking) -> None:
        """Silence first; what was heard goes to the API next; book-keeping last."""
        self._hanging_up = False  # Who speaks up again has not finished; the agent may call the tool again.
        self._cancel_parting()
        if not event.interrupts:
            self._turns.caller_started(event.at_ns)
            return
        self._silence_agent(event.at_ns)
        self._turns.caller_started(event.at_ns)

    def _silence_agent(self, at_ns: int) -> None:
        sounding = self._playout.playing is not None
        heard = [fate for fate in self._playout.flush() if fate.reply < OWN_WORDS]
        self._leg.flush()
        self._down.reset()
        self._down_reply = None
        if heard:
            self._session.report_heard(heard)
            self._turns.interrupted(heard, at_ns)
            self._stopping = sounding
            self._log.info(
                "barge_in",
                heard_ms=sum(fate.heard_ms for fate in heard),
                discarded_ms=sum(fate.discarded_ms for fate in heard),
            )

    def _on_reply_done(self, event: ReplyDone) -> None:
        self._complete(event.reply)
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
        self._ready.set_result(None)
        if self._plan.greeting is not None:
            self._expect_reply()

    def _fault(self, kind: str, what: str) -> None:
        """The first of each kind is logged, the rest counted: a peer in a loop must not flood the log."""
        self._faults[kind] += 1
        if self._faults[kind] == 1:
            self._log.warning("session_fault", kind=kind, what=what[:200])

    # ------------------------------------------------------------ tools

    def _on_tool_call(self, event: ToolCall) -> None:
        if event.name != HANG_UP_TOOL:
            self._fault("unknown_tool", event.name)
            self._session.tool_result(event.tool_call_id, '{"error":"there is no such tool"}', failed=True)
            return
        self._hanging_up = True
        self._cancel_parting()
        self._session.tool_result(event.tool_call_id, '{"result":"say goodbye; the call ends then"}')
        self._parting = self._loop.call_later(self._plan.reply_timeout_s, self._part_by_tool)

    def _part_by_tool(self) -> None:
        self._break(Ending.AGENT_HUNG_UP, "by its tool")

    def _cancel_parting(self) -> None:
        """The goodbye has begun, or the tool's own reply has ended: wait for what follows."""
        if self._parting is not None:
            self._parting.cancel()
            self._parting = None

    # ------------------------------------------------------------ a session that broke

    def _on_lost(self) -> None:
        in_reply = self._down_reply is not None or self._unanswered > 0 or self._is_owed
        if self._down_reply is not None:
            self._complete(self._down_reply)
        self._expect_nothing()
        self._paused = False  # The next connection reads.
        self._recovery.lost(in_reply=in_reply)

    def _on_back(self) -> None:
        if not self._recovery.back():
            return
        if self._plan.greeting is not None and not self._heard_from:
            self._greet_again(self._plan.greeting)
        else:
            self._session.request_reply(_BACK)
        self._expect_reply()

    def _greet_again(self, greeting: Greeting) -> None:
        """The first one was lost with its session before anybody heard of it."""
        if greeting.verbatim:
            self._session.say(greeting.text)
        else:
            self._session.request_reply(greeting.text)

    # ------------------------------------------------------------ an agent that owes an answer

    def _on_caller_stopped(self) -> None:
        """A cough may rightly stay unanswered, so one silence proves nothing; several turns in a row do."""
        self._unanswered += 1
        if self._owed is None and self._unanswered >= UNANSWERED_TURNS:
            self._expect_reply()

    def _expect_reply(self) -> None:
        self._expect_nothing()
        if self._held:
            self._owed_on_hold = True
        else:
            self._owed = self._loop.call_later(self._plan.reply_timeout_s, self._on_no_reply)

    @property
    def _is_owed(self) -> bool:
        return self._owed is not None or self._owed_on_hold

    def _expect_nothing(self) -> None:
        self._owed_on_hold = False
        if self._owed is not None:
            self._owed.cancel()
            self._owed = None

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
                self._talking = self._ready.done()
                if not self._answered.done():
                    self._answered.set_result(None)
            case Dtmf():
                self._dtmf_count += 1
                self._session.send_text(
                    f"[DTMF] caller pressed {event.digit}", role=TextRole.CALLER, respond=True
                )
            case Held():
                owed = self._is_owed
                self._expect_nothing()
                self._held, self._owed_on_hold = True, owed
            case Resumed():
                self._held = False
                if self._owed_on_hold:
                    self._expect_reply()
            case LegEnded():
                self._talking = False
                if not self._over.done():
                    self._over.set_result(event)
            case TransferRinging() | TransferAnswered() | TransferFailed():
                pass
            case DtmfSent() | DtmfFailed() | MediaLost() | MediaBack():
                pass
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
        if self._plan.greeting is not None:
            self._session.greet(self._plan.greeting)
        session = asyncio.create_task(self._session.run(self.on_agent_event), name="session")
        try:
            return self._summary(await self._live(session))
        finally:
            self._deaf = True
            self._expect_nothing()
            self._recovery.stop()
            self._cancel_parting()
            self._leg.hang_up()
            await _ended(session, self._session.close)
            await _first(self._over, timeout_s=HANG_UP_S)

    async def _live(self, session: asyncio.Task[SessionEnd]) -> SessionEnd:
        """Ring, answer, talk, part; returns why it ended."""
        sides: list[asyncio.Future[Any]] = [session, self._broken, self._over, self._end_asked]
        await _first(self._ready, *sides)
        if not self._over.done() and not self._end_asked.done():
            self._leg.answer()
            self._accepted = True
            if not self._failed(session):
                await _first(self._answered, *sides)
            if not self._failed(session) and self._answered.done() and not self._over.done():
                self._talking = self._ready.done()
                self._log.info("answered", ms=round(self._ms()))
                await _first(*sides)
        end = self._verdict(session)
        self._talking = False
        self._expect_nothing()
        self._recovery.stop()
        await self._part(end)
        return end

    def _failed(self, session: asyncio.Task[SessionEnd]) -> bool:
        return session.done() or self._broken.done()

    def _verdict(self, session: asyncio.Task[SessionEnd]) -> SessionEnd:
        """The side that ended first, the leg before the session: nobody is there to hear the rest."""
        if self._over.done():
            ended = self._over.result()
            return SessionEnd(ended.ending, ended.detail)
        if self._broken.done():
            return self._broken.result()
        if session.done():
            return self._session_end(session)
        return SessionEnd(Ending.DRAINED)

    def _session_end(self, session: asyncio.Task[SessionEnd]) -> SessionEnd:
        """An exception here is a bug of ours: the log gets its traceback, the caller an apology."""
        if (error := session.exception()) is not None:
            self._log.error("session_bug", exc_info=error)
            return SessionEnd(Ending.INTERNAL_ERROR, type(error).__name__)
        return session.result()

    async def _part(self, end: SessionEnd) -> None:
        """Last words: the agent's own goodbye, or our apology in its place; then hang up."""
        if self._over.done():
            return
        if not self._accepted and end.ending is Ending.DRAINED:
            self._leg.reject(503, retry_after_s=RETRY_AFTER_S)
            return
        if self._answered_ns is None:
            await _first(self._answered, self._over, timeout_s=HANG_UP_S)
        await self._played_out(_LAST_WORDS_MS.get(end.ending, LAST_WORDS_MS))
        if end.ending is not Ending.AGENT_HUNG_UP and self._plan.apology:
            self._log.warning("apology", ending=end.ending.value, detail=end.detail[:200])
            await self._apologise()
        self._leg.hang_up()
        await _first(self._over, timeout_s=HANG_UP_S)

    async def _apologise(self) -> None:
        """Behind an emptied queue; nothing that the agent still sends may cut it or follow it."""
        self._deaf = True
        self._playout.flush()
        self._own.say(self._plan.apology)
        await self._played_out(self._playout.queued_ms + 1000)

    async def _played_out(self, limit_ms: int) -> None:
        if self._playout.idle:
            return
        self._drained.clear()
        drained = asyncio.create_task(self._drained.wait())
        try:
            await _first(drained, self._over, timeout_s=limit_ms / 1000)
        finally:
            drained.cancel()

    def _ms(self) -> float:
        return (self._clock() - self._started_ns) / 1e6

    def _since_start(self, at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - self._started_ns) / 1e6

    def _summary(self, end: SessionEnd) -> CallSummary:
        return CallSummary(
            facts=self._leg.facts,
            ending=end.ending,
            detail=end.detail,
            duration_ms=self._ms(),
            answered_ms=self._since_start(self._answered_ns),
            session_ready_ms=self._since_start(self._ready_ns),
            turns=self._turns.turns,
            playout=self._playout.totals,
            rate_hz=self._leg.format.rate_hz,
            quality=self._leg.quality(),
            uplink_dropped_ms=self._session.uplink_dropped_ms,
            dtmf_count=self._dtmf_count,
            session_losses=self._recovery.losses,
            faults=self._faults,
        )


async def _first(*waits: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Until one of them is done. They are left as they are."""
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _ended(session: asyncio.Task[SessionEnd], close: Callable[[], None]) -> None:
    """Close in good order, then by force."""
    close()
    await asyncio.wait([session], timeout=HANG_UP_S)
    if not session.done():
        session.cancel()
        await asyncio.wait([session])
