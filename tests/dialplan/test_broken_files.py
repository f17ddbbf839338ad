"""Broken files: one line each, that says file, line, key, what is wrong and what to write instead."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telbridge.dialplan.loader import load
from telbridge.dialplan.mistakes import DialplanErrors
from tests.dialplan.support import AGENTS, ROOT, mistakes

HERE = Path(__file__).parent
BROKEN = sorted((HERE / "broken").glob("*.toml"))
GOOD = [*sorted((ROOT / "dialplans").glob("*.toml")), HERE / "everything.toml"]
TEXTS = [path.read_text("utf-8") for path in (*GOOD, *BROKEN)]
LINES = [line for text in TEXTS for line in text.splitlines()]


def lines(path: Path) -> list[str]:
    with pytest.raises(DialplanErrors) as caught:
        load(path, AGENTS)
    return [str(one).replace(f"{path.parent}/", "") for one in caught.value.mistakes]


def test_there_are_at_least_twenty() -> None:
    assert len(BROKEN) >= 20


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_gives_exactly_the_line_beside_it(path: Path) -> None:
    assert lines(path) == path.with_suffix(".txt").read_text("utf-8").splitlines()


def test_all_of_a_folder_are_told_of_at_once(tmp_path: Path) -> None:
    for path in BROKEN:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DialplanErrors) as caught:
        load(tmp_path, AGENTS)
    assert {Path(one.file).name for one in caught.value.mistakes} == {path.name for path in BROKEN}


class TestFoldersAndFiles:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert mistakes(tmp_path) == [f"{tmp_path}: holds no dialplan: write one, such as default.toml"]

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert lines(tmp_path / "none.toml") == [
            "none.toml: No such file or directory: name a readable TOML file"
        ]

    def test_a_file_in_another_encoding(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.toml"
        path.write_bytes('zone = "UTC"\ngreeting = "Grüß Gott"'.encode("latin-1"))
        assert lines(path) == ["latin.toml:2: is not UTF-8: save it as UTF-8"]

    @pytest.mark.parametrize(
        "text",
        [
            "x = " + "[" * 5000,
            "x = " + "{a=" * 3000 + "1" + "}" * 3000,
            ".".join(["a"] * 3000) + " = 1",
            "on.hold = " + '{ say = "x", on_error = ' * 60 + '"reply"' + " }" * 60,
            "match.priority = " + "9" * 5000,
            "zone = 2026-02-31",
            'zone = "\\ud800"',
            "greeting = '{{ " + "(" * 200 + " }}'",
            "keys.1 = { say = '{{ " + "not " * 70 + "x }}' }",
        ],
    )
    def test_nothing_is_too_odd_for_a_line(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "odd.toml"
        path.write_text(text, "utf-8")
        assert all(line.startswith("odd.toml") for line in lines(path))

    def test_two_for_the_same_calls(self, tmp_path: Path) -> None:
        found = mistakes(tmp_path, one='match.called = "1"', two='match.called = "1"')
        assert found == [
            "two.toml:1: match: is for the same calls as one.toml: "
            "write a match of its own, or another priority"
        ]


class TestSharedFiles:
    def test_a_wrong_key_is_told_of_in_its_own_file(self, tmp_path: Path) -> None:
        found = mistakes(tmp_path, _house='[profiles.house]\nvoise = "marin"', plan="")
        assert found == ["_house.toml:2: profiles.house.voise: no such setting: did you mean `voice`?"]

    def test_a_profile_that_it_builds_on_must_be_there(self, tmp_path: Path) -> None:
        found = mistakes(tmp_path, _house='[profiles.house]\nextends = "hose"', plan="")
        assert found == [
            "_house.toml:2: profiles.house.extends: no such profile `hose`: did you mean `house`?"
        ]

    def test_a_name_that_a_user_of_it_lacks_is_told_of_there(self, tmp_path: Path) -> None:
        shared = '[profiles.house]\ninstructions = "Say {{ vars.name }}."'
        found = mistakes(
            tmp_path,
            _house=shared,
            has='match.called = "1"\nsession.extends = "house"\nvars.name = "x"',
            lacks='session.extends = "house"',
        )
        assert found == [
            "lacks.toml:1: session.extends: profile `house`: no such name `vars.name`: "
            "write it under [vars], or `set` it"
        ]

    def test_one_name_in_two_files(self, tmp_path: Path) -> None:
        text = '[profiles.house]\nvoice = "x"'
        assert len(mistakes(tmp_path, _one=text, _two=text, plan="")) == 1


# ------------------------------------------------------------------ whatever is written


@st.composite
def edited(draw: st.DrawFn) -> str:
    """A good or broken file in which lines and characters were changed at random."""
    rows = draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(rows) - 1)))
        kind = draw(st.sampled_from(["drop", "insert", "cut", "character", "swap"]))
        row = rows[at] if rows else ""
        place = draw(st.integers(0, len(row)))
        if kind == "drop":
            rows[at : at + 1] = []
        elif kind == "insert":
            rows.insert(at, draw(st.sampled_from(LINES)))
        elif kind == "cut":
            rows[at : at + 1] = [row[:place]]
        elif kind == "character":
            new = draw(st.sampled_from([*string.printable, "{{", "}}", '"""', "ü", "\x00", "[["]))
            rows[at : at + 1] = [row[:place] + new + row[place + draw(st.integers(0, 1)) :]]
        elif len(rows) > 1:
            rows[at], rows[at - 1] = rows[at - 1], rows[at]
    return "\n".join(rows)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    words = st.sampled_from(
        ["say", "do", "when", "keys", "on", "update", "1", "goto", "collect", "session", "agent", "tools",
         "hours", "open", "match", "menu", "contexts", "enter", "greeting", "webhook", "send", "reveal", "x"]
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=12,
    )


leaves = st.one_of(
    st.text(max_size=8),
    st.integers(-5, 5),
    st.booleans(),
    st.floats(allow_nan=True),
    st.sampled_from(["reply", "hangup", "{{ digits.x }}", "{{ vars.", "main", "deepgram", "local", "not x"]),
)
TOP = sorted(
    ["match", "zone", "vars", "session", "profiles", "notice", "greeting", "start", "keys", "dtmf", "on",
     "contexts", "hours", "tools", "limits", "agent_waits"]
)  # fmt: skip


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    safe = "".join(
        char if char.isprintable() and char not in '\\"' else f"\\U{ord(char):08x}" for char in text
    )
    return f'"{safe}"'


def never_raises(folder: Path, text: str) -> None:
    path = folder / "edited.toml"
    path.write_text(text, "utf-8", errors="replace")
    try:
        assert load(path, AGENTS).plans
    except DialplanErrors as errors:
        assert errors.mistakes
        for one in errors.mistakes:
            assert "\n" not in str(one)
            assert 0 <= one.line <= text.count("\n") + 2
            assert one.what


FUZZ = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(text=edited())
@settings(FUZZ, max_examples=400)
def test_edits_of_files_give_lines_never_a_traceback(tmp_path: Path, text: str) -> None:
    never_raises(tmp_path, text)


@given(tree=st.dictionaries(st.sampled_from(TOP), trees(leaves), min_size=1, max_size=3))
@settings(FUZZ, max_examples=400)
def test_any_toml_gives_lines_never_a_traceback(tmp_path: Path, tree: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {toml(value)}" for key, value in tree.items())
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        pass  # A surrogate that the strategy made: a broken file like any other.
    never_raises(tmp_path, text)
