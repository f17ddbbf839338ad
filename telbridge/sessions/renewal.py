"""When a session that will soon be too old is left for a new one: when nobody would notice. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    ReplyDone,
    ReplyId,
    SessionExpiring,
    ToolCall,
    ToolCallCancelled,
)

QUIET_NS: Final = 2_000_000_000
"""So long nobody has said anything, and nothing is owed."""
AT_LAST_NS: Final = 5_000_000_000
"""So long before its end a session is left in any case: a new one a moment later is better than none."""


class Renewal:
    """Of one connection's session."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        """The latest moment; None: the session need not be renewed."""
        self._quiet_since_ns = 0
        self.speaking: Final[set[ReplyId]] = set()
        """Replies that have begun: more audio of them is no news to `heed`."""
        self._tools: set[str] = set()
        self._caller_speaks = False

    def heed(self, event: AgentEvent, now_ns: int) -> None:
        """Whatever the session tells the call."""
        match event:
            case SessionExpiring(in_s, of_age=True):
                self._last_ns = now_ns + int(in_s * 1e9) - AT_LAST_NS
                return
            case AgentAudio(reply):
                self.speaking.add(reply)
            case ReplyDone(reply):
                self.speaking.discard(reply)
            case CallerStartedSpeaking():
                self._caller_speaks = True
            case CallerStoppedSpeaking():
                self._caller_speaks = False
            case ToolCall(call_id):
                self._tools.add(call_id)
            case ToolCallCancelled(call_id):
                self._tools.discard(call_id)
            case _:
                return
        self._quiet_since_ns = now_ns

    def answered(self, call_id: str, now_ns: int) -> None:
        """A tool's result went out: the agent will speak of it."""
        self._tools.discard(call_id)
        self._quiet_since_ns = now_ns

    def asked(self, now_ns: int) -> None:
        """The agent was asked for something."""
        self._quiet_since_ns = now_ns

    def due_ns(self) -> int | None:
        """When the session is to be left, as far as it is known now; None: it is not."""
        if self._last_ns is None:
            return None
        if self.speaking or self._tools or self._caller_speaks:
            return self._last_ns
        return min(self._last_ns, self._quiet_since_ns + QUIET_NS)
