"""Texts with `{{ … }}` in them. Parsed and checked when a dialplan is loaded; rendering never raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from telbridge.dialplan import values
from telbridge.dialplan.expressions import BadExpression, Expression, parse
from telbridge.dialplan.values import LONGEST, Masked, Scope, Value

_HOLE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)

Tree: TypeAlias = Any
"""What a TOML table holds: texts with templates in them, numbers, truth, lists, tables."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with holes."""

    source: str
    parts: tuple[str | Expression, ...]

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Every path that it looks up."""
        return tuple(name for part in self.parts if isinstance(part, Expression) for name in part.names)

    @property
    def fixed(self) -> bool:
        """It has no holes."""
        return not any(isinstance(part, Expression) for part in self.parts)

    def text(self, scope: Scope) -> str:
        """The text with its holes filled."""
        return self._filled(scope, values.text)

    def url(self, scope: Scope) -> str:
        """The same for a URL: whatever fills a hole is percent-encoded."""
        return self._filled(scope, lambda value: quote(values.text(value), safe=""))

    def value(self, scope: Scope) -> Value:
        """The value itself if the whole text is one hole, else the text."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0].value(scope)
        return self.text(scope)

    def _filled(self, scope: Scope, shown: Callable[[Value], str]) -> str:
        texts = (part if isinstance(part, str) else shown(part.value(scope)) for part in self.parts)
        return "".join(texts)[: max(LONGEST, len(self.source))]

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            compiled, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string"}

    def __str__(self) -> str:
        return self.source


@lru_cache(maxsize=4096)
def compiled(source: str) -> Template:
    """BadExpression for a hole that is none."""
    parts: list[str | Expression] = []
    place = 0
    for hole in _HOLE.finditer(source):
        if hole.start() > place:
            parts.append(source[place : hole.start()])
        if not hole[1].strip():
            raise BadExpression("`{{ }}` is empty: write a name in it, such as {{ caller }}")
        parts.append(parse(hole[1]))
        place = hole.end()
    rest = source[place:]
    if "{{" in rest:
        raise BadExpression("`{{` is never closed: write }} after the name")
    if rest or not parts:
        parts.append(rest)
    return Template(source, tuple(parts))


def literal(source: str) -> Template:
    """A text that is no template, whatever stands in it: it came from outside."""
    return Template(source, (source,))


def holes(tree: Tree, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text with a template in it, with its place."""
    if isinstance(tree, str):
        if "{{" in tree:
            yield path, tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from holes(item, (*path, str(key)))
    elif isinstance(tree, (list, tuple)):
        for index, item in enumerate(tree):
            yield from holes(item, (*path, index))


def rendered(tree: Tree, scope: Scope, *, reveal: bool = False) -> Tree:
    """The tree with its templates filled. Masked digits stay `Masked` where they fill a text on their own
    and `reveal` is set; otherwise nothing of them is seen."""
    if isinstance(tree, str):
        if "{{" not in tree:
            return tree
        value = compiled(tree).value(scope)
        return value if reveal or not isinstance(value, Masked) else str(value)
    if isinstance(tree, Mapping):
        return {key: rendered(item, scope, reveal=reveal) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rendered(item, scope, reveal=reveal) for item in tree]
    return tree
