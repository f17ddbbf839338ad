"""Records wait on disk until the database has them.

One file a record, written under another name, synced and renamed, as mail is delivered to a maildir: a file
that is there is whole, whoever dies when; any number of workers write, one archive reads; what the database
has is deleted at once, so that nothing private stays behind.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from telbridge.ops.records import append_line

log = structlog.get_logger()

SUFFIX: Final = ".json"
REFUSED: Final = "refused"
"""Folder of what the database would not take: for a person to look at."""


class Spool:
    """A worker's side: `put` returns when the record is safe. Its one thread keeps the disk's pace from
    everybody else's."""

    def __init__(self, folder: Path, lines: Path | None = None) -> None:
        """`lines`: a file of JSON Lines that gets every record, too."""
        self._folder, self._lines = folder, lines
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="records")

    async def put(self, record: Mapping[str, Any]) -> None:
        """A record that the disk does not take is logged with the call's id, and lost."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._put, record)
        except OSError as error:
            log.error("record_lost", call_id=record["call_id"], folder=str(self._folder), error=str(error))

    def _put(self, record: Mapping[str, Any]) -> None:
        write(self._folder, record)
        if self._lines is not None:
            append_line(self._lines, record)


def write(folder: Path, record: Mapping[str, Any], *, unless_there: bool = False) -> None:
    """Blocks until the record would survive a power failure. Raises OSError."""
    path = _file(folder, str(record["call_id"]))
    if unless_there and path.exists():
        return
    # As few system calls as it takes: after each of them this thread waits for the interpreter.
    unready = path.with_suffix(f".{os.getpid()}")
    data = json.dumps(record).encode("ascii") + b"\n"
    descriptor = _opened(folder, unready)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unready.replace(path)
    _sync(folder)


def read(folder: Path, call_id: str) -> dict[str, Any] | None:
    """The record of a call that waits here. Blocks."""
    try:
        record = json.loads(_file(folder, call_id).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _file(folder: Path, call_id: str) -> Path:
    return folder / f"{quote(call_id, safe='')}{SUFFIX}"


def _opened(folder: Path, path: Path) -> int:
    """A new file in the folder, which is made if it is not there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync(folder: Path) -> None:
    """The folder's own list of names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One record on disk."""

    path: Path
    record: Mapping[str, Any]

    def done(self) -> None:
        """The database has it."""
        self.path.unlink(missing_ok=True)

    def refuse(self) -> None:
        """The database will never take it: it must not hold up the others, nor be lost."""
        _put_aside(self.path)


def waiting(folder: Path) -> Iterator[Waiting]:
    """The records that wait now, the oldest first. Blocks. Raises OSError."""
    for path in _oldest_first(folder):
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue  # Another archive on this folder was faster.
        except ValueError:
            record = None
        if isinstance(record, dict) and "call_id" in record and "ended_at" in record:
            yield Waiting(path, record)
        else:
            _put_aside(path)


def _oldest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    aged = []
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            aged.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue
    return [path for _, path in sorted(aged)]


def _put_aside(path: Path) -> None:
    refused = path.parent / REFUSED
    refused.mkdir(mode=0o700, exist_ok=True)
    path.replace(refused / path.name)
    log.error("record_refused", file=str(refused / path.name), remedy="report it, with numbers removed")
