"""How an Azure Voice Live session is opened, and how its end is judged.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" and "How to use the Voice Live API"
(endpoint, authentication). Close codes and HTTP statuses are not documented: theirs is the general meaning,
and what is unknown is worth another try.
"""

from __future__ import annotations

from typing import Final

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.azure.entra import TOKEN_VARIABLE
from telbridge.sessions.azure.session import address_with_query
from telbridge.sessions.azure.settings import NAME, AzureSettings
from telbridge.sessions.azure.vocabulary import BROKEN_CONTRACT, REMEDY, State
from telbridge.sessions.base import ConnectRequest, Opening
from telbridge.sessions.credentials import SecretMissing, SecretRef

_NORMAL: Final = 1000


def connect_step(settings: AzureSettings, opening: Opening) -> ConnectRequest | SessionEnd:
    """Where to connect, with the credential in a header, never in the address. SecretMissing."""
    headers = credential(settings, opening)
    if settings.address is None:
        return SessionEnd(Ending.AGENT_REFUSED, "no Azure resource is named: write resource or url")
    # Azure's support finds a session by it.
    headers["x-ms-client-request-id"] = opening.call_id
    return ConnectRequest(address_with_query(settings, settings.address, opening.environ), headers)


def credential(settings: AzureSettings, opening: Opening) -> dict[str, str]:
    """The header that proves who we are. An agent on this machine gets only what was named for it, and
    only if that is there: the vendor's key is nobody else's business. SecretMissing."""
    if settings.entra:
        source, key, head = SecretRef(env=TOKEN_VARIABLE), "entra", "Bearer "
    elif settings.bearer_token is not None:
        source, key, head = settings.bearer_token, "bearer_token", "Bearer "
    else:
        source, key, head = settings.api_key, "api_key", ""
    if settings.is_on_this_machine and key not in settings.model_fields_set:
        return {}
    try:
        secret = source.resolve(f"{NAME}.{key}", opening.environ)
    except SecretMissing:
        if settings.is_on_this_machine:
            return {}
        raise
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        what = "it is empty, or holds a space, a line break or a character that no key has"
        raise SecretMissing(f"{NAME}.{key}", what, "store the key alone")
    return {"Authorization": f"{head}{secret}"} if head else {"api-key": secret}


def judge_close(state: State, refusal: str, code: int | None, reason: str) -> SessionEnd:
    """See `AgentProtocol.closed`. `refusal`: the code of what refused our configuration."""
    if code is None:
        detail = reason or "connection lost"
    else:
        detail = f"close {code}: {reason}" if reason else f"close {code}"
    if state is State.REFUSED:
        return SessionEnd(Ending.AGENT_REFUSED, f"configuration refused: {refusal}")
    again = code not in BROKEN_CONTRACT
    if state in (State.CONNECTING, State.CONFIGURING):
        again = again and code != _NORMAL
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"{detail}; while {state.value}", may_reconnect=again)
    if state is State.EXPIRED:
        return SessionEnd(Ending.AGENT_LOST, f"{detail}; session_expired", may_reconnect=True)
    if code == _NORMAL:
        return SessionEnd(Ending.AGENT_HUNG_UP, detail)
    return SessionEnd(Ending.AGENT_LOST, detail, may_reconnect=again)


def judge_status(status: int) -> SessionEnd:
    """See `AgentProtocol.refused`. 429 is the quota of new connections a minute."""
    if status in REMEDY:
        return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status}: {REMEDY[status]}")
    passing = status in (408, 429) or status >= 500
    detail = f"HTTP {status} instead of a WebSocket"
    return SessionEnd(Ending.AGENT_UNREACHABLE, detail, may_reconnect=passing)
