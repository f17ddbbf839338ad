"""Twilio's webhooks: what they tell of a call, and the TwiML that connects it to our stream (Twilio: «TwiML
Voice», the pages of Connect, Stream, Parameter; for what follows see `verbs.py`). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from telbridge.legs.streams.carrier import MAX_HEADERS, document, element
from telbridge.legs.streams.verbs import redirect

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
TOLD: Final = (
    "CallStatus",
    "CallDuration",
    "SipResponseCode",
    "DialCallStatus",
    "DialCallDuration",
    "DialSipResponseCode",
)
"""What goes into the record."""


def facts_to_hand_on(form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parameters for the stream, those without a value left out, each cut to what Twilio takes."""
    headers = [name for name in form if name.startswith(SIP_HEADER)][:MAX_HEADERS]
    wanted = {name: form[name][0] for name in (*HANDED_ON, *headers) if form.get(name, [""])[0]}
    return {name: value[: PARAMETER_LIMIT - len(name)] for name, value in wanted.items() if len(name) < 200}


def connect_stream(url: str, parameters: Mapping[str, str], after: str = "") -> str:
    """TwiML that joins the call to a bidirectional stream at `url` (a query there would be lost). Once we
    have closed it, `after` is asked what comes next; without it the call ends then."""
    inner = "".join(
        element("Parameter", {"name": name, "value": value}) for name, value in parameters.items()
    )
    stream = element("Connect", {}, element("Stream", {"url": url}, inner))
    return document(stream + (redirect(after) if after else "")).text


def headers_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a stream's parameters say besides caller and called: SIP headers by their own names."""
    return {
        name.removeprefix(SIP_HEADER): value
        for name, value in parameters.items()
        if name not in ("From", "To")
    }
