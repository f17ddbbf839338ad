"""How a Deepgram session ended: by the Error before the close, else by the close code.

Codes: developers.deepgram.com/docs/voice-agent-errors-warnings. Close codes are not documented for this
API: without an Error before it, a close is judged as with all of them (`endings`).
"""

from __future__ import annotations

from typing import Final

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions import endings
from telbridge.sessions.endings import remedies

MISCONFIGURED: Final = frozenset(
    {
        "UNPARSABLE_CLIENT_MESSAGE",
        "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS",
        "SETTINGS_ALREADY_APPLIED",
        "INVALID_SETTINGS",
        "NON_EXISTENT_FUNCTION_CALLED",
        "AGENT_ID_NOT_SUPPORTED",
        "INVALID_AGENT_ID",
        "USER_AUDIO_FORMAT",
    }
)
"""What we sent is wrong and would be wrong again."""
_UNCURED: Final = frozenset({"FAILED_TO_THINK", "FAILED_TO_SPEAK", "DATA-0002"})
"""A model or a voice, with all its fallbacks, does not work: the same one is behind a new connection."""

_REMEDY: Final = remedies(key="api_key, or access_token if that is set")


def may_be_retried(code: str) -> bool:
    """Whether a new connection can do better after this Error; a code that we do not know gets the chance."""
    return code not in MISCONFIGURED and code not in _UNCURED


def of_close(code: int | None, reason: str, *, error: str, ready: bool) -> SessionEnd:
    """`error`: code of the Error that came last, if the session has not gone on since."""
    if not error:
        return endings.of_close(code, reason, ready=ready)
    detail = f"{error}; {endings.described(code, reason)}"
    if error in MISCONFIGURED:
        return SessionEnd(Ending.AGENT_REFUSED, detail)
    lost = Ending.AGENT_LOST if ready else Ending.AGENT_UNREACHABLE
    return SessionEnd(lost, detail, may_reconnect=may_be_retried(error))


def judged_status(status: int | None, what: str = "instead of a WebSocket") -> SessionEnd:
    """An HTTP status instead of the upgrade or of a token; None: no answer came. 429: too many connections at
    once; the one that broke may still be counted for a moment."""
    return endings.of_status(status, _REMEDY, what=what)
