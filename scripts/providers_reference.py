"""Writes docs/providers.md from the providers themselves; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.provider import Ability, Lock, Provider, Support, Unconfirmed, Way
from telbridge.sessions.providers import PROVIDERS

PAGE = Path(__file__).parent.parent / "docs" / "providers.md"
HEAD = """# Agent APIs

Made from the code by `scripts/providers_reference.py`; a test holds the two together.

`call.agent` in the settings chooses the API, or `local` for the embedded agent. What is asked of any of
them in the same words stands in `[session]`; each has a section of its own for everything its vendor's
session takes, by the vendor's names. A vendor setting that is set wins over a neutral one. `raw` passes
what is newer than this version. `telbridge check` refuses what an API cannot do.

What the call begins with is `call.greeting`: it is said in place of a greeting in the API's own section.
The default of `call.greeting` is not: where nobody wrote one, the section's is said. Text that joins the
conversation never interrupts the agent. An agent on this machine (`ws://127.0.0.1 …`) gets only a key that
the section names.

A connection to an API that broke is made again at once, with the conversation so far; after 0.3 s the
caller hears "One moment, please". A session that will soon be too old for its API is left for a new one at a
quiet moment before; nobody hears that.
"""
WAYS = {Way.NATIVE: "✓", Way.EMULATED: "(✓)", Way.IMPOSSIBLE: "–"}


def page() -> str:
    """The whole page."""
    return HEAD + _overview() + "".join(_provider(provider) for provider in PROVIDERS.values())


def _overview() -> str:
    names = [provider.title for provider in PROVIDERS.values()]
    rows = [
        "\n## At a glance\n\n✓ native, (✓) emulated, – impossible; * fixed once the session runs.\n",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for ability in Ability:
        cells = [_mark(provider.abilities[ability]) for provider in PROVIDERS.values()]
        rows.append(f"| {ability} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _mark(support: Support) -> str:
    locked = support.lock is not None and support.way is not Way.IMPOSSIBLE
    return WAYS[support.way] + ("*" if locked else "")


def _provider(provider: Provider[Any]) -> str:
    head = f"\n## {provider.title}: `[{provider.name}]`\n\nAudio: {provider.formats}\n\n"
    abilities = "| asked for | how | may change |\n|---|---|---|\n" + "".join(
        f"| {ability} | {support.way.value}{': ' if support.how else ''}{_cell(support.how)} "
        f"| {'' if support.way is Way.IMPOSSIBLE else _when(support.lock)} |\n"
        for ability, support in ((each, provider.abilities[each]) for each in Ability)
    )
    settings = "\n| setting | default | meaning |\n|---|---|---|\n" + "".join(
        f"| `{key}` | {default} | {meaning} |\n" for key, default, meaning in _rows(provider.settings)
    )
    return head + abilities + settings


def _when(lock: Lock | None) -> str:
    return "any time" if lock is None else lock.value


def _rows(
    model: type[BaseModel], prefix: str = "", seen: tuple[type, ...] = ()
) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, _default(field), _meaning(field)
        for inner in _tables(field.annotation):
            if inner not in seen:
                kind = inner.model_fields.get("type")
                variant = f"[{kind.default}]" if kind is not None and isinstance(kind.default, str) else ""
                yield from _rows(inner, f"{prefix}{name}{variant}.", (*seen, inner))


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel) and annotation is not SecretRef:
            yield annotation
        return
    for inner in get_args(annotation):
        yield from _tables(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True) if field.default_factory is None else None
    if field.default_factory is not None or value is None or isinstance(value, BaseModel):
        return "–"
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    text = field.description or ""
    locks = [mark for mark in field.metadata if isinstance(mark, Lock)]
    if locks:
        text += f"; {locks[0].value}"
    if any(mark is Unconfirmed or isinstance(mark, Unconfirmed) for mark in field.metadata):
        text += " (unconfirmed)"
    return _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
