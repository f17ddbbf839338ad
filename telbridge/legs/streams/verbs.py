"""What follows a stream at carriers whose documents are of TwiML's kind: the verbs, and the forms by which
they tell how these went. Pure.

Twilio: «TwiML Voice», the pages of Redirect, Dial, Number, Sip, Hangup; SignalWire (cXML) and Telnyx (TeXML)
have pages of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final
from xml.sax.saxutils import quoteattr

from telbridge.legs.streams.carrier import (
    XML,
    Answer,
    Asked,
    DialEnded,
    Form,
    Unreadable,
    document,
    escaped,
    first,
    xml_text,
)
from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish

ENDED: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
"""Values of CallStatus after which a call is over."""
TALKED: Final = frozenset({"completed", "answered"})
"""Values of DialCallStatus for which somebody took the call."""
PROGRESS: Final = {"ringing": False, "in-progress": True}
"""Values of CallStatus of who is dialled; whether that is an answer."""
_FAILURES: Final = {"busy": 486, "no-answer": 408, "canceled": 487, "failed": 503}
"""SIP status for the others."""
RINGS_S: Final = (5, 600)
"""Least and most that Dial's `timeout` takes at Twilio."""


def failure(form: Mapping[str, Sequence[str]]) -> tuple[int, str]:
    """Of a Dial that nobody took: SIP status and a few words."""
    status = form.get("DialCallStatus", [""])[0]
    code = form.get("DialSipResponseCode", [""])[0]
    if status == "failed" and code.isascii() and code.isdigit() and 300 <= int(code) <= 699:
        return int(code), f"dial {status}"
    return _FAILURES.get(status, 503), f"dial {status[:20]}"


def dial_ended(form: Form) -> DialEnded | None:
    """What the request that follows a Dial says; None where none has been."""
    if not (status := first(form, "DialCallStatus")):
        return None
    call = first(form, "CallStatus")
    return DialEnded(status in TALKED, *failure(form), call if call in ENDED else "")


def dial(
    wish: Wish,
    action: str,
    progress: str,
    caller_id: str | None = None,
    rings_s: tuple[int, int] = RINGS_S,
) -> str:
    """A document that sends the caller to somebody else. `action` is asked when that has ended, `progress`
    hears when it rings and is answered. `caller_id`: shown in place of the caller's own. `rings_s`: what the
    carrier takes."""
    events = f' statusCallback={_quoted(progress)} statusCallbackEvent="ringing answered"'
    match wish.to:
        case PhoneNumber(number):
            callee = f"<Number{events}>{escaped(number)}</Number>"
        case SipAddress(uri):
            callee = f"<Sip{events}>{escaped(uri)}</Sip>"
        case OtherWebhook(url):
            return document(redirect(url)).text
    timeout = ringing_s(wish, rings_s)
    shown = "" if caller_id is None else f" callerId={_quoted(caller_id)}"
    return document(f'<Dial timeout="{timeout}" action={_quoted(action)}{shown}>{callee}</Dial>').text


def ringing_s(wish: Wish, rings_s: tuple[int, int]) -> int:
    """How long it may ring, within what the carrier takes."""
    least, most = rings_s
    return max(least, min(most, math.ceil(wish.timeout_s)))


def redirect(url: str) -> str:
    """The verb: `url` is asked what comes next."""
    return f"<Redirect>{escaped(url)}</Redirect>"


def hang_up() -> str:
    """A document that ends the call."""
    return document("<Hangup/>").text


class Verbs:
    """Implements what `telbridge.legs.streams.carrier.Following` adds to a carrier."""

    RINGS_S: ClassVar[tuple[int, int]] = RINGS_S

    def asks(self, asked: Asked) -> tuple[str, DialEnded | None]:
        form = asked.form()
        if not (call := first(form, "CallSid")):
            raise Unreadable("no CallSid")
        return call, dial_ended(form)

    def dial(self, wish: Wish, after: str, progress: str) -> Answer:
        return Answer(dial(wish, after, progress, rings_s=self.RINGS_S), XML)

    def answered(self, asked: Asked) -> bool | None:
        return PROGRESS.get(first(asked.form(), "CallStatus"))

    def hang_up(self) -> Answer:
        return Answer(hang_up(), XML)


def _quoted(text: str) -> str:
    return quoteattr(xml_text(text))
