"""How a Companion session is created over HTTP, and how its token becomes a WebSocket address.

Sources: developers.napster.com/docs/introduction/authentication and
/docs/deploying-your-agent/connections/websockets; github.com/Napster/omniagent-api-skills,
skills/deploy-websocket (token) and skills/troubleshoot-omniagent (429, 409). The shapes of error bodies and
of older tokens are those seen live by others, so reading is tolerant throughout.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from telbridge.call.events import Ending, SessionEnd
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.base import ConnectRequest, HttpRequest, Pace
from telbridge.sessions.companion.settings import CompanionSettings
from telbridge.sessions.credentials import revealed
from telbridge.sessions.endings import remedies
from telbridge.sessions.provider import deep_merged
from telbridge.sessions.wire import Malformed, optional_table, optional_text, parse, text

CREATE_EVERY_S: Final = 1.0
"""One session a second for each key, says the vendor (skills/troubleshoot-omniagent, September 2026; one in
5 s a month before). A 429 that comes all the same is obeyed; other processes use the same key."""
MOST_TRIES: Final = 4
MOST_WAIT_S: Final = 10.0
"""A caller hears it ringing: who is told to wait longer than that ends at once."""
_FIRST_WAIT_S: Final = {429: 1.0, 409: 1.0}
_FAULT_WAIT_S: Final = 0.5
_MOST_DETAIL: Final = 200
_MOST_ID: Final = 200

_AGENT_FIELDS: Final = {
    "modality",
    "externalClientId",
    "externalClientProfile",
    "initialSpeech",
    "tags",
}
_AD_HOC_FIELDS: Final = _AGENT_FIELDS | {
    "companionId",
    "functions",
    "faqCollections",
    "knowledgeBaseId",
    "language",
    "useWebSearch",
    "mode",
    "providerConfig",
}
_WEBSOCKET: Final = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
_REST: Final = {"wss": "https", "ws": "http"}

_REMEDY: Final = {
    status: text
    for status, text in remedies(
        key="companion.api_key", rights="the key's project", address="url, agent_id and companionId"
    ).items()
    if status not in (400, 402)  # The answer's own words say more.
} | {
    409: "as many sessions run at once as the vendor allows this key",
    429: "more sessions are asked for than the vendor allows this key in the time",
}
_OF_THE_KEY: Final = (401, 403)
"""Here the answer's own words might repeat the key."""


def creation_body(settings: CompanionSettings, *, speech: str | None, may_open: bool) -> Json:
    """The body of the POST. `speech` takes the place of `initialSpeech`; unless `may_open`, the agent gets
    none at all: it carries on a conversation."""
    agent = settings.agent_id is not None
    body = revealed(
        settings,
        {},
        include=_AGENT_FIELDS if agent else _AD_HOC_FIELDS,
        exclude_unset=True,
        exclude_none=True,
    )
    if agent:
        body["channelType"] = "websocket"
    else:
        body["disableIdleTimeout"] = settings.disableIdleTimeout
        _drop_empty(body, "providerConfig", "settings", "noiseReduction")
    if speech is not None:
        body["initialSpeech"] = speech
    body = deep_merged(body, settings.raw)
    if not may_open:
        body.pop("initialSpeech", None)
    return body


def _drop_empty(tree: Json, *path: str) -> None:
    """Tables whose every field is unset; an empty turnDetection has a meaning and is not on this path."""
    for depth in range(len(path), 0, -1):
        table = tree
        for key in path[: depth - 1]:
            table = table.get(key, {})
        if table.get(path[depth - 1]) == {}:
            del table[path[depth - 1]]


def _pace(api_key: str) -> Pace:
    """Of all sessions that a key creates, whichever way."""
    return Pace("companion " + hashlib.sha256(api_key.encode()).hexdigest()[:16], CREATE_EVERY_S)


