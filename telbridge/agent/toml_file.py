"""Read a TOML file into a model, with one clear line for each fault."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


class ScriptError(Exception):
    """The operator's file has faults; `lines` says each in one line: file, place, remedy."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def load(path: Path, shape: type[_Model]) -> _Model:
    """The file as a `shape`. ScriptError if it cannot be read, is no TOML or has faults."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScriptError([f"{path}: cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScriptError([f"{path}: not valid TOML: {error}"]) from None
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        lines = (_line(str(path), fault, content, shape) for fault in error.errors(include_url=False))
        raise ScriptError(list(dict.fromkeys(lines))) from None


def _line(file: str, fault: Any, content: dict[str, Any], shape: type[BaseModel]) -> str:
    location = _in_file(fault["loc"], content, missing=fault["type"] == "missing")
    place = _written(location) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"{file}: {place}: no such setting{_suggestion(location, shape)}"
    if fault["type"] == "missing":
        return f"{file}: {place}: is missing"
    return f"{file}: {place}: {fault['msg'].removeprefix('Value error, ')}"


def _in_file(location: tuple[int | str, ...], content: Any, *, missing: bool) -> list[int | str]:
    """Pydantic's path without what is not in the user's file: tags of unions, names of validators."""
    path: list[int | str] = []
    for index, key in enumerate(location):
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            if missing and index == len(location) - 1:
                path.append(key)
            continue
        path.append(key)
    return path


def _written(path: list[int | str]) -> str:
    """`[step.3].reply.ms`: tables as TOML writes them, entries counted from one."""
    text = ""
    for key in path:
        part = str(key + 1) if isinstance(key, int) else key
        text += f".{part}" if text else part
    return text


def _suggestion(path: list[int | str], shape: type[BaseModel]) -> str:
    name = str(path[-1]) if path else ""
    near = get_close_matches(name, sorted(_names(shape, set())), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _names(shape: Any, seen: set[Any]) -> set[str]:
    """Every setting's name in a model and the models inside it."""
    names: set[str] = set()
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        if shape in seen:
            return names
        seen.add(shape)
        for name, info in shape.model_fields.items():
            names |= {name} | _names(info.annotation, seen)
        return names
    for argument in getattr(shape, "__args__", ()):
        names |= _names(argument, seen)
    return names
