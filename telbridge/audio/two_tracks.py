"""Two voices as the two channels of one recording, on one clock. Pure; every time is passed in.

Frames come at the pace of networks and of timers. A frame that is late still belongs right behind the one
before it; only what never comes is a gap, and silence in the recording. Which of the two it was shows by what
arrives within `WINDOW_MS`. A clock that is a little faster or slower than ours is followed where it is quiet.

Unit: samples since the recording began; audio is linear, 16 bit.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from telbridge.audio.level import peak_of

SNAP_MS: Final = 10
"""So far off its place a frame is taken for one that follows."""
WINDOW_MS: Final = 200
"""Frames that were late have caught up by then."""
GAP_MS: Final = 60
"""Less is a clock that goes slower than ours, and made up for where it is heard least; more is a gap."""
QUIET: Final = 100
"""Of 32767, -50 dBFS: what may go where a clock goes faster than ours."""


class Track:
    """One voice."""

    def __init__(self, rate_hz: int) -> None:
        self._snap, self._window, self._gap = (rate_hz * ms // 1000 for ms in (SNAP_MS, WINDOW_MS, GAP_MS))
        self._samples = bytearray()
        self._begin = 0
        """Where `_samples` begin: what was before has been taken."""
        self._waiting: list[bytes] = []
        self._waiting_samples = 0
        self._since = self._latest = 0
        """The places that the clock gave to the first and the last that wait."""
        self._behind = self._least_behind = 0
        """How far the last that waits, and the most punctual one, lie behind their places."""

    @property
    def end(self) -> int:
        """Behind all that has its place."""
        return self._begin + len(self._samples) // 2

    def follow(self, pcm: bytes, at: int) -> None:
        """A frame that begins at `at`, by a clock that may be late now and then."""
        if self._waiting and at > self._latest and self._decided(at):
            self._settle()
        behind = at - self.end - self._waiting_samples
        if not self._waiting and behind <= self._snap:
            self._samples += self._hurried(pcm, -behind)
            return
        if not self._waiting:
            self._since, self._least_behind = at, behind
        self._waiting.append(pcm)
        self._waiting_samples += len(pcm) // 2
        self._latest, self._behind = at, behind
        self._least_behind = min(self._least_behind, behind)

    def queue(self, pcm: bytes, at: int) -> None:
        """A frame that begins at `at`, or behind the last one if that is later: it was sent ahead."""
        self._fill(at)
        self._samples += pcm

    def take_back(self, samples: int) -> None:
        """The newest samples were not heard."""
        if samples > 0:
            del self._samples[max(0, len(self._samples) - 2 * samples) :]

    def cut(self, at: int) -> None:
        """Nothing counts that lies behind `at`."""
        self._settle()
        self.take_back(self.end - at)

    def take(self, until: int) -> bytes:
        """All up to `until` that was not taken before; silence where nothing came."""
        if self._waiting and until > self._since:
            self._settle()
        self._fill(until)
        count = 2 * max(0, until - self._begin)
        taken = bytes(memoryview(self._samples)[:count])
        del self._samples[:count]
        self._begin += len(taken) // 2
        return taken

    # ------------------------------------------------------------ inside

    def _decided(self, at: int) -> bool:
        return self._behind <= self._snap or at - self._since >= self._window

    def _settle(self) -> None:
        """Put what waits into its place."""
        waiting, self._waiting, self._waiting_samples = self._waiting, [], 0
        behind = self._least_behind
        if behind < -self._snap:
            audio = b"".join(waiting)
            self._samples += audio[-2 * behind :]  # More came late than can be kept: the oldest goes.
            return
        if behind >= self._gap:
            self._fill(self.end + behind)
        elif behind > self._snap:
            quietest = min(range(len(waiting)), key=lambda index: peak_of(waiting[index]))
            waiting.insert(quietest, bytes(2 * behind))
        self._samples += b"".join(waiting)

    def _fill(self, until: int) -> None:
        missing = until - self.end
        if missing > 0:
            self._samples += bytes(2 * missing)
            self._least_behind -= missing
            self._behind -= missing

    def _hurried(self, pcm: bytes, ahead: int) -> bytes:
        """Without what is too much, where it is quiet; at the latest when it has become a lot."""
        if ahead > self._gap or (ahead > self._snap and peak_of(pcm) < QUIET):
            return pcm[2 * ahead :]
        return pcm


class TwoTracks:
    """The caller left, the agent right."""

    def __init__(self, rate_hz: int) -> None:
        self.left: Final = Track(rate_hz)
        self.right: Final = Track(rate_hz)

    def take(self, until: int) -> bytes:
        """Both up to `until`, interleaved."""
        left, right = self.left.take(until), self.right.take(until)
        frames = np.empty((len(left) // 2, 2), "<i2")
        frames[:, 0] = np.frombuffer(left, "<i2")
        frames[:, 1] = np.frombuffer(right, "<i2")
        return frames.tobytes()