class Creation:
    """The POST with its tries, until there is an address or an end."""

    def __init__(self, settings: CompanionSettings, *, api_key: str | None, stagger_s: float) -> None:
        """`stagger_s`: added to each wait for a rate limit, so that calls that were refused together do
        not come back together."""
        scheme, rest = settings.url.split(":", 1)
        self._base = f"{_REST.get(scheme, scheme)}:{rest}/public"
        agent_id = settings.agent_id
        self._path = (
            "ws-connections" if agent_id is None else f"agents/{quote(agent_id, safe='')}/connections"
        )
        self._headers = {} if api_key is None else {"X-Api-Key": api_key}
        self._pace = None if api_key is None else _pace(api_key)
        self._stagger_s = stagger_s
        self._tries = 0
        self._wait_s = 0.0
        self._result: ConnectRequest | SessionEnd | None = None
        self.asked = False
        """A request has been handed out: its body can't be changed any more."""
        self.connection_id: str | None = None
        """Of the session that lives at the API since the answer."""

    def next_step(self, body: Json) -> ConnectRequest | HttpRequest | SessionEnd:
        if self._result is not None:
            return self._result
        self.asked = True
        address = f"{self._base}/{self._path}"
        return HttpRequest("POST", address, self._headers, body, self._wait_s, self._pace)

    def deletion(self) -> HttpRequest | None:
        """The DELETE that frees the session's place at the API."""
        if self.connection_id is None:
            return None
        return HttpRequest(
            "DELETE", f"{self._base}/connections/{quote(self.connection_id, safe='')}", self._headers
        )

    def answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        """Judge an answer; what it means is the next `next_step`."""
        if self._result is not None:
            return
        self._tries += 1
        if status is not None and 200 <= status < 300:
            self._result = self._taken(status, body)
        elif status is None or status in _FIRST_WAIT_S or status >= 500:
            self._result = self._put_off(status, headers, body)
        else:
            self._result = SessionEnd(Ending.AGENT_REFUSED, refusal(status, body))

    def _taken(self, status: int, body: bytes) -> ConnectRequest | SessionEnd:
        try:
            answer = parse(body)
            connection = optional_text(optional_table(answer, "connection"), "id")
            self.connection_id = connection if connection and len(connection) <= _MOST_ID else None
            return decode_token(text(answer, "token"))
        except Malformed as fault:
            return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} without a usable token: {fault}")

    def _put_off(self, status: int | None, headers: Mapping[str, str], body: bytes) -> SessionEnd | None:
        detail = "no answer to the request for a session" if status is None else refusal(status, body)
        if self._tries >= MOST_TRIES:
            ending = f"{detail}; given up after {self._tries} tries"
            return SessionEnd(Ending.AGENT_UNREACHABLE, ending, may_reconnect=True)
        wait_s = retry_after_s(headers)
        if wait_s is None:
            wait_s = _FIRST_WAIT_S.get(status or 0, _FAULT_WAIT_S) * 2 ** (self._tries - 1)
        if status == 429:
            wait_s += self._stagger_s
        if wait_s > MOST_WAIT_S:
            ending = f"{detail}; would have to wait {wait_s:.0f} s"
            return SessionEnd(Ending.AGENT_UNREACHABLE, ending, may_reconnect=True)
        self._wait_s = wait_s
        return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After (RFC 9110 §10.2.3); a date counts from the answer's own Date. None for
    none, or one that can't be read."""
    fields = {name.lower(): value.strip() for name, value in headers.items()}
    value = fields.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until, now = _date(value), _date(fields.get("date", ""))
    if until is None or now is None:
        return None
    try:
        return max(0.0, (until - now).total_seconds())
    except TypeError:  # one with a zone, one without
        return None


def _date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None


def refusal(status: int, body: bytes) -> str:
    """One line for the log: the status, what to do about it, and the API's own words where they are safe."""
    words = "" if status in _OF_THE_KEY else "; ".join(dict.fromkeys(_complaints(body)))
    said = "".join(letter if letter.isprintable() else " " for letter in words)[:_MOST_DETAIL]
    parts = [part for part in (_REMEDY.get(status, ""), said) if part]
    return f"HTTP {status}: {'; '.join(parts)}" if parts else f"HTTP {status}"


def _complaints(body: bytes) -> Iterator[str]:
    """Codes and texts of an error body. Three shapes were seen: a list of {code, description}, ASP.NET's
    ProblemDetails, and the same with `errors` by field."""
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return
    for one in answer if isinstance(answer, list) else [answer]:
        if not isinstance(one, dict):
            continue
        for key in ("code", "description", "title", "detail", "message"):
            if found := optional_text(one, key):
                yield found
        for field, faults in optional_table(one, "errors").items():
            for fault in faults if isinstance(faults, list) else [faults]:
                if isinstance(fault, str):
                    yield f"{field}: {fault}"


def decode_token(token: str) -> ConnectRequest:
    """The WebSocket of a creation's `token`, base64 of a JSON object. Malformed if it is none.

    An address that carries its token (July 2026 and later) is used as it is. Older ones want a bearer
    header. `expiresAt` is not looked at: the connection is made at once.
    """
    plain = "".join(token.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError:
        raise Malformed("`token` is not base64") from None
    content = parse(decoded)
    url = text(content, "url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    scheme = _WEBSOCKET.get(parts.scheme) if host else None
    if scheme is None or not _is_header_text(url):
        raise Malformed("`url` in the token is no address")
    websocket = scheme + url[len(parts.scheme) :]
    if any(name == "token" for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return ConnectRequest(websocket)
    bearer = optional_text(content, "authToken") or optional_text(content, "token")
    if bearer is None:
        return ConnectRequest(websocket)
    if not _is_header_text(bearer):
        raise Malformed("the bearer token holds what no header may")
    return ConnectRequest(websocket, {"Authorization": f"Bearer {bearer}"})


def _is_header_text(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value
