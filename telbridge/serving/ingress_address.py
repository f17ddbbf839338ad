"""Who asks, and by which address of ours: from the connection, and from headers where a proxy is trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_FORWARDED: Final = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Via",
    "X-Real-IP",
)
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Addresses:
    """Reads them. Headers of strangers are never believed."""

    def __init__(self, public_url: str | None, trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        self._public_url, self._trusted = public_url, trusted_proxies

    def client(self, request: web.Request) -> str:
        """The address that asked: the last one in X-Forwarded-For that is no proxy of ours."""
        peer = request.remote or ""
        if not self.is_proxy(peer):
            return peer
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            if not self.is_proxy(hop):
                return hop if is_address(hop) else peer
        return peer

    def base(self, request: web.Request) -> str:
        """Scheme and host as the peer knows them. HTTPBadRequest for a host that is none."""
        if self._public_url is not None:
            return self._public_url
        proxied = self.is_proxy(request.remote or "")
        scheme = request.headers.get("X-Forwarded-Proto", "http") if proxied else "http"
        host = request.headers.get("Host", "")
        if proxied:
            host = request.headers.get("X-Forwarded-Host", host)
        if scheme not in ("http", "https") or not _is_host(host):
            raise web.HTTPBadRequest(text="no such host")
        return f"{scheme}://{host.lower()}"

    def url(self, request: web.Request) -> str:
        """What the peer asked for, as it wrote it."""
        return self.base(request) + request.raw_path

    def is_local(self, request: web.Request) -> bool:
        """Whether somebody on this machine asks, not a proxy for others, and no page of another site in a
        browser here: neither by its Origin nor by a name that was made to point here."""
        if self._public_url is not None or any(name in request.headers for name in _FORWARDED):
            return False
        if not _is_loopback(request.remote or ""):
            return False
        named = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        same = origin is None or origin.lower() in (f"http://{named.lower()}", f"https://{named.lower()}")
        return host_of(request) in LOCAL_NAMES and same

    def is_proxy(self, address: str) -> bool:
        """Whether this is one that we trust."""
        return is_address(address) and any(ip_address(address) in network for network in self._trusted)


def _is_host(text: str) -> bool:
    """Not one with an impossible port or address either."""
    try:
        return _HOST.fullmatch(text) is not None and urlsplit(f"//{text}").port != 0
    except ValueError:
        return False


def host_of(request: web.Request) -> str:
    """The name or address that was asked for, in lower case; "" if it is none."""
    named = request.headers.get("Host", "")
    return (urlsplit(f"//{named}").hostname or "") if _is_host(named) else ""


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return is_address(text) and ip_address(text).is_loopback


def websocket_url(url: str) -> str:
    """http → ws, https → wss."""
    return "ws" + url.removeprefix("http")
