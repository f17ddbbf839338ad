"""How a Deepgram session ended: by the Error before the close, else by the close code.

Codes: developers.deepgram.com/docs/voice-agent-errors-warnings. Close codes are not documented for this
API: without an Error before it, a close counts as a lost connection, unless it is a normal one or one that
by RFC 6455 §7.4.1 blames what we sent.
"""

from __future__ import annotations

from typing import Final

from telbridge.call.events import Ending, SessionEnd

_NORMAL: Final = 1000
_BLAMES_US: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})

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

_REMEDY: Final = {
    400: "the API took the request for malformed; check url",
    401: "the key was refused; check api_key, or access_token if that is set",
    402: "the account has no credit; check the project's balance",
    403: "the key may not do this; check the key's permissions",
    404: "no such address; check url",
}


def may_be_retried(code: str) -> bool:
    """Whether a new connection can do better after this Error; a code that we do not know gets the chance."""
    return code not in MISCONFIGURED and code not in _UNCURED


def of_close(code: int | None, reason: str, *, error: str, ready: bool) -> SessionEnd:
    """`error`: code of the Error that came last, if the session has not gone on since."""
    closing = "" if code is None else f"close {code}"
    detail = ": ".join(part for part in (closing, reason) if part) or "connection lost"
    if error:
        detail = f"{error}; {detail}"
        if error in MISCONFIGURED:
            return SessionEnd(Ending.AGENT_REFUSED, detail)
        lost = Ending.AGENT_LOST if ready else Ending.AGENT_UNREACHABLE
        return SessionEnd(lost, detail, may_reconnect=may_be_retried(error))
    retry = code != _NORMAL and code not in _BLAMES_US
    if not ready:
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"{detail}; not configured yet", may_reconnect=retry)
    if code == _NORMAL:
        return SessionEnd(Ending.AGENT_HUNG_UP, detail)
    return SessionEnd(Ending.AGENT_LOST, detail, may_reconnect=retry)


def of_status(status: int) -> SessionEnd:
    """An HTTP status instead of the upgrade or of a token."""
    if status in _REMEDY:
        return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status}: {_REMEDY[status]}")
    # 429: too many connections at once; the one that broke may still be counted for a moment.
    retry = status == 429 or status >= 500
    return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} instead of a session", may_reconnect=retry)
