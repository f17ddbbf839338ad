"""Every template, condition and action of a dialplan, with its place and the names it may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from telbridge.dialplan.actions import ACTIONS, ActionBase, Update, Webhook
from telbridge.dialplan.expressions import BadExpression, Expression
from telbridge.dialplan.lines import Path
from telbridge.dialplan.model import Dialplan, Session, Tool
from telbridge.dialplan.rules import EVENTS, On
from telbridge.dialplan.templates import Template, compiled, holes

_RAW: Final = frozenset({"update", "send"})
"""Fields that hold plain tables, with templates in their texts."""


@dataclass(frozen=True, slots=True)
class Text:
    """A template or a condition."""

    path: Path
    names: tuple[tuple[str, ...], ...]
    extra: tuple[str, ...]
    """Names that exist here only."""
    arguments: tuple[str, ...] | None
    """Of the tool around it."""
    revealed: tuple[str, ...] | None
    """None: a condition, which may look at masked digits."""
    broken: BadExpression | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """What is known on the way down."""

    extra: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    revealed: tuple[str, ...] = ()

    def plus(self, *names: str) -> Where:
        """With further names."""
        return Where((*self.extra, *names), self.arguments, self.revealed)


def name_of(action: ActionBase) -> str:
    """Its name in the file."""
    return next(name for name, kind in ACTIONS.items() if type(action) is kind)


def texts(part: Dialplan | Session) -> Iterator[Text]:
    """All of them, in the order of the model."""
    yield from _in(part, (), Where())


def actions(value: Any, path: Path = ()) -> Iterator[tuple[Path, ActionBase]]:
    """All actions, nested ones too."""
    if isinstance(value, ActionBase):
        yield path, value
    if isinstance(value, BaseModel):
        for key, item in _fields(value):
            yield from actions(item, (*path, key))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from actions(item, (*path, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from actions(item, (*path, index))


def lists(value: Any, path: Path = ()) -> Iterator[tuple[Path, tuple[ActionBase, ...]]]:
    """All lists of actions."""
    if isinstance(value, tuple):
        if value and all(isinstance(item, ActionBase) for item in value):
            yield path, value
        for index, item in enumerate(value):
            yield from lists(item, (*path, index))
    elif isinstance(value, BaseModel):
        for key, item in _fields(value):
            yield from lists(item, (*path, key))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from lists(item, (*path, str(key)))


def _fields(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """By the names of the file; only what was written, and what stands for it."""
    for name, field in type(model).model_fields.items():
        if name in model.model_fields_set:
            yield field.alias or name, getattr(model, name)


def _in(value: Any, path: Path, where: Where) -> Iterator[Text]:
    if isinstance(value, Template):
        yield Text(path, value.names, where.extra, where.arguments, where.revealed)
    elif isinstance(value, Expression):
        yield Text(path, value.names, where.extra, where.arguments, None)
    elif isinstance(value, Session):
        yield from _raw(value.settings, path, where)
    elif isinstance(value, BaseModel):
        yield from _in_model(value, path, where)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _in(item, (*path, str(key)), where)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _in(item, (*path, index), where)


def _in_model(model: BaseModel, path: Path, where: Where) -> Iterator[Text]:
    if isinstance(model, Tool):
        declared = model.schema_.get("properties", {}) if model.schema_ is not None else model.parameters
        where = Where((*where.extra, "arguments"), tuple(declared), where.revealed)
    for key, value in _fields(model):
        inside = where
        if isinstance(model, On):
            inside = where.plus("count", *EVENTS[key].facts)
        elif key == "keys":
            inside = where.plus("key", "count")
        elif isinstance(model, ActionBase) and key == "on_error":
            inside = where.plus("error", "action")
        if key in _RAW and isinstance(model, (Update, Webhook, Tool)):
            if isinstance(model, Webhook):
                inside = Where(where.extra, where.arguments, model.reveal)
            yield from _raw(value, (*path, key), inside)
        else:
            yield from _in(value, (*path, key), inside)


def _raw(tree: Any, path: Path, where: Where) -> Iterator[Text]:
    for place, source in holes(tree, path):
        try:
            names, broken = compiled(source).names, None
        except BadExpression as error:
            names, broken = (), error
        yield Text(place, names, where.extra, where.arguments, where.revealed, broken)
