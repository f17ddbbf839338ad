"""Mistakes in dialplan files, each as one line that its author can act on."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from telbridge.dialplan.actions import ACTIONS, ActionBase, tag_of
from telbridge.dialplan.lines import Path

_TAGS = {tag_of(name): model for name, model in ACTIONS.items()}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong where, and what to write instead."""

    file: str
    line: int
    key: str
    what: str
    instead: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [part.replace("\n", " ") for part in (place, self.key, self.what, self.instead) if part]
        return ": ".join(parts)


class DialplanErrors(Exception):
    """Everything that is wrong, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake before it is known where in the file it stands."""

    path: Path
    what: str
    instead: str = ""


def dotted(path: Path) -> str:
    """`on.silence[1].do`, lists counted from 0 as in the settings."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            part = part if part.replace("_", "").replace("-", "").isalnum() else f'"{part}"'
            text += f".{part}" if text else part
    return text


def in_file(path: Path, content: Any, *, missing: bool = False) -> Path:
    """A path of the model as a path of the file, where one action may stand for a list of rules."""
    found: list[str | int] = []
    index = 0
    while index < len(path):
        key = path[index]
        last = index == len(path) - 1
        if isinstance(key, int) and not last and path[index + 1] == "do" and not _is_rule(content, key):
            index += 2
            continue
        if _holds(content, key):
            content = content[key]
            found.append(key)
        elif missing and last and isinstance(content, Mapping) and isinstance(key, str):
            found.append(key)
        index += 1
    return tuple(found)


def _holds(content: Any, key: str | int) -> bool:
    if isinstance(content, list):
        return isinstance(key, int) and key < len(content)
    return isinstance(content, Mapping) and key in content


def _is_rule(content: Any, index: int) -> bool:
    if isinstance(content, list):
        content = content[index] if index < len(content) else None
    return isinstance(content, Mapping) and "do" in content


def explained(fault: Any, content: Any, shape: type[BaseModel]) -> Finding:
    """Pydantic's words as ours."""
    loc: Path = fault["loc"]
    kind = fault["type"]
    path = in_file(loc, content, missing=kind == "missing")
    context = fault.get("ctx", {})
    if kind == "extra_forbidden":
        return Finding(path, "no such key", nearest(str(loc[-1]), _names(_model_at(loc[:-1], shape))))
    if kind == "missing":
        return Finding(path, "is missing", _described(loc, shape))
    if kind == "value_error":
        what, _, instead = str(context["error"]).partition(": ")
        return Finding(path, what, instead or _described(loc, shape))
    if kind == "literal_error":
        return Finding(
            path, f"{_shown(fault['input'])} is not accepted", f"write {_toml(context['expected'])}"
        )
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Finding(path, "must be a table", _described(loc, shape) or f"write [{dotted(path)}]")
    if kind == "string_pattern_mismatch" and loc and loc[-1] == "[key]":
        return Finding(path, f"{_shown(fault['input'])} is no name for this", _key_help(loc))
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return Finding(path, f"{_shown(fault['input'])}: {message}", _described(loc, shape))


def _key_help(loc: Path) -> str:
    if "keys" in loc:
        return 'keys are 0-9, "*", "#", A-D, sequences of them such as "*12", or `other`'
    return "write small letters, digits and _, beginning with a letter"


def _toml(expected: str) -> str:
    return expected.replace("True", "true").replace("False", "false")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def nearest(name: str, known: Sequence[str]) -> str:
    """What was meant, or what there is."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(known)}" if known else "remove it"


def _names(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    names = [field.alias or name for name, field in model.model_fields.items()]
    first = [name for name in names if name not in ActionBase.model_fields]
    return first + [name for name in names if name not in first]


def _described(loc: Path, shape: type[BaseModel]) -> str:
    """The description of the key, from its field."""
    for size in range(len(loc), 0, -1):
        model = _model_at(loc[: size - 1], shape)
        if model is None:
            continue
        for name, field in model.model_fields.items():
            if loc[size - 1] in (name, field.alias) and field.description:
                return field.description
    return "see docs/dialplans.md"


def _model_at(loc: Path, shape: type[BaseModel]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = shape
    in_table: type[BaseModel] | None = None
    for part in loc:
        if part in _TAGS:
            model, in_table = _TAGS[str(part)], None
        elif in_table is not None:
            model, in_table = in_table, None
        elif isinstance(part, str) and model is not None:
            field = next((one for name, one in model.model_fields.items() if part in (name, one.alias)), None)
            inner = next(_models(field.annotation), None) if field else None
            if field and typing.get_origin(field.annotation) is dict:
                in_table = inner
            elif inner is not None:
                model = inner
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from _models(inner)
