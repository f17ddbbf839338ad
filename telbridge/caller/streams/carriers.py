"""What the carriers here share: how they ask a webhook, and how their callers' μ-law becomes their codec."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import urlencode, urlsplit, urlunsplit

import aiohttp
import numpy as np

from telbridge.audio.formats import PCMU_8K, AudioFormat
from telbridge.audio.transcoder import Transcoder
from telbridge.caller.streams.dialects import Dialect
from telbridge.caller.streams.line import Kind
from telbridge.caller.streams.webhook import WEBHOOK_S, Refusal

FRAME_MS: Final = 20


@dataclass(frozen=True, slots=True)
class Request:
    """A webhook, signed."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


class CarrierSide(Protocol):
    """A carrier, as it turns to a bridge."""

    def voice(self, url: str, call: str, caller: str, called: str) -> Request:
        """A call has come."""

    def status(self, url: str, call: str, status: str) -> Request:
        """The call's progress."""

    def connected(self, answer: str, call: str, caller: str, called: str) -> tuple[str, Dialect]:
        """Where the answer wants the stream, and who speaks there. Refusal if it says anything else."""


@runtime_checkable
class Following(CarrierSide, Protocol):
    """A carrier that asks what comes next once the bridge has closed the stream."""

    @property
    def kind(self) -> Kind: ...

    def facts(self, call: str, caller: str, called: str) -> dict[str, str]:
        """What every webhook of a call says."""

    def signed(self, url: str, form: Mapping[str, str]) -> Request:
        """Any webhook."""


class Coder:
    """One stream between the caller's μ-law and what goes over the wire."""

    def __init__(self, wire: AudioFormat, *, big_endian: bool = False) -> None:
        """`big_endian`: the order of the octets of linear samples."""
        self.wire: Final = wire
        self.frame_octets: Final = wire.bytes_for_ms(FRAME_MS)
        self._out, self._in = Transcoder(PCMU_8K, wire), Transcoder(wire, PCMU_8K)
        self._swaps = big_endian and wire.sample_bytes == 2

    def sent(self, payload: bytes) -> bytes:
        """20 ms of the caller, as the bridge gets them."""
        audio = self._out.convert(payload)
        return _swapped(audio) if self._swaps else audio

    def heard(self, audio: bytes) -> bytes:
        """What the bridge sends, for the caller. ValueError for half a sample, and for nothing."""
        if not audio or len(audio) % self.wire.sample_bytes:
            raise ValueError(f"{len(audio)} octets of {self.wire}")
        return self._in.convert(_swapped(audio) if self._swaps else audio)


def form_request(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Request:
    """A form, posted."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request(url, {**kind, **headers}, urlencode(form).encode())


async def ask(http: aiohttp.ClientSession, request: Request) -> str:
    """The answer. Refusal for a status that is not 2xx."""
    timeout = aiohttp.ClientTimeout(total=WEBHOOK_S)
    asking = http.request(
        request.method,
        request.url,
        data=request.body or None,
        headers=request.headers,
        timeout=timeout,
        allow_redirects=False,
    )
    async with asking as answer:
        text = await answer.text()
        if answer.status >= 300:
            raise Refusal(f"webhook answered {answer.status} {answer.reason or ''}".strip())
        return text


def webhook_url(url: str, name: str, what: str) -> str:
    """The webhook `voice` or `status` that belongs to a dialled `NAME+ws://…` address, beside `/stream`."""
    parts = urlsplit(url.removeprefix(f"{name}+"))
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address; expected {name}+ws://HOST:PORT/{name}/stream")
    folder = (parts.path or f"/{name}/stream").removesuffix("/stream").removesuffix("/voice")
    return urlunsplit((scheme, parts.netloc, f"{folder}/{what}", parts.query, ""))


def xml_stream(text: str, path: str) -> ET.Element:
    """The one `<Stream>` at this path below `<Response>`. Refusal for anything else."""
    try:
        response = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refusal(f"the answer does not parse: {error}") from None
    streams = response.findall(path)
    if response.tag != "Response" or len(streams) != 1:
        verbs = ", ".join(each.tag for each in response)
        raise Refusal(f"the answer connects no stream: {verbs or 'it is empty'}")
    return streams[0]


def object_of(message: str | bytes) -> dict[str, Any]:
    """A JSON object as text. ValueError."""
    if isinstance(message, bytes):
        raise ValueError("binary message")
    fields = json.loads(message)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    return fields


def exactly(fields: Mapping[str, Any], *names: str) -> None:
    """ValueError unless it has these fields and no others."""
    if set(fields) != set(names):
        raise ValueError(f"fields {', '.join(sorted(fields))} instead of {', '.join(sorted(names))}")


def _swapped(pcm: bytes) -> bytes:
    return np.frombuffer(pcm, "<i2").byteswap().tobytes()
