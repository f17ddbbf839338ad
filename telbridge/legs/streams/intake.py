"""Whether a peer sends as a telephone would: neither nothing, nor more than real time. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.legs.drift import Drift

BURST_MS: Final = 10_000
"""After a stall of the network, so much may come at once."""
MESSAGES_PER_S: Final = 200
BURST_MESSAGES: Final = 2_000
DRIFT_EVERY: Final = 10
"""Messages between two looks at the peer's clock."""
DRIFT_AFTER_S: Final = 60.0


class Intake:
    """What one stream has sent since it started."""

    def __init__(self, format: AudioFormat, started_ns: int, timeout_s: float | None) -> None:
        """`timeout_s`: silence for so long means that the peer is gone; None: silence means nothing."""
        self._format, self._started_ns = format, started_ns
        self._timeout_ns = None if timeout_s is None else int(timeout_s * 1e9)
        self.messages = 0
        self.audio_messages = 0
        self.octets = 0
        self.drift: Final = Drift(DRIFT_AFTER_S)
        self.last_ns = started_ns

    def took(self, octets: int, now_ns: int) -> None:
        """One message of audio."""
        self.octets += octets
        if self.audio_messages % DRIFT_EVERY == 0:
            self.drift.note(round(self._format.ms_in(self.octets) * 1e6), now_ns)

    def silent_s(self, now_ns: int) -> float | None:
        """For how long nothing came, once that is too long."""
        silent_ns = now_ns - self.last_ns
        if self._timeout_ns is None or silent_ns < self._timeout_ns:
            return None
        return silent_ns / 1e9

    def flooding(self, now_ns: int) -> str | None:
        """What there is too much of, if so."""
        elapsed_ns = now_ns - self._started_ns
        if self._format.ms_in(self.octets) > elapsed_ns / 1e6 + BURST_MS:
            return "audio faster than real time"
        if self.messages > elapsed_ns * MESSAGES_PER_S / 1e9 + BURST_MESSAGES:
            return "too many messages"
        return None
