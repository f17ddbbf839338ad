"""What Deepgram's Voice Agent does when time passes: it ends a silent session and warns of the longest one's
end. All times in ns of the shell's clock."""

from __future__ import annotations

from typing import Final

WARNING_BEFORE_END_NS: Final = 300_000_000_000
"""5 minutes (developers.deepgram.com/docs/voice-agent-errors-warnings)."""


class Patience:
    """The times of one session."""

    def __init__(self, now_ns: int, timeout_ms: int, ends_ns: int | None) -> None:
        """`timeout_ms`: the longest that the client may be silent. `ends_ns`: None: no end, no warning."""
        self._timeout_ns = timeout_ms * 1_000_000
        self._heard_ns = now_ns
        self._check_ns = now_ns + self._timeout_ns
        warn_ns = None if ends_ns is None else ends_ns - WARNING_BEFORE_END_NS
        # A session that is shorter than that has no such warning.
        self._warn_ns = warn_ns if warn_ns is not None and warn_ns > now_ns else None

    def heard(self, now_ns: int) -> None:
        """The client has sent something. The deadline moves only when it has passed: a new timer for each
        frame of the caller would be dear."""
        self._heard_ns = now_ns

    def deadline_ns(self) -> int:
        return self._check_ns if self._warn_ns is None else min(self._check_ns, self._warn_ns)

    def is_over(self, now_ns: int) -> bool:
        """The client has been silent for too long."""
        self._check_ns = self._heard_ns + self._timeout_ns
        return now_ns >= self._check_ns

    def end_is_near(self, now_ns: int) -> bool:
        """True once, when it is time for the warning."""
        if self._warn_ns is None or now_ns < self._warn_ns:
            return False
        self._warn_ns = None
        return True
