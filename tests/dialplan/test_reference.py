"""The published schema and the reference say what the code does, and the page's own examples are right."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripts import dialplan_reference
from tests.dialplan.support import ROOT, mistakes

SCHEMA = json.loads((ROOT / "docs" / "dialplan.schema.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "dialplans.md").read_text("utf-8")
HERE = Path(__file__).parent
EXAMPLES = [path for path in sorted((ROOT / "dialplans").glob("*.toml")) if not path.name.startswith("_")]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def errors(text: str) -> list[str]:
    return [error.message[:200] for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_both_are_those_of_the_code() -> None:
    assert dialplan_reference.schema() == SCHEMA
    assert dialplan_reference.page() == PAGE


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [*EXAMPLES, HERE / "everything.toml"], ids=lambda path: path.stem)
def test_every_example_fits_it(path: Path) -> None:
    assert errors(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        'greting = "x"',
        'keys.1 = { sya = "x" }',
        'keys.1 = "transfer"',
        'on.transfer_fails = "reply"',
        'session.voise = "x"',
        "session.openai_realtime.speed = 9.5",
        "keys.1.update.openai_realtime.sped = 1.1",
        "keys.1 = { collect = 'pin', max = 0 }",
        'tools.a.use = "transfer"',
    ],
)
def test_it_finds_what_an_editor_should_mark(text: str) -> None:
    assert errors(text)


@pytest.mark.parametrize(
    "text",
    [
        'session.openai_realtime.speed = "{{ vars.speed }}"',
        'session.temperature = "{{ vars.warm }}"',
        "keys.1 = [{ update.openai_realtime.speed = 1.1 }, 'reply']",
    ],
)
def test_a_template_may_stand_for_a_number(text: str) -> None:
    assert errors(text) == []


def blocks() -> list[Any]:
    found = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    return [pytest.param(text, id=text.splitlines()[0]) for text in found]


# What a block of the page takes from the blocks around it.
AROUND = {
    'start = "language"': 'hours.kitchen.open = ["Tue-Sun 11:00-22:30"]',
    "[[contexts.pin.enter]]": 'keys.8 = { goto = "pin" }\n',
    "keys.1 = [{ update.instructions": "",
}


@pytest.mark.parametrize("text", blocks())
def test_every_block_of_the_tutorial_is_right(tmp_path: Path, text: str) -> None:
    before = next((more for start, more in AROUND.items() if text.startswith(start)), "")
    assert mistakes(tmp_path, plan=f"{before}\n{text}") == []
    assert errors(f"{before}\n{text}") == []
