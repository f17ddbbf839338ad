"""How an OpenAI Realtime session is opened and how its end is judged.

Sources: guides realtime-websocket and realtime on developers.openai.com (headers, query, client secrets);
close codes as published by others from live sessions: 1001 at the longest duration, 4000 for beta shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.openai.settings import OpenAISettings
from telbridge.sessions.openai.vocabulary import State
from telbridge.sessions.wire import Malformed, parse, text

_KEY: Final = "openai_realtime.api_key"
_AZURE_HOST: Final = ".openai.azure.com"

_REMEDY: Final = {
    400: "the API took the request for malformed; check url and model",
    401: "the API key was refused; check the key",
    403: "the API key may not do this; check the project's and the key's permissions",
    404: "no such address or model; check url and model",
}
_TOO_MANY: Final = 429
_BETA_SHAPE: Final = 4000
_NORMAL: Final = 1000
_OUR_FAULT: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes (RFC 6455 §7.4.1) that another connection would meet again. Not confirmed for this API."""
_APPLICATION_CODES: Final = 3000


class Opener:
    """The steps to a WebSocket: at once, or with a client secret that is fetched first."""

    def __init__(self, settings: OpenAISettings, environ: Mapping[str, str]) -> None:
        """SecretMissing if the API wants a key and there is none fit for a header."""
        self._settings = settings
        self._key = _find_key(settings, environ)
        self._client_secret: str | None = None
        self._failure: SessionEnd | None = None

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        if self._failure is not None:
            return self._failure
        if self._settings.client_secret_s is not None and self._client_secret is None:
            return self._secret_request(self._settings.client_secret_s)
        url = urlsplit(self._settings.url)
        query = {"model": self._settings.model, **dict(parse_qsl(url.query))}
        return ConnectRequest(
            urlunsplit(url._replace(query=urlencode(query))), self._headers(self._client_secret or self._key)
        )

    def http_answered(self, status: int | None, body: bytes) -> None:
        """The client secret, or why there is none."""
        if status != 200:
            self._failure = (
                judge_status(status)
                if status is not None
                else SessionEnd(Ending.AGENT_UNREACHABLE, "no client secret came", may_reconnect=True)
            )
            return
        try:
            self._client_secret = text(parse(body), "value")
        except Malformed as fault:
            self._failure = SessionEnd(Ending.AGENT_UNREACHABLE, f"client secret: {fault}")

    def _secret_request(self, seconds: int) -> HttpRequest:
        url = urlsplit(self._settings.url)
        address = url._replace(
            scheme="https" if url.scheme == "wss" else "http",
            path=url.path.rstrip("/") + "/client_secrets",
            query="",
        )
        return HttpRequest(
            "POST",
            urlunsplit(address),
            self._headers(self._key),
            {
                "expires_after": {"anchor": "created_at", "seconds": seconds},
                "session": {"type": "realtime", "model": self._settings.model},
            },
        )

    def _headers(self, key: str | None) -> dict[str, str]:
        """Never with `OpenAI-Beta`: the API then closes with 4000 after a good handshake."""
        named = {
            "OpenAI-Organization": self._settings.organization,
            "OpenAI-Project": self._settings.project,
            # Holds for one connection: it is sent with each.
            "OpenAI-Safety-Identifier": self._settings.safety_identifier,
        }
        headers = {name: value for name, value in named.items() if value is not None}
        host = urlsplit(self._settings.url).hostname or ""
        if key is not None and host.endswith(_AZURE_HOST) and self._client_secret is None:
            headers["api-key"] = key
        elif key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return headers


def _find_key(settings: OpenAISettings, environ: Mapping[str, str]) -> str | None:
    """An agent on this machine gets a key only if the settings name one, and if it is there: the vendor's
    key is nobody else's business."""
    if settings.on_this_machine and "api_key" not in settings.model_fields_set:
        return None
    try:
        key = settings.api_key.resolve(_KEY, environ)
    except SecretMissing:
        if settings.on_this_machine:
            return None
        raise
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SecretMissing(
            _KEY,
            "the API key is empty, or holds a space, a line break or a character that no key has",
            "write the key and nothing else there",
        )
    return key


def judge_status(status: int) -> SessionEnd:
    """An HTTP status instead of what was asked for."""
    remedy = _REMEDY.get(status)
    if remedy is not None:
        return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status}: {remedy}")
    again = status == _TOO_MANY or status >= 500
    return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} instead of a WebSocket", may_reconnect=again)


def judge_close(state: State, refusal: str, code: int | None, reason: str) -> SessionEnd:
    """The end of the WebSocket. `refusal`: the code of an error that no new connection would mend."""
    if code is None:
        detail = reason or "connection lost"
    else:
        detail = f"close {code}: {reason}" if reason else f"close {code}"
    if state is State.REFUSED:
        return SessionEnd(Ending.AGENT_REFUSED, f"configuration refused: {refusal}")
    if refusal:
        return SessionEnd(Ending.AGENT_REFUSED, f"{detail}; {refusal}")
    if code == _BETA_SHAPE:
        return SessionEnd(Ending.AGENT_REFUSED, f"{detail}; the API wants another shape of protocol")
    again = code is None or (code not in _OUR_FAULT and code != _NORMAL and code < _APPLICATION_CODES)
    if state in (State.CONNECTING, State.CONFIGURING):
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"{detail}; while {state.value}", may_reconnect=again)
    if state is State.EXPIRED:
        return SessionEnd(Ending.AGENT_LOST, f"{detail}; session_expired", may_reconnect=True)
    if code == _NORMAL:
        return SessionEnd(Ending.AGENT_HUNG_UP, detail)
    # 1001 is the API's longest session, 60 minutes (seen live); 1006 and 1011 are faults.
    return SessionEnd(Ending.AGENT_LOST, detail, may_reconnect=again)
