"""Error codes and close codes of the AssemblyAI Voice Agent API, and what each end means.

Pages: voice-agent-api/events-reference, troubleshooting; codes come in capitals on the pages and in lower
case from live servers, so they are compared in lower case.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.endings import described, of_close, of_status, remedies

RETRY: Final = frozenset(
    {"at_capacity", "concurrency_exceeded", "server_error", "internal_error", "agent_timeout"}
)
"""The next attempt may well succeed."""
EXPIRED: Final = "session_expired"
RESUME: Final = frozenset({"session_not_found", "session_forbidden", EXPIRED})
KEY: Final = frozenset({"unauthorized", "forbidden"})
AUDIO: Final = frozenset({"invalid_audio", "audio_rate_violation"})
"""One frame was lost; nothing else happened."""
UPDATE: Final = frozenset({"immutable_field", "invalid_value", "invalid_config", "agent_id_not_first"})
FATAL: Final = RETRY | RESUME | KEY | {"agent_init_failed", "agent_not_found"}
"""The API closes after these."""

_REMEDY: Final = {
    **remedies(key="api_key", rights="the account's", request="url and the token settings"),
    404: "no such address, or (seen live, of a token) no such key; check url and api_key",
    422: "a parameter is missing or out of range, or the key is missing; check the token settings",
}


@dataclass(slots=True)
class Fate:
    """What an end is judged by."""

    ready: bool = False
    """This connection's session had been ready."""
    ever_ready: bool = False
    """So had an earlier one of the same call."""
    resuming: bool = False
    refused: bool = False
    ended: bool = False
    """session.ended came, or we said goodbye."""
    fault: str = ""
    """The last fatal error code."""

    def judged(self, code: int | None, reason: str) -> SessionEnd:
        """See `AgentProtocol.closed`."""
        detail = described(code, reason)
        if self.fault:
            detail = f"{detail}; {self.fault}"
        if self.refused or self.fault in KEY:
            return SessionEnd(Ending.AGENT_REFUSED, detail)
        if self.ended:
            return SessionEnd(Ending.AGENT_HUNG_UP, detail)
        lost = Ending.AGENT_LOST if self.ready or self.ever_ready else Ending.AGENT_UNREACHABLE
        if self.fault:
            return SessionEnd(lost, detail, may_reconnect=self.fault in RETRY | RESUME)
        if self.resuming:  # Whatever is wrong with the old session: a new one may do.
            return SessionEnd(lost, detail, may_reconnect=True)
        end = of_close(code, reason, ready=self.ready)
        lost_again = end.ending is Ending.AGENT_UNREACHABLE and self.ever_ready
        return replace(end, ending=Ending.AGENT_LOST) if lost_again else end


def is_of_an_update(code: str, message: str) -> bool:
    """Whether an error refuses a session.update. An invalid_format may; not one that says the whole message
    is unknown to the server."""
    return code in UPDATE or (code == "invalid_format" and "unknown message type" not in message.lower())


def judged_status(status: int | None, what: str) -> SessionEnd:
    """Of an HTTP answer that is not the wanted one; None: no answer came."""
    return of_status(status, _REMEDY, what=what)


def token_in(body: bytes) -> str | None:
    """Of the token endpoint's answer."""
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = answer.get("token") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and found else None
