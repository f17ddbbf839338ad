"""What the caller is hearing of us, and whether what comes back is only that.

The agent assumes that its audio is played from when it is sent, one stretch after the other, as the real
service does. Sound counts as its echo, not as a caller, when it is no louder than an echo can be: far
below the loudest that was just played (26 dB, an echo that no measure was needed for), or below the
echo of this line as it was measured. The measure is a normalised correlation of half a second of caller
audio with what was played up to 400 ms before; a caller's own speech stays below 0.3 there, echo is
above 0.6 even through a hybrid's filter.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import numpy as np

from telbridge.agent.levels import FLOOR_DBFS, Samples, rms_dbfs, to_samples

RATE_HZ: Final = 8_000
OBSERVED_SAMPLES: Final = 4_096
"""Caller audio that is compared with what was played: half a second, so that chance likeness stays low."""
LIKE_ECHO: Final = 0.45
HEADROOM_DB: Final = 8.0
"""An echo's loudest moment above its mean level, as against the same of what was played."""
_DECAY_DB: Final = 0.5  # an observation
_WORTH_OBSERVING_DBFS: Final = -40.0
_LEVEL_FRAME: Final = 160
_NS_PER_SAMPLE: Final = 125_000
_AHEAD_SAMPLES: Final = 800
"""Clocks of two machines and their jitter: the caller may be ahead of where we think the playout is."""


class _Stretch(NamedTuple):
    """Audio that is played without a gap."""

    start_ns: int
    samples: Samples

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.samples.size * _NS_PER_SAMPLE


class Playout:
    """The clock of what was sent."""

    def __init__(self, keep_ms: int) -> None:
        """`keep_ms`: how long after it was played a sound may still be asked for."""
        self._keep_ns = keep_ms * 1_000_000
        self._stretches: deque[_Stretch] = deque()

    def send(self, pcm_8k: bytes, now_ns: int) -> None:
        """This was sent now: it is played behind what was sent before."""
        self._forget(now_ns)
        start = max(now_ns, self._stretches[-1].end_ns if self._stretches else 0)
        self._stretches.append(_Stretch(start, to_samples(pcm_8k)))

    def cut(self, now_ns: int) -> None:
        """The client has thrown away what was not yet played; what was played may still echo."""
        kept: deque[_Stretch] = deque()
        for stretch in self._stretches:
            played = max(0, (now_ns - stretch.start_ns) // _NS_PER_SAMPLE)
            if played:
                kept.append(_Stretch(stretch.start_ns, stretch.samples[:played]))
        self._stretches = kept

    def ends_ns(self) -> int:
        """When the last of it has been played; 0 if nothing was sent."""
        return self._stretches[-1].end_ns if self._stretches else 0

    def speaks(self, now_ns: int) -> bool:
        return self.ends_ns() > now_ns

    def window(self, from_ns: int, samples: int) -> Samples:
        """What was played from a moment on; silence where nothing was."""
        window = np.zeros(samples, np.float32)
        for stretch in self._stretches:
            offset = (stretch.start_ns - from_ns) // _NS_PER_SAMPLE
            first, last = max(0, offset), min(samples, offset + stretch.samples.size)
            if first < last:
                window[first:last] = stretch.samples[first - offset : last - offset]
        return window

    def _forget(self, now_ns: int) -> None:
        while self._stretches and self._stretches[0].end_ns + self._keep_ns < now_ns:
            self._stretches.popleft()


class EchoJudge:
    """Says of caller audio whether the agent's own voice explains it. One for each call."""

    def __init__(self, playout: Playout, *, margin_db: float, delay_ms: int) -> None:
        self._playout = playout
        self._margin_db = margin_db
        self._delay_samples = delay_ms * RATE_HZ // 1000
        self._echo_db: float | None = None
        self._observations = 0

    @property
    def has_observed(self) -> bool:
        """False while a loud echo could not be known yet."""
        return self._observations > 0

    @property
    def echo_db(self) -> float | None:
        """Level of the echo against what was played, as measured; None where none was found."""
        return self._echo_db

    def observe(self, recent: Samples, now_ns: int) -> None:
        """Look for echo in OBSERVED_SAMPLES of caller audio up to now; costs half a millisecond."""
        if recent.size < OBSERVED_SAMPLES:
            return
        start_ns = now_ns - (recent.size + self._delay_samples) * _NS_PER_SAMPLE
        played = self._playout.window(start_ns, recent.size + self._delay_samples + _AHEAD_SAMPLES)
        if rms_dbfs(played) < _WORTH_OBSERVING_DBFS:
            return
        self._observations += 1
        like, echo_db = likeness(recent, played)
        if like < LIKE_ECHO:
            return
        # At once up, slowly down: an echo that is underestimated interrupts the agent.
        before = self._echo_db
        self._echo_db = echo_db if before is None else max(echo_db, before - _DECAY_DB)

    def is_echo(self, hop: Samples, now_ns: int) -> bool:
        """Whether these samples, the last up to now, are no louder than echo can be."""
        span = hop.size + self._delay_samples + _AHEAD_SAMPLES
        start_ns = now_ns - (hop.size + self._delay_samples) * _NS_PER_SAMPLE
        loudest = _loudest_dbfs(self._playout.window(start_ns, span))
        if loudest <= FLOOR_DBFS:
            return False
        known = -self._margin_db if self._echo_db is None else self._echo_db + HEADROOM_DB
        return rms_dbfs(hop) < loudest + max(known, -self._margin_db)


def _loudest_dbfs(samples: Samples) -> float:
    count = samples.size // _LEVEL_FRAME
    frames = samples[: count * _LEVEL_FRAME].reshape(count, _LEVEL_FRAME)
    power = float(np.einsum("ij,ij->i", frames, frames).max(initial=0.0)) / _LEVEL_FRAME
    return FLOOR_DBFS if power < 1e-9 else 10 * float(np.log10(power))


def likeness(part: Samples, whole: Samples) -> tuple[float, float]:
    """The best normalised correlation of `part` with a stretch of `whole` (1: the same sound, however
    loud), and the level of `part` against that stretch in dB."""
    size = 1 << (whole.size + part.size - 1).bit_length()
    spectrum = np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size))
    products = np.fft.irfft(spectrum, size)[: whole.size - part.size + 1]
    energy = np.concatenate([[0.0], np.cumsum(whole.astype(np.float64) ** 2)])
    windows = energy[part.size :] - energy[: -part.size]
    # Windows with next to nothing in them would be like everything.
    windows = np.maximum(windows, max(float(windows.max()) * 1e-2, 1e-9))
    own = max(float(np.dot(part, part)), 1e-9)
    likes = np.abs(products) / np.sqrt(windows * own)
    best = int(np.argmax(likes))
    return float(likes[best]), 10 * float(np.log10(own / windows[best]))
