"""How an AssemblyAI session is connected: the key, or a short-lived token fetched with it.

Page: api-spec/generate-voice-agent-token. One token serves one connection, say the pages (live ones served
more): each connection fetches its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.assemblyai.faults import judged_status, token_in
from telbridge.sessions.assemblyai.settings import AssemblyAISettings, token_address
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import api_secret


class Door:
    """Of one connection."""

    def __init__(self, settings: AssemblyAISettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._key = api_secret(settings, "api_key", environ, section="assemblyai", url=settings.url)
        self._token: str | None = None
        self._failure: SessionEnd | None = None

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        if self._failure is not None:
            return self._failure
        if self._key is None:
            return ConnectRequest(self._settings.url)
        with_key = {"Authorization": f"Bearer {self._key}"}
        if self._settings.auth == "header":
            return ConnectRequest(self._settings.url, with_key)
        if self._token is None:
            return HttpRequest("GET", token_address(self._settings), with_key)
        url = urlsplit(self._settings.url)
        query = "&".join(part for part in (url.query, urlencode({"token": self._token})) if part)
        return ConnectRequest(urlunsplit(url._replace(query=query)))

    def answered(self, status: int | None, body: bytes) -> None:
        """The answer to the request for a token."""
        if status != 200:
            self._failure = judged_status(status, "to the request for a token")
            return
        self._token = token_in(body)
        if self._token is None:
            self._failure = SessionEnd(Ending.AGENT_UNREACHABLE, "no token in the answer; check token.url")
