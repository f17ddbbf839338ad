"""What the `metric` actions of a dialplan may count: known when it is read, so that labels stay few."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from telbridge.dialplan import walking
from telbridge.dialplan.actions import Metric
from telbridge.dialplan.model import Dialplan
from telbridge.dialplan.templates import Template

OTHER: Final = "other"
RESERVED: Final = frozenset({"dialplan", "metric", "job", "instance"})
"""Labels that mean something else already; Prometheus, too, puts "exported_" before such names."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that the labels may have."""

    values: Mapping[tuple[str, str], frozenset[str]]
    """By metric and label."""

    def bounded(self, metric: str, labels: Mapping[str, str]) -> dict[str, str]:
        """The same labels, with "other" for a value that does not stand in the dialplan: it may be anything,
        a caller's number too."""
        return {
            f"exported_{name}" if name in RESERVED else name: self._known(metric, name, value)
            for name, value in labels.items()
        }

    def _known(self, metric: str, name: str, value: str) -> str:
        return value if value in self.values.get((metric, name), ()) else OTHER


def bounds_of(dialplan: Dialplan) -> Bounds:
    """Of all its `metric` actions."""
    values: dict[tuple[str, str], frozenset[str]] = {}
    for _, action in walking.actions(dialplan):
        if isinstance(action, Metric):
            for name, template in action.labels.items():
                key = action.metric, name
                values[key] = values.get(key, frozenset()) | _values(template, dialplan)
    return Bounds(values)


def _values(template: Template, dialplan: Dialplan) -> frozenset[str]:
    """What it may become, as far as that is known: a fixed text, or what one hole chooses from."""
    if len(template.parts) != 1:
        return frozenset()
    (part,) = template.parts
    return frozenset({part}) if isinstance(part, str) else _leaves(part.tree, dialplan)


def _leaves(tree: ast.expr, dialplan: Dialplan) -> frozenset[str]:
    match tree:
        case ast.Constant(value=str(text)):
            return frozenset({text})
        case ast.IfExp(body=one, orelse=another):
            return _leaves(one, dialplan) | _leaves(another, dialplan)
        case ast.BoolOp(values=several):
            return frozenset[str]().union(*(_leaves(one, dialplan) for one in several))
        case ast.Name(id="context"):
            return frozenset({dialplan.start, *dialplan.contexts})
        case _:
            return frozenset()
