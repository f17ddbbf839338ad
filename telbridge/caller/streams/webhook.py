"""Twilio's side of the webhooks: asks, signed, and reads the TwiML."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import aiohttp

WEBHOOK_S = 15.0
"""Twilio waits so long for the whole answer."""


class Refusal(Exception):
    """The bridge does not take the call; the text says how."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose calls these are."""

    sid: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connected:
    """What the TwiML says."""

    url: str
    parameters: Mapping[str, str]


def sign(token: str, url: str, form: Mapping[str, str] | None = None) -> str:
    """X-Twilio-Signature: base64 of HMAC-SHA1 over URL and parameters in the order of their names."""
    text = url + "".join(f"{name}{value}" for name, value in sorted((form or {}).items()))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def voice_form(account: Account, call: str, caller: str, called: str) -> dict[str, str]:
    """What Twilio posts when a call comes."""
    return {
        "AccountSid": account.sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call,
        "CallStatus": "ringing",
        "Called": called,
        "Caller": caller,
        "CallerName": "",
        "Direction": "inbound",
        "From": caller,
        "FromCountry": "US",
        "To": called,
    }


def new_sid(kind: str) -> str:
    """CA… for a call, MZ… for a stream."""
    return kind + secrets.token_hex(16)


def webhook_url(url: str) -> str:
    """The voice webhook that belongs to a dialled `twilio+…` address: `/voice` beside `/stream`."""
    parts = urlsplit(url.removeprefix("twilio+"))
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address; expected twilio+ws://HOST:PORT/twilio/stream")
    path = parts.path or "/twilio/voice"
    if path.endswith("/stream"):
        path = path.removesuffix("stream") + "voice"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


async def post(http: aiohttp.ClientSession, account: Account, url: str, form: Mapping[str, str]) -> str:
    """A signed webhook; its answer. Refusal for a status that is not 2xx."""
    headers = {"X-Twilio-Signature": sign(account.token, url, form), "User-Agent": "TwilioProxy/1.1"}
    timeout = aiohttp.ClientTimeout(total=WEBHOOK_S)
    async with http.post(url, data=form, headers=headers, timeout=timeout, allow_redirects=False) as answer:
        text = await answer.text()
        if answer.status >= 300:
            raise Refusal(f"webhook answered {answer.status} {answer.reason or ''}".strip())
        return text


def read_twiml(text: str) -> Connected:
    """The stream that it connects. Refusal for anything else."""
    try:
        response = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refusal(f"12100: TwiML does not parse: {error}") from None
    stream = response.find("./Connect/Stream")
    if stream is None:
        verbs = ", ".join(each.tag for each in response)
        raise Refusal(f"TwiML connects no stream: {verbs or 'it is empty'}")
    url = stream.get("url", "")
    if urlsplit(url).query:
        raise Refusal("31923: the stream's URL has a query")
    parameters = {each.get("name", ""): each.get("value", "") for each in stream.findall("Parameter")}
    return Connected(url, parameters)
