"""What becomes of the session: ready, lost and got back, and what its API tells of itself."""

from __future__ import annotations

from typing import Any, Final, assert_never

from telbridge.call.downlink import Downlink
from telbridge.call.events import (
    AgentError,
    AgentLatency,
    AgentWarning,
    ApiNotice,
    BadMessage,
    Ending,
    SessionBack,
    SessionExpiring,
    SessionLost,
    SessionNews,
    SessionReady,
    SessionUpdated,
    Unknown,
    UpdateRefused,
)
from telbridge.call.greeter import Greeter
from telbridge.call.journal import Note
from telbridge.call.moments import Moments, comes
from telbridge.call.owed import Owed
from telbridge.call.record import Record
from telbridge.call.recovery import Recovery
from telbridge.call.seat import Seat
from telbridge.call.turns import TurnBook
from telbridge.call.way import Way

_BACK: Final = (
    "The line between you and the caller was interrupted for a moment. "
    "Say sorry in a few words, then go on where you were."
)


class SessionEvents:
    """Of who sits in the agent's seat."""

    def __init__(
        self,
        way: Way,
        downlink: Downlink,
        turns: TurnBook,
        moments: Moments,
        greeter: Greeter,
        owed: Owed,
        recovery: Recovery,
        record: Record,
        *,
        tell: Note,
        log: Any,
    ) -> None:
        """`tell`: events by their name in a dialplan."""
        self._way, self._downlink, self._turns, self._moments = way, downlink, turns, moments
        self._greeter, self._owed, self._recovery, self._record = greeter, owed, recovery, record
        self._tell, self._log = tell, log

    def take(self, seat: Seat, event: SessionNews) -> None:
        match event:
            case SessionReady():
                self._on_ready(seat, event)
            case SessionLost():
                self._on_lost(seat, event)
            case SessionBack():
                self._on_back(seat)
            case _:
                self._on_notice(event)

    def _on_ready(self, seat: Seat, event: SessionReady) -> None:
        """The greeting is asked for while the phone still rings; playout holds it until somebody hears it."""
        if self._moments.ready.done():
            return
        self._record.ready_ns = event.at_ns
        seat.arrived(event.at_ns)
        comes(self._moments.ready, None)
        self._way.note_talking()
        if self._greeter.by_agent:
            self._owed.expect()
        self._tell("agent_ready")

    def _on_lost(self, seat: Seat, event: SessionLost) -> None:
        in_reply = seat.reply is not None or self._owed.waited_for
        if seat.reply is not None:
            self._way.complete(seat.reply)
        seat.lost()
        self._owed.nothing()
        self._way.paused = False  # The next connection reads.
        self._recovery.lost(in_reply=in_reply)
        self._downlink.utterances.lost()
        self._tell("session_lost", error=event.detail)

    def _on_back(self, seat: Seat) -> None:
        missed = self._recovery.back()
        self._tell("session_back")
        if not missed:
            return
        if self._greeter.by_agent and not self._way.heard_from:
            self._greeter.ask_again(seat.session)
        else:
            seat.session.request_reply(_BACK)
        self._owed.expect()

    def _on_notice(self, event: ApiNotice) -> None:
        """What the API tells of itself."""
        match event:
            case AgentError():
                self._record.fault("agent_error", event.code)
                if event.at_setup:
                    self._moments.break_off(Ending.AGENT_REFUSED, event.code)
            case BadMessage():
                self._record.fault("bad_message", event.what)
                if not self._moments.ready.done():
                    self._moments.break_off(
                        Ending.AGENT_UNREACHABLE, f"bad message before the session was ready: {event.what}"
                    )
            case AgentLatency():
                self._turns.server_latency(event.figures_ms)
            case AgentWarning():
                self._record.fault("agent_warning", event.code)
            case UpdateRefused():
                self._record.fault("update_refused", event.code)
                self._tell("update_refused", error=event.code)
            case SessionExpiring():
                self._log.info("session_expiring", in_s=round(event.in_s))
            case SessionUpdated():
                self._record.note("updated")
            case Unknown():
                self._record.fault("unknown_message", event.type)
            case _:
                assert_never(event)
