"""All that the caller hears: the agent's speech, words of our own, music; and what has become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from telbridge.call.events import ReplyId
from telbridge.call.music import Music
from telbridge.call.narration import Narration
from telbridge.call.playout import OWN_WORDS, Heard, Playout
from telbridge.call.ports import Leg
from telbridge.call.taping import Taping
from telbridge.call.turns import TurnBook
from telbridge.call.utterances import Utterances

Frame = bytes | memoryview


class Downlink:
    """Before `connect` the caller hears the lobby, where only we speak; the agent waits meanwhile."""

    def __init__(
        self,
        leg: Leg,
        turns: TurnBook,
        taping: Taping,
        *,
        tell: Callable[[str], None],
        said: Callable[[int], None],
        clock: Callable[[], int],
    ) -> None:
        """`tell`: events by their name in a dialplan, never from within `pull`. `said`: utterances that are
        over, by token."""
        self._leg, self._turns, self._tell, self._clock = leg, turns, tell, clock
        self._loop = asyncio.get_running_loop()
        self._taping = taping
        self.playout: Final = Playout(leg.format, leg.frame_ms)
        self._lobby: Final = Playout(leg.format, leg.frame_ms)
        self.music: Final = Music(leg.format, self.playout.frame_bytes)
        self.utterances: Final = Utterances(said)
        self.narration: Final = Narration(leg.tell)
        self.connected = False
        self.audible = self._lobby
        """What the caller hears now."""
        self.more = False
        """Something is left behind the frame that `speech` gave."""
        self.drained: Final = asyncio.Event()
        """Set when all that was queued has been played."""
        self._last_own = OWN_WORDS
        self._sounding: ReplyId | None = None
        self._started: set[ReplyId] = set()
        self._agent_sounds = self._stopping = False

    # ------------------------------------------------------------ frames

    def pull(self, now_ns: int) -> Frame:
        """The next frame."""
        playout = self.audible
        frame = playout.pull()
        if playout.playing != self._sounding:
            self._note_change(playout, now_ns)
        return self._with_music(playout, frame) if self.music.on else frame

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> Frame | None:
        """See `Media.speech`."""
        playout = self.audible
        if ahead:
            if not playout.whole_frame_waits and not self.music.on:
                return None
            if playout.holds_back(standing_ms):
                self.more = True
                return None
        frame = playout.pull(standing_ms)
        if playout.playing != self._sounding:
            self._note_change(playout, now_ns)
        if self.music.on:
            self.more = True
            return self._with_music(playout, frame)
        self.more = playout.queued_octets > 0 or playout.fading
        return None if playout.starved else frame

    def _with_music(self, playout: Playout, frame: Frame) -> Frame:
        if playout.playing is not None:
            return self.music.under(frame)
        return self.music.frame() or frame if playout.idle else frame

    def _note_change(self, playout: Playout, now_ns: int) -> None:
        """Once where speech starts or stops, not once a frame."""
        before, playing = self._sounding, playout.playing
        self._sounding = playing
        if playing is None or self._stopping:
            self._stopping, before = False, None
            self._turns.silent(now_ns)
        if playing is None:
            if playout.idle:
                self.drained.set()
        else:
            if before is None:
                self._turns.sounds(now_ns)
            if playing < OWN_WORDS:
                self._note_agent(playing, now_ns)
        self._loop.call_soon(self.settle)

    def _note_agent(self, playing: ReplyId, now_ns: int) -> None:
        if not self._agent_sounds:
            self._agent_sounds = True
            self._loop.call_soon(self._tell, "agent_speaking")
        if playing not in self._started:
            self._started.add(playing)
            self._turns.agent_frame(playing, now_ns, max(now_ns, self._clock()))
            self._loop.call_soon(self.narration.began, playing, self._turns.turns)

    def settle(self) -> None:
        """What was asked for has been heard, and the agent has come to its end; told once."""
        self.utterances.settle(self._still_sounds)
        self.narration.settle(self._still_sounds)
        if self._agent_sounds and self.playout.playing is None and not self.playout.unfinished:
            self._agent_sounds = False
            self._tell("agent_stopped")

    def _still_sounds(self, reply: ReplyId) -> bool:
        return self.playout.holds(reply) or self._lobby.holds(reply)

    # ------------------------------------------------------------ speech

    def complete(self, reply: ReplyId) -> None:
        """Nothing more will come of it."""
        self.playout.complete(reply)
        self._leg.wake()
        self.utterances.began(reply)
        self.utterances.complete(reply)
        self.settle()

    def say(self, words: bytes) -> ReplyId:
        """Words of our own, in the leg's format, behind what is being said."""
        self._last_own = ReplyId(self._last_own + 1)
        playout = self.audible
        playout.append(self._last_own, words)
        playout.complete(self._last_own)
        self._leg.wake()
        return self._last_own

    def connect(self) -> None:
        """From the lobby to the agent; what was being said in the lobby is over."""
        self.connected = True
        self.audible = self.playout
        self._lobby.flush()
        self._leg.wake()

    def flush(self, now_ns: int, *, cut_by: str = "") -> list[Heard]:
        """Throw away all that would be heard; what had been heard of the agent's replies. `cut_by`: it is an
        interruption (`Interruption.by`)."""
        sounding = self.audible.playing is not None
        unplayed_ms = self._leg.flush()
        if (tape := self._taping.tape) is not None:
            tape.unplayed(unplayed_ms)
        heard = [fate for fate in self.playout.flush(unplayed_ms) if fate.reply < OWN_WORDS]
        self._lobby.flush(0 if self.connected else unplayed_ms)
        if heard and cut_by:
            self._turns.interrupted(heard, now_ns, cut_by)
            self._stopping = sounding and not unplayed_ms
            if unplayed_ms:  # The carrier threw it away: nothing more leaves.
                self._turns.silent(now_ns)
        self._agent_sounds = False
        self.narration.cut(heard, interrupted=cut_by == "api")
        self.utterances.cut()
        return heard
