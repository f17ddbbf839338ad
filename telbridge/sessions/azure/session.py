"""What an Azure Voice Live session says of itself: its address, its audio formats, its `session` objects.

Source: learn.microsoft.com, Speech service, "Voice Live API reference" (2026-07-15).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.azure.settings import NAME, AzureSettings
from telbridge.sessions.azure.vocabulary import MOST_NAME
from telbridge.sessions.credentials import revealed
from telbridge.sessions.provider import deep_merged

CONNECTION_FIELDS: Final = frozenset(
    {
        "url",
        "resource",
        "api_version",
        "model",
        "profile",
        "agent",
        "features",
        "api_key",
        "bearer_token",
        "entra",
        "entra_scope",
        "raw",
    }
)
"""Of the settings; all others are keys of the session object."""

_NULLABLE: Final = frozenset(
    {
        "input_audio_noise_reduction",
        "input_audio_echo_cancellation",
        "input_audio_transcription",
        "turn_detection",
        "interim_response",
    }
)
"""Keys that null switches off."""

_INPUT: Final[Mapping[str, AudioFormat]] = {"g711_ulaw": PCMU_8K, "g711_alaw": PCMA_8K}
_PCM: Final = {8_000: PCM_8K, 16_000: PCM_16K, 24_000: PCM_24K}
_OUTPUT: Final[Mapping[str, AudioFormat]] = {
    "g711_ulaw": PCMU_8K,
    "g711_alaw": PCMA_8K,
    "pcm16": PCM_24K,
    "pcm16_8000hz": PCM_8K,
    "pcm16_16000hz": PCM_16K,
}
_OUTPUT_NAME: Final = {audio_format: name for name, audio_format in _OUTPUT.items()}
_INPUT_NAME: Final = {PCMU_8K: "g711_ulaw", PCMA_8K: "g711_alaw"}


class Formats(NamedTuple):
    """Of the two directions; the API takes them independently."""

    uplink: AudioFormat
    downlink: AudioFormat


def formats(settings: AzureSettings, wire: AudioFormat) -> Formats:
    """What was set, else the telephone's own format, else linear 24 kHz. The rates below 24 kHz are known
    to work with Azure's voices only."""
    own = wire if wire in _OUTPUT_NAME else PCM_24K
    uplink = own
    if settings.input_audio_format is not None:
        rate_hz = settings.input_audio_sampling_rate or 24_000
        uplink = _INPUT.get(settings.input_audio_format, _PCM[rate_hz])
    elif settings.input_audio_sampling_rate is not None:
        fits = own.rate_hz == settings.input_audio_sampling_rate
        uplink = own if fits else _PCM[settings.input_audio_sampling_rate]
    if settings.output_audio_format is not None:
        return Formats(uplink, _OUTPUT[settings.output_audio_format])
    law_or_synthesised = own in _INPUT_NAME or settings.synthesised
    return Formats(uplink, own if law_or_synthesised else PCM_24K)


def session_object(settings: AzureSettings, audio: Formats, environ: Mapping[str, str]) -> Json:
    """The whole `session` of the first update. SecretMissing for a secret inside a tool or the avatar."""
    # The connection's secrets are none of the session's: whether they are there is asked elsewhere.
    own = settings.model_copy(update={"api_key": None, "bearer_token": None, "agent": None})
    tree = revealed(own, environ, key=NAME, exclude=set(CONNECTION_FIELDS), exclude_none=True)
    session = {key: None if key in _NULLABLE and value == "off" else value for key, value in tree.items()}
    for key in _NULLABLE & settings.model_fields_set:
        session.setdefault(key, None)
    return deep_merged(session | _named(audio), settings.raw)


def format_fault(audio: Formats, session: Json) -> str:
    """What of a `session.updated` is not as asked; "" if it is. Another format would be noise at full
    volume. The rate is compared for linear audio only: no source shows what comes back with G.711."""
    asked = _named(audio)
    keys = ["input_audio_format", "output_audio_format"]
    if asked["input_audio_format"] == "pcm16":
        keys.append("input_audio_sampling_rate")
    for key in keys:
        got = session.get(key)
        if isinstance(got, str):
            got = got.replace("-", "_")  # Older versions spell them so.
        if isinstance(got, str | int) and got != asked[key]:
            return f"session.updated has {key} {str(got)[:MOST_NAME]}, asked was {asked[key]}"
    return ""


def _named(audio: Formats) -> Json:
    return {
        "input_audio_format": _INPUT_NAME.get(audio.uplink, "pcm16"),
        "input_audio_sampling_rate": audio.uplink.rate_hz,
        "output_audio_format": _OUTPUT_NAME[audio.downlink],
    }


def patch(before: Json, after: Json) -> Json:
    """The `session` of a later update: what differs, each key whole, for one page says that an update
    replaces what it names. A key that is gone was switched off."""
    session = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return session | {key: None for key in before if key not in after}


def address_with_query(settings: AzureSettings, address: str, environ: Mapping[str, str]) -> str:
    """The address with everything that the connection fixes. What stands in the query already wins.
    SecretMissing for a classic agent's token."""
    query = {"api-version": settings.api_version}
    if settings.agent is None:
        query["model"] = settings.model
    else:
        agent = revealed(settings.agent, environ, key=f"{NAME}.agent", exclude_none=True)
        query |= {name.replace("_", "-"): value for name, value in agent.items()}
    if settings.profile is not None:
        query["profile"] = settings.profile
    if settings.features:
        query["features"] = ",".join(settings.features)
    url = urlsplit(address)
    query |= dict(parse_qsl(url.query))
    return urlunsplit(url._replace(query=urlencode(query)))
