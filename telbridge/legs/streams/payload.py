"""Reading what a stranger sends: JSON objects and base64, with errors of few words and none of the data."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from telbridge.audio.formats import AudioFormat

MAX_PARAMETERS: Final = 64
MAX_TEXT: Final = 512
"""Of an id or a parameter; the rest is cut off."""


class Malformed(ValueError):
    """A message that breaks the peer's contract; the text is fit for a close reason."""


def json_object(message: str) -> Mapping[str, Any]:
    """Malformed if it is none."""
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise Malformed("message is not JSON") from None
    if not isinstance(fields, dict):
        raise Malformed("message is no JSON object")
    return fields


def table(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object at `key`. Malformed if there is none."""
    value = fields.get(key)
    if not isinstance(value, dict):
        raise Malformed(f"`{key}` is no object")
    return value


def text(fields: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """The text at `key`, cut to a sane length. Malformed if it is none, or missing without a default."""
    value = fields.get(key, default)
    if not isinstance(value, str):
        raise Malformed(f"`{key}` is no text")
    return _plain(value)


def texts(value: object) -> dict[str, str]:
    """A table of texts; numbers and truth values are written out, what else is left out."""
    if not isinstance(value, dict):
        return {}
    plain = ((key, item) for key, item in value.items() if isinstance(item, str | int | float))
    return {_plain(key): _plain(str(item)) for key, item in list(plain)[:MAX_PARAMETERS]}


def _plain(value: str) -> str:
    """Cut, and without lone surrogates, which JSON may hold and no file takes."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()


def audio_of(payload: object, format: AudioFormat) -> bytes:
    """Whole samples out of base64. Malformed otherwise."""
    if not isinstance(payload, str):
        raise Malformed("the payload is no text")
    try:
        audio = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:
        raise Malformed("the payload is not base64") from None
    return whole_samples(audio, format)


def whole_samples(audio: bytes, format: AudioFormat) -> bytes:
    """The same. Malformed for half a sample."""
    if len(audio) % format.sample_bytes:
        raise Malformed("half a sample of audio")
    return audio
