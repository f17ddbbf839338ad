"""What each of the leg's events does to the call: answered, keys, hold, how a transfer went, the end."""

from __future__ import annotations

from typing import assert_never

from telbridge.call.director import Director
from telbridge.call.events import (
    Dtmf,
    DtmfFailed,
    DtmfSent,
    Held,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegReport,
    MediaBack,
    MediaLost,
    Resumed,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
)
from telbridge.call.journal import Note
from telbridge.call.means import Means
from telbridge.call.moments import Moments, comes
from telbridge.call.observer import Observer
from telbridge.call.owed import Owed
from telbridge.call.record import Record
from telbridge.call.stage import Stage
from telbridge.call.taping import Taping
from telbridge.call.way import Way


class LegEvents:
    """One call's, in order."""

    def __init__(
        self,
        way: Way,
        taping: Taping,
        stage: Stage,
        means: Means,
        director: Director,
        moments: Moments,
        owed: Owed,
        record: Record,
        *,
        tell: Note,
        observer: Observer,
    ) -> None:
        """`tell`: events by their name in a dialplan."""
        self._way, self._taping, self._stage, self._means = way, taping, stage, means
        self._director, self._moments, self._owed, self._record = director, moments, owed, record
        self._tell, self._observer = tell, observer

    def take(self, event: LegEvent) -> None:
        match event:
            case LegAnswered():
                self._on_answered(event.at_ns)
            case Dtmf():
                self._record.keys += 1
                self._observer.key(event.method)
                self._record.note("key", method=event.method)
                if not self._way.deaf:
                    self._director.key(event.digit, event.method, event.duration_ms)
            case Held():
                self._way.held = True
                self._owed.hold()
                self._tell("hold")
            case Resumed():
                self._way.held = False
                self._owed.resume()
                self._tell("resume")
            case LegEnded():
                self._way.talking = False
                comes(self._moments.over, event)
            case _:
                self._on_report(event)

    def _on_answered(self, at_ns: int) -> None:
        self._way.answered_ns = at_ns
        self._taping.answered(at_ns)
        if not self._moments.answered.done():
            comes(self._moments.answered, None)
            self._observer.answered()
            self._tell("answered")
        self._way.note_talking()

    def _on_report(self, event: LegReport) -> None:
        """What became of something that was asked of the leg, or of the caller's audio."""
        match event:
            case TransferRinging():
                self._stage.transfer_rings()
            case TransferAnswered():
                self._stage.transfer_over()
            case TransferFailed():
                if event.was_away:
                    self._means.drop_stale()
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
