"""From a folder of TOML files to dialplans that are proved right: all of them, or none."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from telbridge.dialplan import asking, lines, matching, naming
from telbridge.dialplan.asking import Agents, Around
from telbridge.dialplan.checking import extends, files, findings
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.mistakes import DialplanErrors, Finding, Mistake, dotted, explained, in_file
from telbridge.dialplan.model import Dialplan, Session, Shared
from telbridge.dialplan.plan import Plan, resolved

LARGEST: Final = 1_000_000
"""Bytes of one file."""
DEEPEST: Final = 40
"""Tables and lists in each other; actions in `on_error` of actions take two each."""
_AT: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_KEY: Final = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


@dataclass(frozen=True, slots=True)
class DialplanSet:
    """All dialplans of one folder at one moment."""

    plans: tuple[Plan, ...]
    version: str
    """Hash of everything."""
    sources: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """All files as they were read, by their paths."""

    def route(self, facts: Facts, at: datetime) -> matching.Route:
        """Which one a call gets, and why the others did not match."""
        return matching.route(self.plans, facts, at)

    def plan(self, name: str) -> Plan:
        """KeyError if there is none of this name."""
        return {plan.name: plan for plan in self.plans}[name]

    def plan_for(self, facts: Facts, at: datetime) -> Plan | None:
        """The dialplan of a call."""
        chosen = self.route(facts, at).chosen
        return None if chosen is None else self.plan(chosen)


@dataclass(frozen=True)
class _Source:
    """One file that was read and parsed."""

    path: Path
    raw: bytes
    text: str
    content: Mapping[str, Any]

    def mistake(self, finding: Finding) -> Mistake:
        path = in_file(finding.path, self.content, missing=True)
        line = lines.line_of(lines.lines_of(self.text), path)
        return Mistake(str(self.path), line, dotted(path), finding.what, finding.instead)


def load(path: Path, agents: Agents) -> DialplanSet:
    """The dialplans of a folder, or one file with what its folder shares. Raises DialplanErrors."""
    found = examine(path, agents)
    if found.mistakes:
        raise DialplanErrors(found.mistakes)
    return found.plans


@dataclass(frozen=True, slots=True)
class Examined:
    """What a folder holds."""

    plans: DialplanSet
    """Those without a mistake."""
    mistakes: list[Mistake]


def examine(path: Path, agents: Agents) -> Examined:
    """As `load`, for who wants to know of the right ones though others are wrong."""
    mistakes: list[Mistake] = []
    sources = list(_sources(path, mistakes))
    found = _examined(sources, agents, mistakes, Path.is_file)
    if not found.plans.sources and not mistakes:
        mistakes.append(Mistake(str(path), 0, "", "holds no dialplan", "write one, such as default.toml"))
    return found


def restore(sources: Mapping[str, bytes], agents: Agents) -> DialplanSet:
    """What `load` made of these files once, wherever they and what they name are now. DialplanErrors."""
    read = [_parsed(Path(path), raw) for path, raw in sources.items()]
    mistakes = [one for one in read if isinstance(one, Mistake)]
    found = _examined([one for one in read if isinstance(one, _Source)], agents, mistakes, lambda _: True)
    if found.mistakes:
        raise DialplanErrors(found.mistakes)
    return found.plans


def _examined(
    sources: Sequence[_Source], agents: Agents, mistakes: list[Mistake], exists: Callable[[Path], bool]
) -> Examined:
    shared = [source for source in sources if source.path.name.startswith("_")]
    own = [source for source in sources if source not in shared]
    profiles, hours = _shared(shared, agents, mistakes)
    plans: list[Plan] = []
    if any(Path(one.file).name.startswith("_") for one in mistakes):
        # What builds on the shared files would only repeat their mistakes.
        mistakes += [one for source in own for one in _misshapen(source)]
    else:
        common = b"\0".join(source.raw for source in shared)
        for source in own:
            found, wrong = _plan(source, profiles, hours, agents, common, exists)
            mistakes += wrong
            plans += found
        mistakes += _rivals(plans, own)
    everything = hashlib.sha256(b"\0".join(source.raw for source in sources)).hexdigest()[:12]
    raw = {str(source.path): source.raw for source in sources} if own else {}
    return Examined(DialplanSet(tuple(plans), everything, raw), mistakes)


def _misshapen(source: _Source) -> list[Mistake]:
    found = _validated(source, Dialplan)
    return found if isinstance(found, list) else []


def _sources(path: Path, mistakes: list[Mistake]) -> Iterator[_Source]:
    folder = path if path.is_dir() else path.parent
    try:
        names = sorted(folder.glob("*.toml"))
    except OSError:
        names = []
    if not path.is_dir():
        names = [name for name in names if name.name.startswith("_") and name != path] + [path]
    for name in names:
        source = _read(name)
        if isinstance(source, Mistake):
            mistakes.append(source)
        else:
            yield source


def _read(path: Path) -> _Source | Mistake:
    file = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        return Mistake(file, 0, "", error.strerror or "cannot be read", "name a readable TOML file")
    return _parsed(path, raw)


def _parsed(path: Path, raw: bytes) -> _Source | Mistake:
    file = str(path)
    if len(raw) > LARGEST:
        return Mistake(file, 0, "", "is larger than 1 MB", "split it")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Mistake(file, raw.count(b"\n", 0, error.start) + 1, "", "is not UTF-8", "save it as UTF-8")
    try:
        content = tomllib.loads(text)
    except RecursionError:
        return Mistake(
            file, 0, "", "is nested without an end", "a dialplan needs ten tables in each other at most"
        )
    except tomllib.TOMLDecodeError as error:
        return _no_toml(file, text, str(error))
    except ValueError as error:  # A date that there is not, or a number with thousands of digits.
        return Mistake(file, 0, "", f"is not TOML: {error}", "put it in quotes")
    source = _Source(path, raw, text, content)
    deep = _too_deep(content)
    if deep is not None:
        return source.mistake(
            Finding(deep, "is nested too deeply", f"write {DEEPEST} tables in each other at most")
        )
    return source


def _too_deep(content: Mapping[str, Any]) -> lines.Path | None:
    """The first place deeper than any model. Without recursion: dotted keys can nest without an end."""
    stack: list[tuple[lines.Path, Any]] = [((), content)]
    while stack:
        path, value = stack.pop()
        if len(path) > DEEPEST and isinstance(value, (dict, list)):
            return path[:1]
        if isinstance(value, dict):
            stack += [((*path, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [((*path, index), item) for index, item in enumerate(value)]
    return None


def _no_toml(file: str, text: str, message: str) -> Mistake:
    found = _AT.search(message)
    line = int(found[1]) if found and found[1] else text.count("\n") + (not text.endswith("\n"))
    what = f"is not TOML: {message[: found.start()].lower()}" if found else "is not TOML"
    rows = text.splitlines()
    written = rows[line - 1] if 0 < line <= len(rows) else ""
    key = _KEY.match(written)
    instead = "see https://toml.io for the syntax"
    if "Invalid value" in message:
        instead = "put text in quotes; true, false and numbers stand without"
    elif "overwrite" in message or "twice" in message or "mutate" in message:
        instead = "write each key and each table once; several of a kind are [[…]]"
    elif "Unclosed array" in message:
        instead = "close the list with ]"
    elif "Illegal character" in message or "Unterminated" in message:
        instead = 'close the text with ", or write a longer one between """ and """'
    elif "inline" in message.lower() or (written.rstrip().endswith(("{", ",")) and "{" in written):
        instead = "an inline table { … } stands on one line; a longer one is a [table]"
    return Mistake(file, line, key[1].strip() if key else "", what, instead)


def _validated(source: _Source, shape: type[BaseModel]) -> BaseModel | list[Mistake]:
    try:
        return shape.model_validate(source.content)
    except ValidationError as error:
        faults = [explained(fault, source.content, shape) for fault in error.errors()]
        return list(dict.fromkeys(source.mistake(fault) for fault in faults))


def _shared(
    sources: Sequence[_Source], agents: Agents, mistakes: list[Mistake]
) -> tuple[dict[str, Session], dict[str, Hours]]:
    own: list[tuple[_Source, Mapping[str, Session]]] = []
    profiles: dict[str, Session] = {}
    hours: dict[str, Hours] = {}
    for source in sources:
        found = _validated(source, Shared)
        if isinstance(found, list):
            mistakes += found
            continue
        assert isinstance(found, Shared)
        wrong = [*asking.shared(found.profiles, agents), *naming.broken(found.profiles)]
        mistakes += [source.mistake(finding) for finding in wrong]
        for table, names, known in (
            ("profiles", list(found.profiles), list(profiles)),
            ("hours", list(found.hours), list(hours)),
        ):
            for name in set(names) & set(known):
                finding = Finding((table, name), "is in another shared file, too", "give it another name")
                mistakes.append(source.mistake(finding))
        profiles |= found.profiles
        hours |= found.hours
        own.append((source, found.profiles))
    for source, built in own:
        mistakes += map(source.mistake, extends(built, profiles))
    return profiles, hours


def _plan(
    source: _Source,
    profiles: Mapping[str, Session],
    hours: Mapping[str, Hours],
    agents: Agents,
    common: bytes,
    exists: Callable[[Path], bool],
) -> tuple[list[Plan], list[Mistake]]:
    model = _validated(source, Dialplan)
    if isinstance(model, list):
        return [], model
    assert isinstance(model, Dialplan)
    around = Around({**profiles, **model.profiles}, {**hours, **model.hours}, agents)
    wrong = [*findings(model, around), *_files(model, source.path.parent, exists)]
    if wrong:
        return [], sorted(dict.fromkeys(map(source.mistake, wrong)), key=lambda one: one.line)
    sessions = {name: resolved(session, around.profiles) for name, session in around.profiles.items()}
    sessions[""] = resolved(model.session, around.profiles)
    version = hashlib.sha256(source.raw + b"\0" + common).hexdigest()[:12]
    name, file, names = source.path.stem, str(source.path), tuple(agents.names)
    return [Plan(name, file, version, model, sessions, around.hours, names, agents.default)], []


def _files(model: Dialplan, folder: Path, exists: Callable[[Path], bool]) -> Iterator[Finding]:
    for path, name in files(model):
        if not exists(folder / name):
            yield Finding(
                path, f"there is no file {folder / name}", "name a WAV file, from the dialplan's folder"
            )


def _rivals(plans: Sequence[Plan], sources: Sequence[_Source]) -> Iterator[Mistake]:
    """Two dialplans that ask for the same calls: which one gets them would be chance."""
    seen: dict[str, Plan] = {}
    by_file = {str(source.path): source for source in sources}
    for plan in plans:
        key = plan.match.model_dump_json() if plan.match is not None else ""
        if key in seen:
            what = f"is for the same calls as {seen[key].file}"
            finding = Finding(("match",), what, "write a match of its own, or another priority")
            yield by_file[plan.file].mistake(finding)
        seen.setdefault(key, plan)
