"""TwiML as Twilio reads it, and what is of its kind as others do: one verb after the other. Pure; as exact as
the schema for what is known here."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from telbridge.caller.streams.webhook import Refusal


@dataclass(frozen=True, slots=True)
class Stream:
    """`<Connect><Stream>`."""

    url: str
    parameters: Mapping[str, str]
    document: str = field(default="", compare=False, repr=False)
    """What it stands in: carriers have attributes of their own."""


@dataclass(frozen=True, slots=True)
class Dial:
    """To a number or a SIP address."""

    to: str
    timeout_s: int
    action: str
    """"": none, TwiML goes on."""
    progress: str
    events: tuple[str, ...]
    """Of the callee that `progress` hears."""
    caller_id: str = ""
    """"": the caller's own."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another document takes over."""

    url: str
    news: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What is told there besides."""


@dataclass(frozen=True, slots=True)
class End:
    """`<Hangup>`, or `<Reject>` with its reason."""

    reason: str


Verb = Stream | Dial | Redirect | End
Attributes = Mapping[str, frozenset[str]]
TWILIO: Final[Attributes] = {
    "Connect": frozenset({"action", "method"}),
    "Stream": frozenset({"url", "name", "track", "statusCallback", "statusCallbackMethod"}),
    "Parameter": frozenset({"name", "value"}),
    "Redirect": frozenset({"method"}),
    "Dial": frozenset(
        {"action", "method", "timeout", "timeLimit", "callerId", "answerOnBridge", "hangupOnStar"}
    ),
    "Number": frozenset({"statusCallback", "statusCallbackEvent", "statusCallbackMethod", "sendDigits"}),
    "Sip": frozenset(
        {"statusCallback", "statusCallbackEvent", "statusCallbackMethod", "username", "password"}
    ),
    "Hangup": frozenset(),
    "Reject": frozenset({"reason"}),
}


def read_verbs(text: str, attributes: Attributes = TWILIO, most_s: int = 600) -> list[Verb]:
    """All of a document. `attributes`: of each element that the carrier knows. `most_s`: the longest that a
    `<Dial>` may ring. Refusal, by Twilio's number, where Twilio would end the call with an error."""
    return [_verb(element, text, most_s) for element in elements_of(text, attributes)]


def elements_of(text: str, attributes: Attributes) -> ET.Element:
    """The verbs of a document, unread. Refusal."""
    try:
        response = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refusal(f"12100: TwiML does not parse: {error}") from None
    if response.tag != "Response":
        raise Refusal(f"12200: {response.tag} in place of Response")
    for element in response.iter():
        allowed = attributes.get(element.tag, frozenset())
        if element is not response and (element.tag not in attributes or set(element.keys()) - allowed):
            raise Refusal(f"12200: {element.tag} {sorted(element.keys())} is not in the schema")
    return response


def _verb(element: ET.Element, document: str, most_s: int) -> Verb:
    match element.tag:
        case "Connect":
            return _stream(element, document)
        case "Dial":
            return _dial(element, most_s)
        case _:
            return plain_verb(element)


def plain_verb(element: ET.Element) -> Verb:
    """One that every carrier has. Refusal."""
    match element.tag:
        case "Redirect":
            return Redirect(address(element.text or ""))
        case "Hangup":
            return End("hangup")
        case "Reject":
            return End(f"reject {element.get('reason', 'rejected')}")
        case other:
            raise Refusal(f"12200: {other} is no verb")


def _stream(element: ET.Element, document: str) -> Stream:
    stream = element.find("Stream")
    if stream is None:
        raise Refusal("12200: Connect without Stream")
    url = stream.get("url", "")
    if urlsplit(url).query:
        raise Refusal("31923: the stream's URL has a query")
    return Stream(url, {each.get("name", ""): each.get("value", "") for each in stream}, document)


def _dial(element: ET.Element, most_s: int) -> Dial:
    if len(element) != 1:
        raise Refusal("a Dial with one callee is all that is known here")
    callee = element[0]
    to = (callee.text or "").strip()
    if callee.tag == "Sip" and not to.startswith(("sip:", "sips:")):
        raise Refusal(f"13224: {to!r} is no SIP address")
    if not to:
        raise Refusal("13224: nobody to dial")
    timeout_s = int(element.get("timeout", "30"))
    if not 5 <= timeout_s <= most_s:
        raise Refusal(f"13212: timeout {timeout_s}")
    events = tuple(callee.get("statusCallbackEvent", "completed").split())
    if set(events) - {"initiated", "ringing", "answered", "completed"}:
        raise Refusal(f"12200: statusCallbackEvent {events}")
    action = element.get("action", "")
    progress = callee.get("statusCallback", "")
    return Dial(
        to,
        timeout_s,
        action and address(action),
        progress and address(progress),
        events,
        element.get("callerId", ""),
    )


def address(text: str) -> str:
    """Of a webhook. Refusal."""
    text = text.strip()
    if urlsplit(text).scheme not in ("http", "https"):
        raise Refusal(f"11100: {text!r} is no URL")
    return text
