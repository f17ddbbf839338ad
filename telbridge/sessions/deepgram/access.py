"""Who we are to Deepgram: a key, a token made elsewhere, or one fetched for each connection.

Source: developers.deepgram.com/guides/fundamentals/token-based-authentication. A key goes as `Token`, a
short-lived token as `Bearer`; the other way round the API answers 401.
"""

from __future__ import annotations

from collections.abc import Mapping

from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing, SecretRef
from telbridge.sessions.deepgram.settings import DeepgramSettings
from telbridge.sessions.deepgram.verdicts import of_status
from telbridge.sessions.wire import Malformed, parse, text


class Access:
    """The way to an open WebSocket; holds secrets, shows none."""

    def __init__(self, settings: DeepgramSettings, environ: Mapping[str, str]) -> None:
        """SecretMissing, unless the agent runs on this machine: it asks for no key."""
        self._url = settings.url
        self._grant = settings.grant
        self._bearer = self._secret(settings, "access_token", settings.access_token, environ)
        self._key = None
        if self._bearer is None:
            self._key = self._secret(settings, "api_key", settings.api_key, environ)
        self._fault: SessionEnd | None = None

    @staticmethod
    def _secret(
        settings: DeepgramSettings, name: str, ref: SecretRef | None, environ: Mapping[str, str]
    ) -> str | None:
        if ref is None:
            return None
        try:
            secret = ref.resolve(name, environ)
        except SecretMissing:
            if settings.is_local:
                return None
            raise
        if not (secret.isascii() and secret.isprintable() and secret and " " not in secret):
            raise SecretMissing(name, "holds a space, a line break or what no key has", "copy it again")
        return secret

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
        if status is None:
            self._fault = SessionEnd(Ending.AGENT_UNREACHABLE, "no answer to the grant", may_reconnect=True)
        elif not 200 <= status < 300:
            self._fault = of_status(status)
        else:
            try:
                token = text(parse(body), "access_token")
            except Malformed as fault:
                self._fault = SessionEnd(Ending.AGENT_UNREACHABLE, f"grant: {fault}", may_reconnect=True)
                return
            if not (token.isascii() and token.isprintable() and token and " " not in token):
                self._fault = SessionEnd(Ending.AGENT_UNREACHABLE, "grant: no token")
                return
            self._bearer = token
