"""How an Azure Voice Live session is opened, and how its end is judged.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" and "How to use the Voice Live API"
(endpoint, authentication). Close codes and HTTP statuses are not documented: theirs is the general meaning,
and what is unknown is worth another try.
"""

from __future__ import annotations

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.azure.entra import TOKEN_VARIABLE
from telbridge.sessions.azure.session import address_with_query
from telbridge.sessions.azure.settings import NAME, AzureSettings
from telbridge.sessions.azure.vocabulary import REMEDY, State
from telbridge.sessions.base import ConnectRequest, Opening
from telbridge.sessions.credentials import (
    SecretMissing,
    SecretRef,
    api_secret,
    fit_for_a_header,
    on_this_machine,
)
from telbridge.sessions.endings import described, of_close, of_status


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
    environ, url = opening.environ, settings.url or ""
    if settings.entra:
        key = f"{NAME}.entra"
        try:
            token = fit_for_a_header(SecretRef(env=TOKEN_VARIABLE).resolve(key, environ), key)
        except SecretMissing:
            if on_this_machine(url):
                return {}
            raise
        return {"Authorization": f"Bearer {token}"}
    if settings.bearer_token is not None:
        bearer = api_secret(settings, "bearer_token", environ, section=NAME, url=url)
        return {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    api_key = api_secret(settings, "api_key", environ, section=NAME, url=url)
    return {} if api_key is None else {"api-key": api_key}


def judge_close(state: State, refusal: str, code: int | None, reason: str) -> SessionEnd:
    """See `AgentProtocol.closed`. `refusal`: the code of what refused our configuration."""
    if state is State.REFUSED:
        return SessionEnd(Ending.AGENT_REFUSED, f"configuration refused: {refusal}")
    if state is State.EXPIRED:
        detail = f"{described(code, reason)}; session_expired"
        return SessionEnd(Ending.AGENT_LOST, detail, may_reconnect=True)
    return of_close(code, reason, ready=state is State.READY)


def judge_status(status: int) -> SessionEnd:
    """See `AgentProtocol.refused`. 429 is the quota of new connections a minute."""
    return of_status(status, REMEDY)
