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
from telbridge.sessions.credentials import api_secret
from telbridge.sessions.endings import described, of_close, of_status, remedies
from telbridge.sessions.openai.settings import OpenAISettings
from telbridge.sessions.openai.vocabulary import State
from telbridge.sessions.wire import Malformed, parse, text

_SECTION: Final = "openai_realtime"
_AZURE_HOST: Final = ".openai.azure.com"

_REMEDY: Final = remedies(
    key="the key", rights="the project's and the key's permissions", address="url and model"
)
_BETA_SHAPE: Final = 4000


class Opener:
    """The steps to a WebSocket: at once, or with a client secret that is fetched first."""

    def __init__(self, settings: OpenAISettings, environ: Mapping[str, str]) -> None:
        """SecretMissing if the API wants a key and there is none fit for a header."""
        self._settings = settings
        self._key = api_secret(settings, "api_key", environ, section=_SECTION, url=settings.url)
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
            self._failure = judge_status(status, "to the request for a client secret")
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


def judge_close(state: State, refusal: str, code: int | None, reason: str) -> SessionEnd:
    """The end of the WebSocket. `refusal`: the code of an error that no new connection would mend. The
    longest session is told by an error, by 1001 (seen live), or by both."""
    if state is State.REFUSED:
        return SessionEnd(Ending.AGENT_REFUSED, f"configuration refused: {refusal}")
    if refusal:
        return SessionEnd(Ending.AGENT_REFUSED, f"{described(code, reason)}; {refusal}")
    if code == _BETA_SHAPE:
        detail = f"{described(code, reason)}; the API wants another shape of protocol"
        return SessionEnd(Ending.AGENT_REFUSED, detail)
    if state is State.EXPIRED:
        detail = f"{described(code, reason)}; session_expired"
        return SessionEnd(Ending.AGENT_LOST, detail, may_reconnect=True)
    return of_close(code, reason, ready=state is State.READY)


def judge_status(status: int | None, what: str = "instead of a WebSocket") -> SessionEnd:
    """An HTTP status instead of what was asked for; None: no answer came."""
    return of_status(status, _REMEDY, what=what)
