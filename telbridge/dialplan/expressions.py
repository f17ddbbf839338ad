"""A small expression language: names, comparisons, and/or/not, `a if b else c`, filters after `|`.

It has no calls, no loops and no way to anything but the facts it is given. A mistake is found when it is
parsed; evaluating never raises.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from telbridge.dialplan import values
from telbridge.dialplan.values import FILTERS, LONGEST, Masked, Scope, Value

LONGEST_SOURCE: Final = 300
DEEPEST: Final = 40
_WORDS: Final = {"true": True, "false": False, "none": None, "True": True, "False": False, "None": None}
_ORDER: Final = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ALLOWED: Final = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Eq,
    ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Name, ast.Attribute, ast.Subscript,
    ast.Constant,
    ast.BinOp, ast.BitOr, ast.Add, ast.Sub, ast.IfExp, ast.List, ast.Tuple, ast.Load, ast.Call,
)  # fmt: skip


_NAMED_LIKE_A_KEYWORD: Final = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<=[\w\]])\.(?P<name>" + "|".join(keyword.kwlist) + r")\b"
)
"""`headers.from` must do, which is no Python. Texts in quotes are passed over."""


class BadExpression(ValueError):
    """ "what is wrong: what to write instead"."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    source: str
    tree: ast.expr
    names: tuple[tuple[str, ...], ...]
    """Every path that it looks up, such as ("vars", "name")."""

    def value(self, scope: Scope) -> Value:
        """Its value; nothing for what is not there."""
        return _value(self.tree, scope)

    def holds(self, scope: Scope) -> bool:
        """Whether it is true."""
        return values.truth(self.value(scope))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(parse, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string"}

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)


