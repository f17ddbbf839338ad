"""Twilio's webhooks: what they tell of a call, and the TwiML that connects it to our stream and says what
follows (Twilio: «TwiML Voice», the pages of Connect, Stream, Redirect, Dial, Number, Sip, Hangup). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish

PARAMETER_LIMIT: Final = 480
"""Name and value of a `<Parameter>` together stay below 500 characters."""
HANDED_ON: Final = (
    "From",
    "To",
    "Direction",
    "ForwardedFrom",
    "CallerName",
    "StirVerstat",
    "FromCity",
    "FromState",
    "FromZip",
    "FromCountry",
)
"""Facts of the webhook that the stream tells again when it starts; SIP headers besides."""
SIP_HEADER: Final = "SipHeader_"
MAX_HEADERS: Final = 32
ENDED: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
"""Values of CallStatus after which a call is over."""
TALKED: Final = frozenset({"completed", "answered"})
"""Values of DialCallStatus for which somebody took the call."""
_FAILURES: Final = {"busy": 486, "no-answer": 408, "canceled": 487, "failed": 503}
"""SIP status for the others."""
TOLD: Final = (
    "CallStatus",
    "CallDuration",
    "SipResponseCode",
    "DialCallStatus",
    "DialCallDuration",
    "DialSipResponseCode",
)
"""What goes into the record."""
_RINGS_S: Final = (5, 600)
"""Least and most that Dial's `timeout` takes."""
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'


def facts_to_hand_on(form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parameters for the stream, those without a value left out, each cut to what Twilio takes."""
    headers = [name for name in form if name.startswith(SIP_HEADER)][:MAX_HEADERS]
    wanted = {name: form[name][0] for name in (*HANDED_ON, *headers) if form.get(name, [""])[0]}
    return {name: value[: PARAMETER_LIMIT - len(name)] for name, value in wanted.items() if len(name) < 200}


def failure(form: Mapping[str, Sequence[str]]) -> tuple[int, str]:
    """Of a Dial that nobody took: SIP status and a few words."""
    status = form.get("DialCallStatus", [""])[0]
    code = form.get("DialSipResponseCode", [""])[0]
    if status == "failed" and code.isascii() and code.isdigit() and 300 <= int(code) <= 699:
        return int(code), f"dial {status}"
    return _FAILURES.get(status, 503), f"dial {status[:20]}"


def connect_stream(url: str, parameters: Mapping[str, str], after: str = "") -> str:
    """TwiML that joins the call to a bidirectional stream at `url` (a query there would be lost). Once we
    have closed it, `after` is asked what comes next; without it the call ends then."""
    inner = "".join(
        f"<Parameter name={_quoted(name)} value={_quoted(value)}/>" for name, value in parameters.items()
    )
    stream = f"<Connect><Stream url={_quoted(url)}>{inner}</Stream></Connect>"
    return _response(stream + (_redirect(after) if after else ""))


def dial(wish: Wish, action: str, progress: str, caller_id: str | None = None) -> str:
    """TwiML that sends the caller to somebody else. `action` is asked when that has ended, `progress` hears
    when it rings and is answered. `caller_id`: shown in place of the caller's own."""
    events = f' statusCallback={_quoted(progress)} statusCallbackEvent="ringing answered"'
    match wish.to:
        case PhoneNumber(number):
            callee = f"<Number{events}>{_escaped(number)}</Number>"
        case SipAddress(uri):
            callee = f"<Sip{events}>{_escaped(uri)}</Sip>"
        case OtherWebhook(url):
            return _response(_redirect(url))
    least, most = _RINGS_S
    timeout = max(least, min(most, math.ceil(wish.timeout_s)))
    shown = "" if caller_id is None else f" callerId={_quoted(caller_id)}"
    return _response(f'<Dial timeout="{timeout}" action={_quoted(action)}{shown}>{callee}</Dial>')


def hang_up() -> str:
    """TwiML that ends the call."""
    return _response("<Hangup/>")


def headers_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a stream's parameters say besides caller and called: SIP headers by their own names."""
    return {
        name.removeprefix(SIP_HEADER): value
        for name, value in parameters.items()
        if name not in ("From", "To")
    }


def _response(verbs: str) -> str:
    return f"{_DECLARATION}<Response>{verbs}</Response>"


def _redirect(url: str) -> str:
    return f"<Redirect>{_escaped(url)}</Redirect>"


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _escaped(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold, however it is written (§2.2)."""
    return "".join(
        each for each in text if each >= " " and not "\ud800" <= each <= "\udfff" and each < "\ufffe"
    )
