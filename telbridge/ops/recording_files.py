"""Recordings as files: two channels, WAV or Opus in Ogg. Everything here blocks.

A file that is being written has a hidden name; it gets its own when it is whole and on the disk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    import soundfile

Kind = Literal["wav", "opus"]
SUFFIXES: Final[dict[Kind, str]] = {"wav": ".wav", "opus": ".opus"}
UNFINISHED: Final = ".part"
CONTENT_TYPES: Final = {".wav": "audio/wav", ".opus": "audio/ogg"}
_PIECE: Final = 32_000
"""Octets that libsndfile gets at a time: its Ogg writer keeps them on the stack."""
_HEADER_OCTETS: Final = 44


def opus_is_there() -> bool:
    """Whether the extra `recording` is installed."""
    return find_spec("soundfile") is not None


class _Sink(Protocol):
    def write(self, frames: bytes) -> None: ...

    def close(self) -> None: ...


class RecordingFile:
    """From its making to `finish`. Every method raises OSError."""

    def __init__(self, path: Path, kind: Kind, rate_hz: int) -> None:
        """`path` is what it is called once it is whole."""
        self._path, self._unfinished = path, path.with_name(f".{path.stem}.{os.getpid()}{UNFINISHED}")
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._sink: _Sink = (_Wav if kind == "wav" else _Opus)(descriptor, rate_hz)
        except BaseException:
            os.close(descriptor)
            self._unfinished.unlink()
            raise
        self._descriptor = descriptor

    def write(self, frames: bytes) -> None:
        """Two channels, 16 bit, interleaved."""
        self._sink.write(frames)

    def finish(self) -> None:
        """The rest of it, then its name. What could not be written is not in it."""
        try:
            self._sink.close()
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._unfinished.replace(self._path)


class _Wav:
    """16 bit linear (RIFF). The header is brought up to date with every write: what a killed process leaves
    behind can be played."""

    def __init__(self, descriptor: int, rate_hz: int) -> None:
        self._descriptor, self._rate_hz, self._octets = descriptor, rate_hz, 0
        self._put(self._header(), 0)

    def write(self, frames: bytes) -> None:
        self._put(frames, _HEADER_OCTETS + self._octets)
        self._octets += len(frames)
        self._put(self._header(), 0)

    def close(self) -> None:
        """The header is right already."""

    def _put(self, octets: bytes, at: int) -> None:
        while octets:
            written = os.pwrite(self._descriptor, octets, at)
            octets, at = octets[written:], at + written

    def _header(self) -> bytes:
        octets = min(self._octets, 2**32 - 1 - _HEADER_OCTETS)
        shape = struct.pack("<IHHIIHH", 16, 1, 2, self._rate_hz, self._rate_hz * 4, 4, 16)
        return (
            b"RIFF"
            + struct.pack("<I", 36 + octets)
            + b"WAVEfmt "
            + shape
            + b"data"
            + struct.pack("<I", octets)
        )


class _Opus:
    """By libsndfile, which knows 8, 12, 16, 24 and 48 kHz (RFC 7845, RFC 6716 §2)."""

    def __init__(self, descriptor: int, rate_hz: int) -> None:
        import soundfile

        self._error = soundfile.LibsndfileError
        try:
            self._file: soundfile.SoundFile = soundfile.SoundFile(
                descriptor, "w", rate_hz, 2, "OPUS", format="OGG", closefd=False
            )
        except self._error as error:
            raise OSError(str(error)) from error

    def write(self, frames: bytes) -> None:
        try:
            for start in range(0, len(frames), _PIECE):
                self._file.buffer_write(frames[start : start + _PIECE], "int16")
        except (self._error, AssertionError) as error:
            raise OSError(f"not all could be written: {error}") from error

    def close(self) -> None:
        try:
            self._file.close()
        except self._error as error:
            raise OSError(str(error)) from error


def forget_before(folder: Path, moment: datetime) -> int:
    """Delete what was written before, and folders that are empty then; how many recordings. OSError."""
    gone = 0
    for path in list(_recordings(folder)):
        if path.stat().st_mtime < moment.timestamp():
            path.unlink()
            gone += 1
    for day in folder.iterdir() if folder.is_dir() else ():
        if day.is_dir() and not any(day.iterdir()):
            day.rmdir()
    return gone


def _recordings(folder: Path) -> Iterator[Path]:
    """Ours alone, whole or not."""
    for suffix in (*SUFFIXES.values(), UNFINISHED):
        yield from folder.glob(f"*/*{suffix}")
