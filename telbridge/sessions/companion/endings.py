"""How a Companion session ends: events, close codes, HTTP statuses, and what each means for the call.

The vendor documents the names of close reasons (GET /public/sessions/{id}, `closeReason`), not the codes of
the close frame: a reason is believed first, then the code is judged by its general meaning (RFC 6455 §7.4).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from telbridge.call.events import Ending, SessionEnd
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.endings import NORMAL, of_close, of_status
from telbridge.sessions.wire import optional_text

_AUTHORIZATION: Final = frozenset({4001, 4003, 4401, 4403})

_ENDED: Final = ("idle_timeout", "connection_closed", "connection_aborted", "no_answer", "rejected")
_REFUSED: Final = ("no_credits_left", "invalid_voice", "invalid_credentials", "instructions_too_long")
_RENEWABLE: Final = (
    "connection_timeout",
    "session_expired",
    "provider_connection_aborted",
    "function_connection_failed",
    "function_connection_lost",
    "avatar_allocation_failed",
    "session_initialization_failed",
    "initialization_failed",
    "application_shutdown",
)
_MOST_CODE: Final = 100

_REMEDY: Final = {
    401: "the token was refused, for it is used up or too old",
    403: "the token may not open this session",
    404: "no such session any more",
}

_ABORT_REMEDY: Final = {
    "invalid_voice": "the voice does not exist; check providerConfig.voiceId",
    "invalid_credentials": "the vendor's own key for the model was refused; tell the vendor",
    "instructions_too_long": "the instructions are too long; shorten them",
}


def closed(code: int | None, reason: str, *, was_ready: bool, idle_warned: bool) -> SessionEnd:
    """Of a WebSocket that no event had announced the end of."""
    end = of_close(code, reason, ready=was_ready)
    if any(name in reason for name in _REFUSED) or code in _AUTHORIZATION:
        ending = Ending.AGENT_LOST if was_ready else Ending.AGENT_REFUSED
        end = SessionEnd(ending, end.detail)
    elif any(name in reason for name in _RENEWABLE):
        ending = Ending.AGENT_LOST if was_ready else Ending.AGENT_UNREACHABLE
        end = SessionEnd(ending, end.detail, may_reconnect=True)
    elif any(name in reason for name in _ENDED):
        ending = Ending.AGENT_HUNG_UP if was_ready else Ending.AGENT_UNREACHABLE
        end = SessionEnd(ending, end.detail)
    return replace(end, detail=f"{end.detail}; after an idle warning") if idle_warned else end


def closed_by_api(code: int | None) -> bool:
    """Whether the API has ended the session itself, so that nothing is left to delete."""
    return code in NORMAL


def refused(status: int) -> SessionEnd:
    """Of an HTTP status that came instead of the WebSocket."""
    return of_status(status, _REMEDY)


def expired(*, was_ready: bool) -> SessionEnd:
    """`session_expired`: a new session may carry the conversation on."""
    ending = Ending.AGENT_LOST if was_ready else Ending.AGENT_UNREACHABLE
    return SessionEnd(ending, "session_expired", may_reconnect=True)


def out_of_credits() -> SessionEnd:
    """`no_credits_left`."""
    return SessionEnd(Ending.AGENT_REFUSED, "no_credits_left: the vendor's account is empty")


def aborted(code: str, *, was_ready: bool) -> SessionEnd:
    """`provider_connection_aborted`: the model behind the API is gone. Only a failed connection, or a
    cause that we do not know, is worth another try."""
    remedy = _ABORT_REMEDY.get(code)
    if remedy is not None:
        return SessionEnd(Ending.AGENT_REFUSED, f"provider_connection_aborted, {code}: {remedy}")
    ending = Ending.AGENT_LOST if was_ready else Ending.AGENT_UNREACHABLE
    return SessionEnd(ending, f"provider_connection_aborted, {code}", may_reconnect=True)


def fault_of(data: Json) -> tuple[str, str]:
    """Code and message of an error in an event, wherever they stand."""
    error = data.get("error")
    if isinstance(error, str):
        return error[:_MOST_CODE], ""
    table = error if isinstance(error, dict) else data
    code = optional_text(table, "code") or optional_text(table, "type") or "unknown"
    return code[:_MOST_CODE], optional_text(table, "message") or ""
