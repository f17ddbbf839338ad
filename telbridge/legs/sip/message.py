"""What we read of an INVITE: who calls whom, a few headers, the codecs offered. Text in, facts out.

The library has parsed the message before and refused what is broken; this is no SIP parser, and never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat

KEPT_HEADERS: Final = frozenset({"user-agent", "diversion", "p-asserted-identity"})
MAX_HEADERS: Final = 16
MAX_VALUE: Final = 256
MAX_NAME: Final = 64

_COMPACT: Final = {"f": "from", "t": "to", "i": "call-id"}  # RFC 3261 §7.3.3
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_URI: Final = re.compile(r"(?i)\b(?:sips?|tel):([^\s@;?<>]*)(@?)")
_STATIC: Final = {"0": PCMU_8K, "8": PCMA_8K}  # RFC 3551 §6
_RTPMAP: Final = re.compile(r"a=rtpmap:(\d+) +(PCMU|PCMA)/8000(?:/1)?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Invite:
    """The facts of an INVITE. Header names as the peer wrote them; the first of a name counts."""

    caller: str
    called: str
    call_id: str
    headers: dict[str, str]
    offer: str | None
    """The body, where there is one; without it we make the offer ourselves."""


def parse_invite(text: str) -> Invite:
    head, _, body = text.partition("\r\n\r\n")
    request_line, _, rest = head.partition("\r\n")
    found: dict[str, str] = {}
    kept: dict[str, str] = {}
    for line in _FOLD.sub(" ", rest).split("\n"):
        name, colon, value = line.partition(":")
        name = name.strip()
        key = _COMPACT.get(name.lower(), name.lower())
        if not colon or key in found:
            continue
        found[key] = value.strip()
        if (key in KEPT_HEADERS or key.startswith("x-")) and len(kept) < MAX_HEADERS:
            kept[_printable(name, MAX_NAME)] = _printable(value.strip(), MAX_VALUE)
    return Invite(
        caller=_user(found.get("from", "")),
        called=_user(request_line.partition(" ")[2]),
        call_id=_printable(found.get("call-id", ""), MAX_VALUE),
        headers=kept,
        offer=body if body.strip() else None,
    )


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


def _printable(text: str, limit: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:limit])
