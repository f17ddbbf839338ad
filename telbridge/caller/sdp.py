"""Session descriptions of one audio stream (RFC 8866), offered and answered (RFC 3264). Pure.

Only what a telephone needs: G.711 with static payload types, telephone-event (RFC 4733), direction, ptime.
Other codecs and other media of a peer are skipped, not kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat

TELEPHONE_EVENT_PAYLOAD_TYPE: Final = 101
PTIME_MS: Final = 20
STATIC_PAYLOAD_TYPES: Final[dict[AudioFormat, int]] = {PCMU_8K: 0, PCMA_8K: 8}
"""RFC 3551 §6, table 4."""
_FORMAT_BY_PAYLOAD_TYPE: Final = {number: name for name, number in STATIC_PAYLOAD_TYPES.items()}
_FORMAT_BY_NAME: Final = {"PCMU/8000": PCMU_8K, "PCMA/8000": PCMA_8K}


class Direction(Enum):
    """Who sends, seen from the side that wrote the description (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @staticmethod
    def of(*, sends: bool, receives: bool) -> Direction:
        if sends:
            return Direction.SENDRECV if receives else Direction.SENDONLY
        return Direction.RECVONLY if receives else Direction.INACTIVE

    def reversed(self) -> Direction:
        """The same stream seen from the other side."""
        return Direction.of(sends=self.receives, receives=self.sends)


@dataclass(frozen=True, slots=True)
class Codec:
    """A payload type and what it stands for in this session."""

    payload_type: int
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One audio stream of one side. `parse` and `str` are a pair."""

    address: str
    """IPv4 address the side wants to receive at; `0.0.0.0` is the old hold (RFC 3264 §8.4)."""
    port: int
    """0: the stream is refused (RFC 3264 §6)."""
    codecs: tuple[Codec, ...]
    direction: Direction = Direction.SENDRECV
    event_payload_type: int | None = TELEPHONE_EVENT_PAYLOAD_TYPE
    """Payload type of telephone-event, None without it."""
    ptime_ms: int = PTIME_MS
    session_id: int = 1
    version: int = 1
    """Grows with each new description of the same session (RFC 3264 §8)."""

    @classmethod
    def parse(cls, body: bytes) -> SessionDescription:
        """ValueError if there is no audio stream or no connection address."""
        session, audio = _split(body.decode("utf-8", "replace"))
        media = audio[0].split()
        if len(media) < 4:
            raise ValueError(f"SDP: m={audio[0]!r} has too few fields (RFC 8866 §5.14)")
        connection = _value(audio, "c=") or _value(session, "c=")
        if connection is None:
            raise ValueError("SDP: neither the session nor the audio stream has c= (RFC 8866 §5.7)")
        payload_types = [int(number) for number in media[3:] if number.isdigit()]
        names = _rtpmap(audio)
        origin = (_value(session, "o=") or "- 0 0").split()
        return cls(
            address=connection.split()[-1].split("/")[0],
            port=int(media[1].split("/")[0]),
            codecs=_codecs(payload_types, names),
            direction=_direction(audio) or _direction(session) or Direction.SENDRECV,
            event_payload_type=next(
                (n for n in payload_types if names.get(n) == "TELEPHONE-EVENT/8000"), None
            ),
            ptime_ms=int(_value(audio, "a=ptime:") or PTIME_MS),
            session_id=int(origin[1]),
            version=int(origin[2]),
        )

    def __str__(self) -> str:
        numbers = [codec.payload_type for codec in self.codecs]
        if self.event_payload_type is not None:
            numbers.append(self.event_payload_type)
        lines = [
            "v=0",
            f"o=- {self.session_id} {self.version} IN IP4 {self.address}",
            "s=telbridge caller",
            f"c=IN IP4 {self.address}",
            "t=0 0",
            f"m=audio {self.port} RTP/AVP {' '.join(map(str, numbers))}",
            *(f"a=rtpmap:{c.payload_type} {c.format.encoding.name}/{c.format.rate_hz}" for c in self.codecs),
        ]
        if self.event_payload_type is not None:
            lines += [
                f"a=rtpmap:{self.event_payload_type} telephone-event/8000",
                f"a=fmtp:{self.event_payload_type} 0-15",
            ]
        lines += [f"a=ptime:{self.ptime_ms}", f"a={self.direction.value}"]
        return "\r\n".join(lines) + "\r\n"

    def __bytes__(self) -> bytes:
        return str(self).encode()

    @property
    def on_hold(self) -> bool:
        """Whether this side does not want to hear anything."""
        return self.address == "0.0.0.0" or self.port == 0 or not self.direction.receives


def codecs_for(formats: Sequence[AudioFormat]) -> tuple[Codec, ...]:
    """Offer lines in the order of preference. KeyError for anything but G.711."""
    return tuple(Codec(STATIC_PAYLOAD_TYPES[one], one) for one in formats)


def chosen(answer: SessionDescription) -> Codec:
    """The codec an answer settles on: its first (RFC 3264 §6.1). ValueError if it has none of ours."""
    if not answer.codecs or answer.port == 0:
        raise ValueError("SDP: the answer has no G.711 codec or refuses the stream (RFC 3264 §6)")
    return answer.codecs[0]


def answer_to(
    offer: SessionDescription, ours: SessionDescription, wanted: Direction = Direction.SENDRECV
) -> SessionDescription:
    """Answer an offer from our own description (RFC 3264 §6.1): the first codec of theirs that we have, our
    port, and as much of `wanted` as they allow. ValueError if no codec is common."""
    formats = {codec.format for codec in ours.codecs}
    common = tuple(codec for codec in offer.codecs if codec.format in formats)[:1]
    if not common:
        raise ValueError("SDP: the offer has no codec that we have")
    theirs = offer.direction.reversed()
    return SessionDescription(
        address=ours.address,
        port=ours.port,
        codecs=common,
        direction=Direction.of(
            sends=theirs.sends and wanted.sends, receives=theirs.receives and wanted.receives
        ),
        event_payload_type=offer.event_payload_type,
        session_id=ours.session_id,
        version=ours.version + 1,
    )


def _split(text: str) -> tuple[list[str], list[str]]:
    """Session lines, and the lines of the first audio stream (its first line without `m=`)."""
    sections = re.split(r"^m=", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    for section in sections[1:]:
        if section.startswith("audio "):
            return sections[0].splitlines(), section.splitlines()
    raise ValueError("SDP: no audio stream")


def _value(lines: Sequence[str], prefix: str) -> str | None:
    return next((line[len(prefix) :].strip() for line in lines if line.startswith(prefix)), None)


def _direction(lines: Sequence[str]) -> Direction | None:
    return next((one for one in Direction if f"a={one.value}" in lines), None)


def _rtpmap(lines: Sequence[str]) -> dict[int, str]:
    """Payload type -> `NAME/RATE`, upper case, `/1` channel dropped (RFC 8866 §6.6)."""
    names: dict[int, str] = {}
    for line in lines:
        if match := re.match(r"a=rtpmap:(\d+)\s+([^/\s]+)/(\d+)", line):
            names[int(match[1])] = f"{match[2]}/{match[3]}".upper()
    return names


def _codecs(payload_types: Sequence[int], names: dict[int, str]) -> tuple[Codec, ...]:
    found: list[Codec] = []
    for number in payload_types:
        named = names.get(number)
        known = _FORMAT_BY_NAME.get(named) if named else _FORMAT_BY_PAYLOAD_TYPE.get(number)
        if known is not None:
            found.append(Codec(number, known))
    return tuple(found)
