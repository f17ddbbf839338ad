"""What a carrier is to our HTTP port: its webhooks read and verified, our answers written. Pure.

One file a carrier (`telnyx_webhook.py` …); `serving/ingress_carrier.py` is the same shell for all of them.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import parse_qs, parse_qsl, urlsplit
from xml.sax.saxutils import escape, quoteattr

from telbridge.audio.formats import AudioFormat
from telbridge.legs.streams.peer import PeerTraits, StreamPeer
from telbridge.legs.streams.transfer import Wish

MAX_FIELDS: Final = 200
MAX_VALUE: Final = 512
"""Of a fact of the call; the rest is cut off."""
MAX_HEADERS: Final = 32
MAX_IDS: Final = 200
"""Octets of a call's id and its account's."""
CLOCK_SKEW_S: Final = 300
"""A webhook that tells its time is good for so long, before and after."""
REMEMBERED: Final = 10_000
XML: Final = "text/xml"
_NUMBER: Final = re.compile(r"[1-9]\d{6,14}")

Form = Mapping[str, Sequence[str]]


class NotVerified(Exception):
    """This request is not the carrier's, or comes too late: the text says why, for our log alone."""


class Unreadable(Exception):
    """The carrier's own, but no webhook that we know."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read whole."""

    method: str
    url: str
    """As the carrier wrote it, query and all."""
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    def form(self) -> Form:
        """Query of a GET, body of anything else; empty values count. Unreadable if there are too many."""
        text = urlsplit(self.url).query if self.method == "GET" else self.body.decode("ascii", "replace")
        try:
            return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            raise Unreadable("too many parameters") from None

    def fields(self) -> Mapping[str, Any]:
        """The same where bodies are JSON objects. Unreadable if this one is none."""
        if self.method == "GET":
            return self.pairs()
        try:
            fields = json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unreadable("the body is not JSON") from None
        if not isinstance(fields, dict):
            raise Unreadable("the body is no JSON object")
        return fields

    def pairs(self) -> dict[str, str]:
        """The query's parameters in their order; of a repeated one the last."""
        try:
            query = urlsplit(self.url).query
            return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise Unreadable("too many parameters") from None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call has come."""

    call: str
    """The carrier's id of it."""
    account: str
    """Whose call it is; "" where the webhook does not tell."""
    caller: str
    called: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it."""

    def __post_init__(self) -> None:
        """Unreadable where ids are too long for a ticket."""
        if len(self.call.encode()) + len(self.account.encode()) > MAX_IDS:
            raise Unreadable("the call's id is too long")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the webhook is answered with."""

    text: str
    content_type: str


@dataclass(frozen=True, slots=True)
class DialEnded:
    """How the call to somebody else went."""

    talked: bool
    status: int
    """Of SIP, where nobody took it."""
    detail: str
    over: str = ""
    """The status of the caller's own call, where that is over too."""


@dataclass(frozen=True, slots=True)
class DialGoesOn:
    """How the call to somebody else gets on, told where others only ask what comes next."""

    answered: bool | None
    """False: it rings; None: neither."""


class Carrier(Protocol):
    """One carrier, with the keys that its webhooks are signed by."""

    @property
    def traits(self) -> PeerTraits: ...

    @property
    def format(self) -> AudioFormat:
        """What its streams are asked for."""

    def verify(self, asked: Asked, now_s: float) -> str:
        """A text of this very request: the same one again is a replay. `now_s`: seconds since 1970.
        NotVerified unless it is signed by one of the keys; Unreadable."""

    def arrival(self, asked: Asked) -> Arrival:
        """What the voice webhook says. Unreadable."""

    def connect(self, arrival: Arrival, url: str) -> Answer:
        """Join the call to our stream at `url`."""

    def ended(self, asked: Asked) -> tuple[str, str] | None:
        """Call and status, where the status callback says that a call is over. Unreadable."""

    def peer(self) -> StreamPeer:
        """For one stream."""


@runtime_checkable
class Following(Carrier, Protocol):
    """A carrier that asks what comes next once we have closed the stream: its calls can be transferred."""

    def connect(self, arrival: Arrival, url: str, after: str = "") -> Answer:
        """The same; `after` is what it will ask."""

    def asks(self, asked: Asked) -> tuple[str, DialEnded | DialGoesOn | None]:
        """What `after` is asked: of which call ("" where that is not told), and after which dial, if it was
        one. Unreadable."""

    def dial(self, wish: Wish, after: str, progress: str) -> Answer:
        """Send the caller to somebody else. `after` is asked once that has ended, `progress` hears how it
        gets on."""

    def answered(self, asked: Asked) -> bool | None:
        """What `progress` hears: it rings (False), or somebody answered (True); None for anything else."""

    def hang_up(self) -> Answer:
        """End the call."""


class Replays:
    """Requests that were taken, the oldest forgotten."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._taken: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, mark: str) -> bool:
        return mark in self._taken

    def add(self, mark: str) -> None:
        self._taken[mark] = None
        if len(self._taken) > self._size:
            self._taken.popitem(last=False)


def first(form: Form, name: str) -> str:
    """Its first value, cut; "" without one."""
    return plain(form.get(name, ("",))[0])


def plain(value: object) -> str:
    """A text, cut and without lone surrogates; "" for what is none."""
    return value[:MAX_VALUE].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def known(form: Form, names: Sequence[str], prefix: str, *, keep: bool = False) -> dict[str, str]:
    """Those of `names` that have a value, and SIP headers by their own names: what stands behind `prefix`,
    or, with `keep`, all of it."""
    headers = [name for name in form if name.startswith(prefix)][:MAX_HEADERS]
    told = {name: first(form, name) for name in names}
    told |= {plain(name if keep else name.removeprefix(prefix)): first(form, name) for name in headers}
    return {name: value for name, value in told.items() if value}


def e164(number: str) -> str:
    """With the plus that some carriers leave out; what is no number stays."""
    return f"+{number}" if _NUMBER.fullmatch(number) else number


def element(name: str, attributes: Mapping[str, str], inner: str = "") -> str:
    """One XML element, whatever the values are; `inner` is XML already."""
    written = "".join(f" {key}={quoteattr(xml_text(value))}" for key, value in attributes.items())
    return f"<{name}{written}>{inner}</{name}>"


def document(inner: str) -> Answer:
    """`<Response>` around it."""
    return Answer(f'<?xml version="1.0" encoding="UTF-8"?><Response>{inner}</Response>', XML)


def escaped(text: str) -> str:
    """As the text of an element."""
    return escape(xml_text(text))


def xml_text(text: str) -> str:
    """Without what XML 1.0 cannot hold, however it is written (§2.2)."""
    return "".join(
        each for each in text if each >= " " and not "\ud800" <= each <= "\udfff" and each < "\ufffe"
    )
