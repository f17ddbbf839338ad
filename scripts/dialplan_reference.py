"""Writes docs/dialplan.schema.json and the reference in docs/dialplans.md; `--check` only compares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from telbridge.dialplan import facts
from telbridge.dialplan.actions import ACTIONS, WORDS, ActionBase, Waiting
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.model import (
    Dialplan,
    Greeting,
    Keypad,
    Limits,
    Match,
    Notice,
    Session,
    Share,
    Shared,
    Tool,
)
from telbridge.dialplan.rules import EVENTS, Context, KeyRule, Menu, Rule, SilenceRule, SpeechRule, ToolRule
from telbridge.dialplan.values import FILTERS
from telbridge.dialplan.vocabulary import NeutralSettings, TurnDetection
from telbridge.sessions.providers import PROVIDERS

DOCS = Path(__file__).parent.parent / "docs"
PAGE, SCHEMA = DOCS / "dialplans.md", DOCS / "dialplan.schema.json"
BEGIN = (
    "<!-- reference: made from the code by scripts/dialplan_reference.py; a test holds the two together -->\n"
)
END = "<!-- end of the reference -->\n"

Json = dict[str, Any]


# ------------------------------------------------------------------ the schema


def schema() -> Json:
    """Of one file. The tables of the agent APIs are theirs, whole; wherever a number may stand in a session,
    so may a template."""
    made = Dialplan.model_json_schema(by_alias=True)
    own = made["$defs"]["Session"]["properties"]
    for name, provider in PROVIDERS.items():
        table = provider.settings.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        made["$defs"] |= {f"{name}.{part}": _lenient(value) for part, value in table.pop("$defs", {}).items()}
        table.pop("required", None)  # The settings file may have it.
        own[name] = {
            **_lenient(table),
            "title": provider.title,
            "description": f"settings of {provider.title}",
        }
    made["$defs"]["Session"]["properties"] = {key: _lenient(value) for key, value in own.items()}
    made["$defs"]["Session"]["additionalProperties"] = False
    own["local"] = {"type": "object", "additionalProperties": False, "description": "the embedded agent"}
    changed = {
        key: {"$ref": f"#/$defs/Session/properties/{key}"} for key in own if key not in ("extends", "agent")
    }
    made["$defs"]["Update"]["properties"]["update"] = {
        "type": "object",
        "description": made["$defs"]["Update"]["properties"]["update"]["description"],
        "properties": changed,
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "telbridge dialplan",
        **_without_titles({key: value for key, value in made.items() if key != "title"}),
    }


_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


def _lenient(part: Any) -> Any:
    """Numbers, truths and choices may come from a template."""
    if isinstance(part, list):
        return [_lenient(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") in ("number", "integer", "boolean") or "enum" in part or "pattern" in part:
        kept = {key: part[key] for key in ("description", "default") if key in part}
        rest = {key: value for key, value in part.items() if key not in kept}
        return {**kept, "anyOf": [rest, _TEMPLATE]}
    return {
        key: _lenient(value) if key not in ("default", "discriminator") else value
        for key, value in part.items()
    }


def _without_titles(part: Any) -> Any:
    """Pydantic's titles only repeat the names."""
    if isinstance(part, list):
        return [_without_titles(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _without_titles(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str))
    }


def schema_text() -> str:
    """The file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


# ------------------------------------------------------------------ the reference


def reference() -> str:
    """The part of the page between the markers."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    yield "## Reference\n"
    yield "Times are in seconds where a name ends in `_s`, in milliseconds with `_ms`."
    yield from _table("The file", Dialplan)
    yield from _table("[match]", Match, "All of what is written must fit; a list fits if one of it does.")
    yield from _table("match.share", Share, '`share = 30` is `share.percent = "0-30"`.')
    yield from _table("[session], [profiles.NAME]", Session, _session_words())
    yield "| `tools` | all of the file | names of `[tools.NAME]` that the agent may call, in `update` too |"
    yield from _table("", NeutralSettings, skip=("tools",))
    yield from _table("session.turn_detection", TurnDetection)
    yield from _table("[[greeting]]", Greeting, "A text alone is `say`.")
    yield from _table("[notice]", Notice, "A text alone is `say`.")
    yield from _table("[dtmf]", Keypad)
    yield from _table("[limits]", Limits)
    yield from _table("[hours.NAME]", Hours)
    yield from _table("[contexts.NAME]", Context)
    yield from _table("[contexts.NAME.menu]", Menu)
    yield from _table("[tools.NAME]", Tool)
    yield from _rules()
    yield from _events()
    yield from _actions()
    yield from _names()
    words = (
        "Its name begins with `_`, such as `_house.toml`; all dialplans of the folder may use what it holds."
    )
    yield from _table("A shared file", Shared, words)


