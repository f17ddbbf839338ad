"""Who we are to Deepgram: a key, a token made elsewhere, or one fetched for each connection.

Source: developers.deepgram.com/guides/fundamentals/token-based-authentication. A key goes as `Token`, a
short-lived token as `Bearer`; the other way round the API answers 401.
"""

from __future__ import annotations

from collections.abc import Mapping

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing, api_secret, fit_for_a_header
from telbridge.sessions.deepgram.settings import NAME, DeepgramSettings
from telbridge.sessions.deepgram.verdicts import judged_status
from telbridge.sessions.wire import Malformed, parse, text


class Access:
    """The way to an open WebSocket; holds secrets, shows none."""

    def __init__(self, settings: DeepgramSettings, environ: Mapping[str, str]) -> None:
        """SecretMissing, unless the agent runs on this machine: it asks for no key."""
        self._url = settings.url
        self._grant = settings.grant
        self._bearer = api_secret(settings, "access_token", environ, section=NAME, url=settings.url)
        self._key = None
        if self._bearer is None:
            self._key = api_secret(settings, "api_key", environ, section=NAME, url=settings.url)
        self._fault: SessionEnd | None = None

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        """See `AgentProtocol.next_step`."""
        if self._fault is not None:
            return self._fault
        if self._grant is not None and self._bearer is None and self._key is not None:
            key = {"Authorization": f"Token {self._key}"}
            return HttpRequest("POST", self._grant.url, key, {"ttl_seconds": self._grant.ttl_seconds})
        if self._bearer is not None:
            return ConnectRequest(self._url, {"Authorization": f"Bearer {self._bearer}"})
        return ConnectRequest(self._url, {"Authorization": f"Token {self._key}"} if self._key else {})

    def answered(self, status: int | None, body: bytes) -> None:
        """The grant's answer: a token, or why there is none."""
        if status is None or not 200 <= status < 300:
            self._fault = judged_status(status, "to the grant")
        else:
            try:
                token = text(parse(body), "access_token")
            except Malformed as fault:
                self._fault = SessionEnd(Ending.AGENT_UNREACHABLE, f"grant: {fault}", may_reconnect=True)
                return
            try:
                self._bearer = fit_for_a_header(token, "grant")
            except SecretMissing:
                self._fault = SessionEnd(Ending.AGENT_UNREACHABLE, "grant: no token")
