"""Error codes and close codes of the AssemblyAI Voice Agent API, and what each end means.

Pages: voice-agent-api/events-reference, troubleshooting; codes come in capitals on the pages and in lower
case from live servers, so they are compared in lower case.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from telbridge.call.events import Ending, SessionEnd

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

_NORMAL: Final = 1000
_POLICY: Final = 1008
_BROKEN: Final = frozenset({None, 1001, 1005, 1006, 1011, 1012, 1013, 1014})
"""Close codes (RFC 6455 §7.4.1 and its registry) of a fault that is not ours."""

_MOST_REASON: Final = 200

_REMEDY: Final = {
    400: "the API took the request for malformed; check url and the token settings",
    401: "the API key was refused; check the key",
    403: "the API key may not do this; check the account",
    404: "no such address, or (seen live, of a token) no such key; check url and the key",
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
        told = f"close {code}: {reason}" if code is not None and reason else reason
        detail = (told or ("connection lost" if code is None else f"close {code}"))[:_MOST_REASON]
        if self.fault:
            detail = f"{detail}; {self.fault}"
        if self.refused or self.fault in KEY:
            return SessionEnd(Ending.AGENT_REFUSED, detail)
        if self.ended:
            return SessionEnd(Ending.AGENT_HUNG_UP, detail)
        lost = Ending.AGENT_LOST if self.ready or self.ever_ready else Ending.AGENT_UNREACHABLE
        if self.fault:
            return SessionEnd(lost, detail, may_reconnect=self.fault in RETRY | RESUME)
        if code == _NORMAL and self.ready:
            return SessionEnd(Ending.AGENT_HUNG_UP, detail)
        if code == _POLICY and not self.resuming:
            return SessionEnd(lost if self.ready else Ending.AGENT_REFUSED, detail)
        return SessionEnd(lost, detail, may_reconnect=self.resuming or code in _BROKEN)


def is_of_an_update(code: str, message: str) -> bool:
    """Whether an error refuses a session.update. An invalid_format may; not one that says the whole message
    is unknown to the server."""
    return code in UPDATE or (code == "invalid_format" and "unknown message type" not in message.lower())


def judged_status(status: int | None, what: str) -> SessionEnd:
    """Of an HTTP answer that is not the wanted one; None: no answer came."""
    if status is None:
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"no answer {what}", may_reconnect=True)
    if status in _REMEDY:
        return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status} {what}: {_REMEDY[status]}")
    again = status == 429 or status >= 500
    return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} {what}", may_reconnect=again)


def token_in(body: bytes) -> str | None:
    """Of the token endpoint's answer."""
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = answer.get("token") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and found else None