def _session_words() -> str:
    return (
        "What only one agent API has stands in a table of its name: "
        + ", ".join(f"`{name}`" for name in PROVIDERS)
        + " ([providers.md](providers.md))."
    )


def _rules() -> Iterator[str]:
    yield "\n### Rules\n"
    yield "`keys.KEY` and `on.EVENT` hold one action, a list of actions, a rule, or a list of rules.\n"
    yield from _rows(Rule)
    for kind, where in (
        (SilenceRule, "`on.silence`"),
        (SpeechRule, "`on.caller_said`, `on.agent_said`"),
        (ToolRule, "`on.tool_called`"),
        (KeyRule, "`keys.KEY`"),
    ):
        yield f"\nBesides, in {where}:\n"
        yield from _rows(kind, skip=tuple(Rule.model_fields))


def _events() -> Iterator[str]:
    yield "\n### Events\n"
    yield "`count`, how often it has happened in this call, exists in all of them.\n"
    yield "| event | when | names of its own |\n|---|---|---|"
    for name, kind in EVENTS.items():
        yield f"| `{name}` | {_cell(kind.what)} | {', '.join(f'`{one}`' for one in kind.facts)} |"


def _actions() -> Iterator[str]:
    yield "\n### Actions\n"
    words = ", ".join(f'`"{word}"`' for word in WORDS)
    yield f"These may stand as a word alone: {words}. Every action takes:\n"
    yield from _rows(ActionBase)
    for name, kind in ACTIONS.items():
        notes = []
        if issubclass(kind, Waiting):
            notes.append("The list waits for its end; `wait = false` goes on at once.")
        if kind.ends_list:
            notes.append("Nothing may follow it.")
        if kind.after_hang_up:
            notes.append("May stand in `on.hangup`.")
        yield f"\n#### {name}\n"
        yield " ".join([" ".join((kind.__doc__ or "").split()), *notes]) + "\n"
        yield from _rows(kind, skip=(*ActionBase.model_fields, "wait"))


def _names() -> Iterator[str]:
    yield "\n### Names in templates and conditions\n"
    yield "`{{ … }}` in a text, and `when`, hold an expression: names, texts in quotes, numbers, `==` `!=`"
    yield "`<` `<=` `>` `>=` `in` `not in`, `and` `or` `not`, `A if CONDITION else B`, `+` `-`, and filters"
    yield "after `|`. What is not there is nothing: an empty text, false.\n"
    yield "| name | meaning |\n|---|---|"
    for name, what in facts.PLAIN.items():
        yield f"| `{name}` | {_cell(what)} |"
    for name, what in facts.TIME.items():
        yield f"| `time.{name}` | {_cell(what)} |"
    for name, what in {**facts.OPEN_TABLES, **facts.OWN_TABLES}.items():
        yield f"| `{name}.NAME` | {_cell(what)} |"
    yield "| `arguments.NAME` | in a tool: what the agent gave |"
    yield "| `error`, `action` | in `on_error`: what failed, and which action |"
    yield "\n| filter | makes of a value |\n|---|---|"
    for name, one in FILTERS.items():
        yield f"| `{name}` | {_cell(one.what)} |"


def _table(title: str, model: type[BaseModel], words: str = "", skip: tuple[str, ...] = ()) -> Iterator[str]:
    if title:
        yield f"\n### {title}\n"
    if words:
        yield f"{words}\n"
    elif not title:
        yield ""
    yield from _rows(model, skip)


def _rows(model: type[BaseModel], skip: tuple[str, ...] = ()) -> Iterator[str]:
    yield "| key | default | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        if name not in skip:
            yield f"| `{field.alias or name}` | {_default(field)} | {_cell(field.description or '')} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required() or value is PydanticUndefined:
        return "must be given"
    if value is None or isinstance(value, BaseModel) or (isinstance(value, (tuple, Mapping)) and not value):
        return "–"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The whole page, its tutorial as it is."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + reference() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page() or SCHEMA.read_text("utf-8") != schema_text())
    PAGE.write_text(page(), "utf-8")
    SCHEMA.write_text(schema_text(), "utf-8")
