"""Delay that stands in the speech of a live agent after a stall, and how much of it may go. Pure.

An agent that delivers as fast as it is heard (an echo, an interpreter) is heard later for the rest of its
reply once silence stood in it: what came late stands in the queue, which never gets shorter. Who delivers
faster than that has a queue too, and is meant to. So three things come together before anything goes:

- silence stood inside this reply, and no more goes than that (`owed`): the lead that an agent has stays;
- for a window as much came as was played, and in small pieces: what waited swung little and did not rise;
- all that time more waited than is kept against jitter.
"""

from __future__ import annotations

from typing import Final

from telbridge.audio.formats import AudioFormat

WINDOW_FRAMES: Final = 25
KEPT_MS: Final = 30
"""Of what waits, so much stays."""
SWING_MS: Final = 250
"""Within a window what waits may go up and down by the pieces in which it comes; more is a burst."""
GAIN_MS: Final = 40
"""From one window to the next the least that waits may rise by this; more is an agent that is faster."""
EVERY_FRAMES: Final = 4
"""Speech is shortened no closer together than this."""
LITTLE_FRAMES: Final = 1
"""So short a delay is noticed by nobody, a cut in a vowel may be: it waits for a pause,"""
PAUSE_FRAMES: Final = 75
"""but no longer than so many frames."""
LEAD_MS: Final = 1_000
"""Who is further ahead than that, besides what is owed, is no live agent: nobody waits for its last word."""
SOON_FRAMES: Final = 250
MOST_WINDOWS: Final = 8
"""Who runs dry so soon after something went, and by no more than that, had needed it, and is watched for
twice as many windows the next time, up to these."""
JITTER_MS: Final = 200
"""A longer gap is a stall, against which nothing is kept."""


class Standing:
    """Of one playout. In octets of its format; a frame's time is a frame that is played."""

    def __init__(self, audio_format: AudioFormat, frame_bytes: int) -> None:
        self.owed = 0
        """Silence that stood inside the reply, less what has gone since."""
        self.surplus = 0
        """So much may go now, in whole frames."""
        self._frame = frame_bytes
        self._kept, self._swing, self._gain, self._lead, self._jitter = map(
            audio_format.bytes_for_ms, (KEPT_MS, SWING_MS, GAIN_MS, LEAD_MS, JITTER_MS)
        )
        self._windows = 1
        """To be calm before anything goes."""
        self._gone, self._since = 0, SOON_FRAMES
        """Since the last gap; frames since something went."""
        self._no_pause = 0
        """Frames for which a little has waited to go."""
        self._crumbs = 0
        """Silence inside the reply that makes no whole frame yet."""
        self._calm = self._frames = self._went = 0
        self._least = self._most = 0
        self._least_before: int | None = None

    def gap(self, octets: int) -> None:
        """So much silence stood inside the reply."""
        self.owed += octets
        needed = self._since < SOON_FRAMES and octets <= min(self._gone, self._jitter)
        self._windows = min(2 * self._windows, MOST_WINDOWS) if needed else max(1, self._windows // 2)
        self._gone, self._since = 0, SOON_FRAMES
        self._begin_anew()

    def jitter(self, octets: int, *, alone: bool) -> None:
        """So little silence stood inside the reply that it may be jitter; it, too, adds to the delay. Not
        `alone`: a gap is noted with it, and tells for itself how long to watch."""
        self._crumbs += octets
        whole = self._crumbs - self._crumbs % self._frame
        self.owed += whole
        self._crumbs -= whole
        if alone and self._since < SOON_FRAMES and self._gone:
            self._windows = min(2 * self._windows, MOST_WINDOWS)
            self._gone, self._since = 0, SOON_FRAMES
            self._begin_anew()

    def over(self) -> None:
        """So is the reply."""
        self.owed = self._crumbs = 0
        self._begin_anew()

    def waits(self, octets: int) -> None:
        """Before a frame is played, while anything is owed: so much is still to be heard, it included."""
        # As if nothing had gone since the window began.
        octets += self._went
        if not self._frames:
            self._least = self._most = octets
        elif octets < self._least:
            self._least = octets
        elif octets > self._most:
            self._most = octets
        self._frames += 1
        self._since += 1
        if self.surplus:
            self._no_pause += 1
        if self._frames == WINDOW_FRAMES:
            self._judge()

    @property
    def may_go(self) -> bool:
        """Whether now is the time to leave something out, if it is speech."""
        if self.surplus <= LITTLE_FRAMES * self._frame and self._no_pause < PAUSE_FRAMES:
            return False
        return self.surplus > 0 and self._since >= EVERY_FRAMES

    def went(self, octets: int) -> None:
        """So much was left out."""
        self.owed -= octets
        self.surplus -= octets
        self._went += octets
        self._gone += octets
        self._since = self._no_pause = 0

    def in_vain(self) -> None:
        """A frame waited for the next one, which did not come in time: nothing goes for a while."""
        self._begin_anew()

    def _judge(self) -> None:
        before, wait = self._least_before, self._least - self._went
        gaining = before is None or self._least > before + self._gain
        ahead = self._least - self._went - self.owed > self._lead
        burst = self._most - self._least > self._swing
        self._calm = 0 if gaining or ahead or burst else self._calm + 1
        self._least_before = wait
        calm = self._calm >= self._windows
        excess = max(0, min(self.owed, wait - self._kept)) if calm else 0
        self.surplus = excess - excess % self._frame
        if not self.surplus:
            self._no_pause = 0
        self._frames = self._went = 0

    def _begin_anew(self) -> None:
        self.surplus = self._calm = self._frames = self._went = self._no_pause = 0
        self._least_before = None
