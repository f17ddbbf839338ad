"""What we read of an INVITE: who calls whom, a few headers, the codecs offered. Text in, facts out.

The library has parsed the message before and refused what is broken; this is no SIP parser, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat

KEPT_HEADERS: Final = frozenset(
    {
        "accept-language",
        "alert-info",
        "call-info",
        "diversion",  # RFC 5806
        "from",
        "history-info",  # RFC 7044
        "organization",
        "priority",
        "privacy",  # RFC 3323
        "reason",
        "referred-by",  # RFC 3892
        "remote-party-id",
        "reply-to",
        "subject",
        "to",
        "traceparent",  # W3C Trace Context
        "user-agent",
        "user-to-user",  # RFC 7433
    }
)
"""What a dialplan may match, besides all X- and P- headers."""
MAX_HEADERS: Final = 32
MAX_VALUE: Final = 256
MAX_NAME: Final = 64
NAMES_KEPT: Final = 256

_COMPACT: Final = {  # RFC 3261 §7.3.3, RFC 3515 §2.1, RFC 3892 §2, RFC 6665 §8.2
    "b": "referred-by",
    "c": "content-type",
    "f": "from",
    "i": "call-id",
    "o": "event",
    "s": "subject",
    "t": "to",
}
_FULL_NAMES: Final = {"b": "Referred-By", "f": "From", "s": "Subject", "t": "To"}
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_URI: Final = re.compile(r"(?i)\b(?:sips?|tel):([^\s@;?<>]*)(@?)")
_HOST: Final = re.compile(r"(?i)\bsips?:(?:[^\s@;?<>]*@)?(\[[0-9a-f:.]+\]|[^\s@:;?<>,\"]+)")
_STATIC: Final = {"0": PCMU_8K, "8": PCMA_8K}  # RFC 3551 §6
_RTPMAP: Final = re.compile(r"a=rtpmap:(\d+) +(PCMU|PCMA)/8000(?:/1)?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Invite:
    """The facts of an INVITE. Header names as the peer wrote them; the first of a name counts."""

    caller: str
    """User of From."""
    asserted: str
    """User of P-Asserted-Identity (RFC 3325), true if the peer may be believed; "" without one."""
    called: str
    domain: str
    """Host of the Request-URI, in small letters; of To, where the former is a number alone (`tel:`)."""
    call_id: str
    headers: dict[str, str]
    offer: str | None
    """The body, where there is one; without it we make the offer ourselves."""


def parse_invite(text: str) -> Invite:
    head, _, body = text.partition("\r\n\r\n")
    request_line = head.partition("\r\n")[0]
    found: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, value in _headers(head):
        key, shown = _named(name)
        if key in found:
            continue
        found[key] = value
        if shown and len(kept) < MAX_HEADERS:
            kept[shown] = _printable(value, MAX_VALUE)
    target = request_line.partition(" ")[2]
    return Invite(
        caller=_user(found.get("from", "")),
        asserted=_user(found.get("p-asserted-identity", "")),
        called=_user(target),
        domain=_host(target) or _host(found.get("to", "")),
        call_id=shown_call_id(found.get("call-id", "")),
        headers=kept,
        offer=body if body.strip() else None,
    )


def header_values(text: str) -> dict[str, str]:
    """The headers of a message by full name in small letters; the first of a name counts."""
    values: dict[str, str] = {}
    for name, value in _headers(text.partition("\r\n\r\n")[0]):
        values.setdefault(_named(name)[0], value)
    return values


@lru_cache(NAMES_KEPT)
def _named(name: str) -> tuple[str, str]:
    """Full, in small letters; and as it is shown if a dialplan may match it, else ""."""
    small = name.lower()
    key = _COMPACT.get(small, small)
    if key not in KEPT_HEADERS and not key.startswith(("x-", "p-")):
        return key, ""
    return key, _printable(_FULL_NAMES.get(small, name), MAX_NAME)


def shown_call_id(call_id: str) -> str:
    """A Call-ID as we keep it."""
    return _printable(call_id, MAX_VALUE)


def _headers(head: str) -> Iterator[tuple[str, str]]:
    """Names and values behind the first line, unfolded (RFC 3261 §7.3.1)."""
    for line in _FOLD.sub(" ", head.partition("\r\n")[2]).split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def offered_codec(sdp: str) -> AudioFormat | None:
    """The offerer's first of PCMU and PCMA in its first audio line; None if it offers neither."""
    lines = sdp.splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith("m=audio ")), None)
    if start is None:
        return None
    known = dict(_STATIC)
    for line in lines[start + 1 :]:
        if line.startswith("m="):
            break
        if mapped := _RTPMAP.match(line):
            known[mapped[1]] = PCMU_8K if mapped[2].upper() == "PCMU" else PCMA_8K
    payload_types = lines[start].split()[3:]
    return next((known[number] for number in payload_types if number in known), None)


def _user(text: str) -> str:
    """User part of the first URI; a `tel:` number; "" for a URI without user."""
    if not (uri := _URI.search(text)):
        return ""
    is_tel = uri[0][:4].lower() == "tel:"
    return _printable(unquote(uri[1].partition(":")[0]), MAX_VALUE) if uri[2] or is_tel else ""


def _host(text: str) -> str:
    """Host of the first SIP URI, "" if there is none."""
    found = _HOST.search(text)
    return _printable(found[1].lower(), MAX_VALUE) if found else ""


def _printable(text: str, limit: int) -> str:
    cut = text[:limit]
    return cut if cut.isprintable() else "".join(char if char.isprintable() else "?" for char in cut)
