"""What a dialplan can have done in its call."""

from __future__ import annotations

from collections.abc import Callable

from telbridge.call.downlink import Downlink
from telbridge.call.events import Ending
from telbridge.call.goodbye import Goodbye
from telbridge.call.greeter import Greeter
from telbridge.call.moments import Moments
from telbridge.call.owed import Owed
from telbridge.call.ports import Leg, Session
from telbridge.call.recovery import Recovery
from telbridge.call.seating import Seating
from telbridge.call.taping import Taping
from telbridge.call.utterances import GREETING
from telbridge.call.way import Way
from telbridge.dialplan.orders import HangUp, Recorded, SwitchAgent


class Means:
    """The stage's `Actor`."""

    def __init__(
        self,
        leg: Leg,
        way: Way,
        downlink: Downlink,
        taping: Taping,
        moments: Moments,
        greeter: Greeter,
        seating: Seating,
        owed: Owed,
        goodbye: Goodbye,
        recovery: Recovery,
        *,
        said: Callable[[int], None],
        clock: Callable[[], int],
    ) -> None:
        """`said`: words are over before the agent heard of them."""
        self._leg, self._way, self._downlink, self._taping = leg, way, downlink, taping
        self._moments, self._greeter, self._seating = moments, greeter, seating
        self._owed, self._goodbye, self._recovery = owed, goodbye, recovery
        self._said, self._clock = said, clock
        self._caller_muted = self._discreet = self._transferring = False
        self.last_words = ""
        """What is said before we hang up, by the dialplan's wish."""

    # ------------------------------------------------------------ words

    @property
    def session(self) -> Session | None:
        return self._way.session

    @property
    def agent_can_say(self) -> bool:
        way, session = self._way, self._way.session
        return session is not None and way.talking and not self._recovery.lost_now and session.says_exactly

    def connect(self) -> None:
        self._downlink.connect()
        self._way.note_talking()
        if self._greeter.wav:
            self.play_words(GREETING, self._greeter.wav, barge_in=self._greeter.barge_in)

    def ask_words(self, order: int, text: str, *, barge_in: bool) -> None:
        session = self._way.session
        if session is None:
            self._said(order)
            return
        self._downlink.utterances.ask(order, barge_in=barge_in)
        session.say(text)
        self._owed.expect()

    def play_words(self, order: int, audio: bytes, *, barge_in: bool) -> None:
        if not self._way.deaf:
            self._downlink.utterances.own(order, self._downlink.say(audio), barge_in=barge_in)

    def stop_speech(self) -> None:
        if self._way.seat is not None and self._moments.ready.done():
            self._way.seat.session.interrupt()
        self._way.flush(self._clock(), cut_by="local")

    def drop_stale(self) -> None:
        """The caller was away and is back: what waited for them meanwhile is not said any more."""
        if self._downlink.playout.unfinished:
            self.stop_speech()

    def expect_reply(self) -> None:
        self._owed.expect()

    # ------------------------------------------------------------ who hears whom

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
            self._way.agent_muted = on
            if on:
                self._way.flush(self._clock())
        self._note_cover()

    def discreet(self, *, on: bool) -> None:
        self._discreet = on
        self._taping.masked(on=on, now_ns=self._clock())
        self._note_cover()

    def transferring(self, *, on: bool) -> None:
        self._transferring = on
        self._note_cover()

    def _note_cover(self) -> None:
        self._way.covered = self._caller_muted or self._discreet or self._transferring

    def record(self, what: Recorded) -> str | None:
        return self._taping.order(what, self._clock())

    # ------------------------------------------------------------ who is there

    async def switch(self, order: SwitchAgent) -> str | None:
        return await self._seating.switch(order)

    def hang_up(self, order: HangUp) -> None:
        if order.after_agent:
            self._goodbye.ask()
            return
        self.last_words = order.last_words
        self._moments.break_off(Ending.DIALPLAN_HUNG_UP, order.cause)
