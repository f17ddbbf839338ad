"""What dialplans name and their text does not hold: WAV files and Python functions."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav
from telbridge.dialplan import lines
from telbridge.dialplan.checking import files
from telbridge.dialplan.loader import DialplanSet
from telbridge.dialplan.mistakes import DialplanErrors, Finding, Mistake, dotted, in_file
from telbridge.dialplan.plan import Plan
from telbridge.serving.entry_points import NoSuchFunction, resolved

LARGEST: Final = 50_000_000
"""Octets of a WAV file: five minutes of CD audio, 50 minutes of telephone."""


class Stamp(NamedTuple):
    """What of a file shows that it is another one now."""

    mtime_ns: int
    size: int
    inode: int


def stamp(path: Path) -> Stamp | None:
    """None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


class Recordings:
    """Reads the WAV files of dialplans; one that stays the same is converted once."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[Stamp | None, bytes]] = {}

    @property
    def stamps(self) -> Mapping[Path, Stamp | None]:
        """Of all files, as they were when they were read."""
        return {path: when for path, (when, _) in self._read.items()}

    def of(self, plans: DialplanSet) -> Mapping[str, bytes]:
        """PCM_8K by the name that the dialplans of the folder give it. DialplanErrors."""
        mistakes: list[Mistake] = []
        found: dict[str, bytes] = {}
        read: dict[Path, tuple[Stamp | None, bytes]] = {}
        for plan in plans.plans:
            for place, name in files(plan.dialplan):
                path = Path(plan.file).parent / name
                try:
                    read[path] = read.get(path) or self._wav(path)
                except (ValueError, OSError) as fault:
                    mistakes.append(_mistake(plan, Finding(place, _why(path, fault), _REMEDY)))
                else:
                    found[name] = read[path][1]
        if mistakes:
            raise DialplanErrors(list(dict.fromkeys(mistakes)))
        self._read = read
        return found

    def _wav(self, path: Path) -> tuple[Stamp | None, bytes]:
        now = stamp(path)
        known = self._read.get(path)
        if known is not None and known[0] == now:
            return known
        if now is not None and now.size > LARGEST:
            raise ValueError(f"is larger than {LARGEST // 1_000_000} MB")
        audio = load_wav(path, PCM_8K)
        if not audio:
            raise ValueError("holds no audio")
        return now, audio


_REMEDY: Final = "name a WAV file, from the dialplan's folder"


def _why(path: Path, fault: ValueError | OSError) -> str:
    what = fault.strerror if isinstance(fault, OSError) else str(fault).removeprefix(f"{path}: ")
    return f"{path}: {what or type(fault).__name__}"


def missing_functions(plans: DialplanSet) -> list[Mistake]:
    """Import what tools name as `python`; what is not there."""
    return [_mistake(plan, finding) for plan in plans.plans for finding in _functions(plan)]


def with_sound(plans: DialplanSet, recordings: Mapping[str, bytes]) -> DialplanSet:
    """The same, their versions those of the text and of all that is played."""
    if not recordings:
        return plans
    digests = {name: hashlib.sha256(audio).digest() for name, audio in recordings.items()}
    heard = [_with_sound(plan, digests) for plan in plans.plans]
    return replace(plans, plans=tuple(heard), version=_version(plans.version, digests))


def _with_sound(plan: Plan, digests: Mapping[str, bytes]) -> Plan:
    named = {name: digests[name] for _, name in files(plan.dialplan)}
    return replace(plan, version=_version(plan.version, named)) if named else plan


def _version(text: str, digests: Mapping[str, bytes]) -> str:
    parts = (name.encode() + b"\0" + digest for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode() + b"\0".join(parts)).hexdigest()[:12]


def _functions(plan: Plan) -> Iterator[Finding]:
    for name, tool in plan.dialplan.tools.items():
        if tool.python is None:
            continue
        try:
            resolved(tool.python)
        except NoSuchFunction as missing:
            what = str(missing)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - code of others
            what = f"its module cannot be imported ({type(fault).__name__})"
        else:
            continue
        yield Finding(("tools", name, "python"), what, "write package.module:function")


def _mistake(plan: Plan, finding: Finding) -> Mistake:
    """With its line, if the file still is what was loaded."""
    try:
        text = Path(plan.file).read_text("utf-8")
        path = in_file(finding.path, tomllib.loads(text), missing=True)
        line = lines.line_of(lines.lines_of(text), path)
    except (OSError, ValueError):
        path, line = finding.path, 0
    return Mistake(plan.file, line, dotted(path), finding.what, finding.instead)
