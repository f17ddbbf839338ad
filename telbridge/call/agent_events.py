"""What each of the agent's events does to the call: who speaks, what was said, which tool is called."""

from __future__ import annotations

from typing import Any

from telbridge.call.director import Director
from telbridge.call.downlink import Downlink
from telbridge.call.events import (
    AgentInterrupted,
    AgentNews,
    AgentTranscript,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    ToolCall,
    ToolCallCancelled,
)
from telbridge.call.goodbye import Goodbye
from telbridge.call.journal import Note
from telbridge.call.moments import Moments
from telbridge.call.owed import Owed
from telbridge.call.record import Record
from telbridge.call.seat import Seat
from telbridge.call.session_events import SessionEvents
from telbridge.call.turns import TurnBook
from telbridge.call.way import Way


class AgentEvents:
    """All but audio, which has its own way."""

    def __init__(
        self,
        way: Way,
        downlink: Downlink,
        turns: TurnBook,
        director: Director,
        moments: Moments,
        owed: Owed,
        goodbye: Goodbye,
        of_session: SessionEvents,
        record: Record,
        *,
        tell: Note,
        log: Any,
    ) -> None:
        """`tell`: events by their name in a dialplan."""
        self._way, self._downlink, self._turns, self._director = way, downlink, turns, director
        self._moments, self._owed, self._goodbye = moments, owed, goodbye
        self._of_session, self._record = of_session, record
        self._tell, self._log = tell, log
        self._transcripts: dict[ReplyId, str] = {}

    def take(self, seat: Seat, event: AgentNews) -> None:
        """One event of who sits in the agent's seat, in order."""
        match event:
            case ReplyAudioDone():
                self._way.complete(event.reply)
            case CallerStartedSpeaking():
                self._on_caller_started(event)
            case CallerStoppedSpeaking():
                self._turns.caller_stopped(event.at_ns)
                self._tell("caller_stopped")
                self._owed.caller_stopped()
            case ReplyDone():
                self._on_reply_done(event)
            case CallerTranscript():
                self._turns.caller_said(event.text)
                self._tell("caller_said", text=event.text)
            case AgentTranscript():
                self._turns.agent_said(event.reply, event.text)
                self._downlink.narration.wrote(event.reply, event.text)
                self._transcripts[event.reply] = event.text
            case AgentInterrupted():
                self._silence_agent(event.at_ns)
            case ToolCall():
                self._on_tool_call(event)
            case ToolCallCancelled():
                self._director.tool_cancelled(event.tool_call_id)
            case _:
                self._of_session.take(seat, event)

    def _on_caller_started(self, event: CallerStartedSpeaking) -> None:
        """Silence first; what was heard goes to the API next; book-keeping last."""
        self._goodbye.take_back()
        if event.interrupts:
            self._silence_agent(event.at_ns)
        self._turns.caller_started(event.at_ns)
        self._tell("caller_speaking")

    def _silence_agent(self, at_ns: int) -> None:
        """Unless it is saying what must be heard: then the API heard something older than those words."""
        if self._downlink.utterances.protected:
            return
        heard = self._way.flush(at_ns, cut_by="api")
        if heard:
            self._log.info(
                "barge_in",
                heard_ms=sum(fate.heard_ms for fate in heard),
                discarded_ms=sum(fate.discarded_ms for fate in heard),
            )
            self._tell("interrupted")

    def _on_reply_done(self, event: ReplyDone) -> None:
        self._way.complete(event.reply)
        if text := self._transcripts.pop(event.reply, ""):
            self._tell("agent_said", text=text)
        if event.status is ReplyStatus.FAILED:
            self._record.fault("reply_failed", event.detail)
            self._moments.break_off(Ending.AGENT_LOST, f"the API failed to answer: {event.detail}")
        self._goodbye.reply_done()

    def _on_tool_call(self, event: ToolCall) -> None:
        if event.name not in self._director.plan.dialplan.tools:
            self._record.fault("unknown_tool", event.name)
        self._record.tool_called(event.tool_call_id, event.name)
        self._director.tool_called(event.tool_call_id, event.name, event.arguments)