def parse(source: str) -> Expression:
    """BadExpression if it is none."""
    if len(source) > LONGEST_SOURCE:
        raise BadExpression(f"is longer than {LONGEST_SOURCE} characters: split it, or ask a webhook")
    try:
        tree = ast.parse(_NAMED_LIKE_A_KEYWORD.sub(_in_brackets, source.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadExpression(
            f"{_short(source)} is no expression: write one such as `vars.name == 'Ann' and time.hour < 12`"
        ) from None
    if _depth(tree) > DEEPEST:
        raise BadExpression(f"{_short(source)} is nested too deeply: take it apart with `set`")
    _check(tree, source)
    return Expression(source.strip(), tree, tuple(dict.fromkeys(_names(tree))))


def _in_brackets(found: re.Match[str]) -> str:
    return f"['{found['name']}']" if found["name"] else found[0]


def _depth(tree: ast.AST) -> int:
    deepest, stack = 0, [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return deepest


def _short(source: str) -> str:
    return f"`{source.strip()[:60]}`"


def _check(tree: ast.expr, source: str) -> None:
    calls = {id(node.right) for node in ast.walk(tree) if isinstance(node, ast.BinOp) and _is_filter(node)}
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise BadExpression(
                f"{_short(source)} has {type(node).__name__}, which is not known here: "
                "use names, comparisons, and, or, not, filters"
            )
        if isinstance(node, ast.Call) and id(node) not in calls:
            raise BadExpression(f"{_short(source)} has a call: write filters as `name | last(4)`")
        if isinstance(node, ast.Constant) and not isinstance(node.value, (str, int, float, bool, type(None))):
            raise BadExpression(f"{_short(source)} has an odd constant: use text, numbers, true, false")
        if _is_too_large(node):
            raise BadExpression(f"{_short(source)} has too large a number: write one below 10^15")
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant):
            raise BadExpression(f"{_short(source)}: write headers['X-Name'] with a plain text inside")
        if isinstance(node, (ast.Attribute, ast.Subscript)) and _path(node) is None:
            raise BadExpression(f"{_short(source)}: only names have parts, such as vars.name")
        if isinstance(node, ast.BinOp) and _is_filter(node):
            _check_filter(node.right)


def _is_too_large(node: ast.AST) -> bool:
    figure = node.value if isinstance(node, ast.Constant) else None
    return isinstance(figure, (int, float)) and not -values.BIGGEST < figure < values.BIGGEST


def _is_filter(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr)


def _check_filter(node: ast.expr) -> None:
    call = node.func if isinstance(node, ast.Call) else node
    given = len(node.args) if isinstance(node, ast.Call) else 0
    name = call.id if isinstance(call, ast.Name) else ast.unparse(call)
    found = FILTERS.get(name)
    if found is None:
        close = get_close_matches(name, FILTERS, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"filters: {', '.join(FILTERS)}"
        raise BadExpression(f"no such filter `{name}`: {hint}")
    if given != found.arguments or (isinstance(node, ast.Call) and node.keywords):
        wants = "takes none" if not found.arguments else f"takes {found.arguments}"
        raise BadExpression(f"filter `{name}` has {given} arguments, {wants}: {found.what}")


def _path(node: ast.expr) -> tuple[str, ...] | None:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        head = _path(node.value)
        return None if head is None else (*head, node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        head = _path(node.value)
        return None if head is None else (*head, str(node.slice.value))
    return None


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.expr) and (path := _path(node)) is not None:
        if path[0] not in _WORDS:
            yield path
        return
    if isinstance(node, ast.BinOp) and _is_filter(node):
        yield from _names(node.left)
        if isinstance(node.right, ast.Call):
            for argument in node.right.args:
                yield from _names(argument)
        return
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


# ------------------------------------------------------------------ evaluation


def _value(node: ast.expr, scope: Scope) -> Value:
    match node:
        case ast.Constant(value=constant):
            return constant if isinstance(constant, (str, int, float, bool)) else None
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return _looked_up(_path(node) or ("",), scope)
        case ast.BoolOp(op=operator, values=parts):
            found: Value = None
            for part in parts:
                found = _value(part, scope)
                if values.truth(found) is isinstance(operator, ast.Or):
                    break
            return found
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return not values.truth(_value(inner, scope))
        case ast.UnaryOp(operand=inner):
            figure = values.number(_value(inner, scope))
            return None if figure is None else -figure
        case ast.Compare(left=left, ops=operators, comparators=others):
            return _compared(left, operators, others, scope)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if values.truth(_value(test, scope)) else other, scope)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(_value(item, scope) for item in items)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _filtered(_value(left, scope), right, scope)
        case ast.BinOp(op=operator, left=left, right=right):
            return _sum(_value(left, scope), _value(right, scope), plus=isinstance(operator, ast.Add))
    return None


def _looked_up(path: tuple[str, ...], scope: Scope) -> Value:
    if path[0] in _WORDS:
        return _WORDS[path[0]]
    found: Value = scope
    for name in path:
        found = values.member(found, name)
    return found


def _compared(left: ast.expr, operators: list[ast.cmpop], others: list[ast.expr], scope: Scope) -> bool:
    one = _value(left, scope)
    for operator, node in zip(operators, others, strict=True):
        other = _value(node, scope)
        if isinstance(operator, (ast.In, ast.NotIn)):
            holds = values.contains(other, one) is isinstance(operator, ast.In)
        elif isinstance(operator, (ast.Eq, ast.NotEq)):
            holds = values.equal(one, other) is isinstance(operator, ast.Eq)
        else:
            holds = values.ordered(_ORDER[type(operator)], one, other)
        if not holds:
            return False
        one = other
    return True


def _filtered(value: Value, node: ast.expr, scope: Scope) -> Value:
    name, arguments = node, list[Any]()
    if isinstance(node, ast.Call):
        name, arguments = node.func, [_value(argument, scope) for argument in node.args]
    if isinstance(value, Masked):
        return value
    return FILTERS[name.id].run(value, *arguments) if isinstance(name, ast.Name) else None


def _sum(one: Value, other: Value, *, plus: bool) -> Value:
    if isinstance(one, Masked) or isinstance(other, Masked):
        return Masked("")
    figures = values.number(one), values.number(other)
    if figures[0] is not None and figures[1] is not None:
        return figures[0] + figures[1] if plus else figures[0] - figures[1]
    return (values.text(one) + values.text(other))[:LONGEST] if plus else None
