"""What Asterisk tells on its events WebSocket, and what it is asked by REST (docs.asterisk.org, Asterisk REST
Interface; seen on Asterisk 22.10). Pure.

Events are JSON objects with a `type`; most have a `channel`. Unknown types and fields mean nothing to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final
from urllib.parse import quote

from telbridge.legs.streams.payload import MAX_PARAMETERS, MAX_TEXT, json_object, table, text, texts

MAX_KEY_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Channel:
    """One end of a call inside Asterisk."""

    id: str
    name: str
    """Technology/endpoint-number, as `PJSIP/provider-0000002a`."""
    up: bool
    """It is answered."""
    caller: str = ""
    """Number of who calls; `caller_name` the name that goes with it."""
    caller_name: str = ""
    context: str = ""
    extension: str = ""
    """Where in Asterisk's dialplan it is."""
    protocol_id: str = ""
    """Of the channel's own protocol (SIP: Call-ID)."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Those that Asterisk tells by itself."""

    @property
    def technology(self) -> str:
        return self.name.partition("/")[0]

    @property
    def endpoint(self) -> str:
        """`provider` of `PJSIP/provider-0000002a`."""
        return self.name.partition("/")[2].rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Entered:
    """A channel is ours from now on (StasisStart)."""

    channel: Channel
    arguments: tuple[str, ...] = ()
    """Of `Stasis(app,…)`."""


@dataclass(frozen=True, slots=True)
class Left:
    """A channel is no longer ours (StasisEnd): hung up, or gone on in the dialplan."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """Somebody hangs a channel up; it is still ours."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class Destroyed:
    """A channel is no more. `cause` by Q.850."""

    channel_id: str
    cause: int = 0


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """One key of a channel, after its end."""

    channel_id: str
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class HoldChanged:
    """Who is at a channel put us on hold, or took us back."""

    channel_id: str
    held: bool


@dataclass(frozen=True, slots=True)
class Dialling:
    """How far a channel is that we dialled. `status`: RINGING, BUSY, NOANSWER … (DIALSTATUS of Asterisk)."""

    channel_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another client took the application's events over: nothing will come any more."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Says nothing to us."""

    type: str


Event = (
    Entered | Left | HangupRequested | Destroyed | KeyPressed | HoldChanged | Dialling | Replaced | Unknown
)


def parse(message: str) -> Event:
    """One event. Malformed for what is none, or lacks what its type has."""
    fields = json_object(message)
    kind = text(fields, "type")
    match kind:
        case "StasisStart":
            return Entered(channel_of(table(fields, "channel")), _arguments(fields.get("args")))
        case "StasisEnd":
            return Left(_channel_id(fields))
        case "ChannelHangupRequest":
            return HangupRequested(_channel_id(fields))
        case "ChannelDestroyed":
            return Destroyed(_channel_id(fields), _number(fields.get("cause")))
        case "ChannelDtmfReceived":
            duration_ms = min(_number(fields.get("duration_ms")), MAX_KEY_MS)
            return KeyPressed(_channel_id(fields), text(fields, "digit"), duration_ms)
        case "ChannelHold" | "ChannelUnhold":
            return HoldChanged(_channel_id(fields), kind == "ChannelHold")
        case "Dial":
            return Dialling(text(table(fields, "peer"), "id"), text(fields, "dialstatus", "")[:40])
        case "ApplicationReplaced":
            return Replaced()
        case _:
            return Unknown(kind[:40])


def channel_of(fields: Mapping[str, Any]) -> Channel:
    """Malformed without id or name."""
    caller, place = _maybe(fields, "caller"), _maybe(fields, "dialplan")
    return Channel(
        id=text(fields, "id"),
        name=text(fields, "name"),
        up=fields.get("state") == "Up",
        caller=_words(caller.get("number")),
        caller_name=_words(caller.get("name")),
        context=_words(place.get("context")),
        extension=_words(place.get("exten")),
        protocol_id=_words(fields.get("protocol_id")),
        variables=texts(fields.get("channelvars")),
    )


def _channel_id(fields: Mapping[str, Any]) -> str:
    return text(table(fields, "channel"), "id")


def _arguments(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(_words(item) for item in value[:MAX_PARAMETERS] if isinstance(item, str))


def _maybe(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _words(value: object) -> str:
    return value[:MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


# -------------------------------------------------------------------- requests


class Purpose(Enum):
    """What an answer is the answer to."""

    VARIABLE = auto()
    BRIDGE = auto()
    MEDIA = auto()
    ANSWER = auto()
    JOIN = auto()
    EXISTS = auto()
    LEAVE = auto()
    REDIRECT = auto()
    DIAL = auto()
    JOIN_OTHER = auto()
    KEYS = auto()
    SUBSCRIBE = auto()
    LOOK = auto()
    HANG_UP = auto()
    ASIDE = auto()
    """Whatever comes of it changes nothing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One REST request."""

    purpose: Purpose
    method: str
    path: str
    """Below `/ari/`, quoted."""
    query: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
    """For whoever asked: what it is about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. `status` 0: no answer came, or none that is HTTP."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    """JSON object; {} where there is none."""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def on_channel(purpose: Purpose, channel_id: str, action: str, *, subject: str = "", **query: str) -> Ask:
    """POST channels/ID/action."""
    return Ask(purpose, "POST", f"channels/{quote(channel_id, safe='')}/{action}", query, subject)


def on_bridge(purpose: Purpose, bridge_id: str, action: str, **query: str) -> Ask:
    """POST bridges/ID/action."""
    return Ask(purpose, "POST", f"bridges/{quote(bridge_id, safe='')}/{action}", query)


def read_variable(purpose: Purpose, channel_id: str, name: str) -> Ask:
    """Functions of Asterisk work too: `CALLERID(name)`."""
    path = f"channels/{quote(channel_id, safe='')}/variable"
    return Ask(purpose, "GET", path, {"variable": name}, name)


def look_at(channel_id: str) -> Ask:
    """Is it there, and what is it at?"""
    return Ask(Purpose.LOOK, "GET", f"channels/{quote(channel_id, safe='')}", {}, channel_id)


def set_variable(channel_id: str, name: str, value: str) -> Ask:
    return on_channel(Purpose.ASIDE, channel_id, "variable", variable=name, value=value)


def hang_up(purpose: Purpose, channel_id: str, cause: int) -> Ask:
    """`cause` by Q.850."""
    return Ask(purpose, "DELETE", f"channels/{quote(channel_id, safe='')}", {"reason_code": str(cause)})


def destroy_bridge(bridge_id: str) -> Ask:
    return Ask(Purpose.ASIDE, "DELETE", f"bridges/{quote(bridge_id, safe='')}")
