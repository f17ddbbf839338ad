"""X-Twilio-Signature (Twilio: «Webhooks security»; the algorithm as in its Python SDK 9.13, which judges ours
in the tests): base64 of HMAC-SHA1, by the auth token, over the URL and, for a form, its parameters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

MAYBE_UNSIGNED: Final = frozenset({"CallToken", "StirVerstat"})
"""Seen in the field outside of the signature: where only the rest verifies, these are not trusted."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def signature(token: str, url: str, form: Mapping[str, Sequence[str]]) -> str:
    """What Twilio sends for this URL and these parameters. Of a repeated parameter the distinct values count,
    sorted; an empty one counts by its name."""
    text = url + "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def signed_url(tokens: Iterable[str], given: str, url: str, form: Mapping[str, Sequence[str]]) -> str | None:
    """The form of `url` for which `given` is the signature by one of the tokens; None if it is for none."""
    fitting = None
    for token in tokens:
        for variant in url_variants(url):
            if hmac.compare_digest(signature(token, variant, form).encode(), given.encode()):
                fitting = fitting or variant
    return fitting


def url_variants(url: str) -> list[str]:
    """As Twilio may have signed it: with its port or without, for a WebSocket also with a slash behind
    its path (Twilio's security page). User and password never count."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    hosts = [host] if port is None else [host, f"{host}:{port}"]
    paths = [parts.path]
    if parts.scheme in ("ws", "wss"):
        paths.append(parts.path[:-1] if parts.path.endswith("/") else parts.path + "/")
    return [urlunsplit((parts.scheme, each, path, parts.query, "")) for each in hosts for path in paths]
