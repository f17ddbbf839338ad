"""WAVE files in and out (RIFF; Microsoft/IBM Multimedia Programming Interface 1.0, and RFC 2361's tags).

Read: linear PCM of 8, 16, 24 and 32 bit and G.711, any number of channels. Written: 16-bit linear.
"""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.g711 import alaw_to_pcm16, ulaw_to_pcm16
from telbridge.audio.resampler import resample
from telbridge.audio.transcoder import Transcoder

Samples = npt.NDArray[np.int16]

_EXTENSIBLE: Final = 0xFFFE
_EXTENSIBLE_TAG_AT: Final = 24
"""Where WAVE_FORMAT_EXTENSIBLE has the tag it stands for: the first two octets of its SubFormat."""
_READABLE: Final = "we read PCM (tag 1) of 8, 16, 24 or 32 bit, a-law (6) and μ-law (7)"


class _Tag(IntEnum):
    """The format tags that we read."""

    PCM = 1
    ALAW = 6
    ULAW = 7


@dataclass(frozen=True, slots=True)
class _Format:
    """What of a `fmt ` chunk matters here."""

    tag: int
    channels: int
    rate_hz: int
    bits: int


def read_wav(path: Path) -> tuple[bytes, int]:
    """Mono PCM16 and its rate in Hz; several channels are averaged.

    A data chunk that claims more than the file holds (a recording cut short, a pipe) is read as far as it
    goes. ValueError, naming the file, where it is no WAVE file or one of another kind; OSError as usual.
    """
    try:
        chunks = dict(_chunks(path.read_bytes()))
        audio = _format(chunks)
        return _mono(chunks[b"data"], audio), audio.rate_hz
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_wav(path: Path, format: AudioFormat) -> bytes:
    """The file as audio in `format`, resampled once and without delay. Errors as `read_wav`, and ValueError
    where the file's rate and the format's have no ratio of small numbers."""
    pcm, rate_hz = read_wav(path)
    if rate_hz != format.rate_hz:
        try:
            pcm = resample(pcm, rate_hz, format.rate_hz)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return Transcoder(AudioFormat(Encoding.PCM16, format.rate_hz), format).convert(pcm)


def write_wav(path: Path, channels: Sequence[bytes], rate_hz: int) -> None:
    """One channel of PCM16, or two as left and right; the shorter is filled up with silence.
    ValueError for any other number of channels and for half a sample."""
    if len(channels) not in (1, 2):
        raise ValueError(f"{path}: one or two channels, not {len(channels)}")
    samples = [np.frombuffer(channel, "<i2") for channel in channels]
    frames = np.zeros((max(map(len, samples)), len(samples)), "<i2")
    for column, channel in zip(frames.T, samples, strict=True):
        column[: len(channel)] = channel
    with wave.open(str(path), "wb") as file:
        file.setparams((len(samples), 2, rate_hz, len(frames), "NONE", ""))
        file.writeframes(frames.tobytes())


def _chunks(riff: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of a RIFF file of the form WAVE."""
    if riff[:4] != b"RIFF" or riff[8:12] != b"WAVE":
        raise ValueError("not a WAVE file")
    at = 12
    while at + 8 <= len(riff):
        name, length = struct.unpack_from("<4sI", riff, at)
        yield name, riff[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _format(chunks: dict[bytes, bytes]) -> _Format:
    if b"data" not in chunks:
        raise ValueError("no data chunk")
    content = chunks.get(b"fmt ", b"")
    if len(content) < 16:
        raise ValueError("no fmt chunk")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", content)
    if tag == _EXTENSIBLE and len(content) >= _EXTENSIBLE_TAG_AT + 2:
        (tag,) = struct.unpack_from("<H", content, _EXTENSIBLE_TAG_AT)
    if not channels or not rate_hz:
        raise ValueError(f"{channels} channels at {rate_hz} Hz")
    return _Format(tag, channels, rate_hz, bits)


def _mono(data: bytes, audio: _Format) -> bytes:
    samples = _samples(data, audio)
    frames = samples[: len(samples) // audio.channels * audio.channels].reshape(-1, audio.channels)
    mixed: Samples = np.rint(frames.mean(axis=1)).astype("<i2")
    return mixed.tobytes()


def _samples(data: bytes, audio: _Format) -> Samples:
    """The data of all channels, interleaved as they are; of more than 16 bit the upper ones."""
    match audio.tag, audio.bits:
        case (_Tag.PCM, 8):
            # The only width that is unsigned.
            return (np.frombuffer(data, np.uint8).astype("<i2") - 128) << 8
        case (_Tag.PCM, 16 | 24 | 32):
            octets = audio.bits // 8
            whole = np.frombuffer(data[: len(data) // octets * octets], np.uint8).reshape(-1, octets)
            return np.ascontiguousarray(whole[:, -2:]).view("<i2").ravel()
        case (_Tag.ALAW, 8):
            return np.frombuffer(alaw_to_pcm16(data), "<i2")
        case (_Tag.ULAW, 8):
            return np.frombuffer(ulaw_to_pcm16(data), "<i2")
        case _:
            raise ValueError(f"{audio.bits} bit of format tag {audio.tag}; {_READABLE}")
