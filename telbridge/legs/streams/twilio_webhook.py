"""Twilio's voice webhook: what it tells of a call, and the TwiML that connects it to our stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

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
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'


def facts_to_hand_on(form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parameters for the stream, those without a value left out, each cut to what Twilio takes."""
    headers = [name for name in form if name.startswith(SIP_HEADER)][:MAX_HEADERS]
    wanted = {name: form[name][0] for name in (*HANDED_ON, *headers) if form.get(name, [""])[0]}
    return {name: value[: PARAMETER_LIMIT - len(name)] for name, value in wanted.items() if len(name) < 200}


def connect_stream(url: str, parameters: Mapping[str, str]) -> str:
    """TwiML that joins the call to a bidirectional stream at `url` (a query there would be lost)."""
    inner = "".join(
        f"<Parameter name={quoteattr(_clean(name))} value={quoteattr(_clean(value))}/>"
        for name, value in parameters.items()
    )
    return (
        f"{_DECLARATION}<Response><Connect><Stream url={quoteattr(url)}>{inner}</Stream></Connect></Response>"
    )


def headers_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a stream's parameters say besides caller and called: SIP headers by their own names."""
    return {
        name.removeprefix(SIP_HEADER): value
        for name, value in parameters.items()
        if name not in ("From", "To")
    }


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold, however it is written (§2.2)."""
    return "".join(
        each for each in text if each >= " " and not "\ud800" <= each <= "\udfff" and each < "\ufffe"
    )
