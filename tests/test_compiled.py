"""What is to be compiled (pyproject.toml), and whether it has been."""

from __future__ import annotations

import ast
import os
import tomllib
from pathlib import Path

import pytest

from telbridge.compiled import is_compiled

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES: list[str] = PROJECT["tool"]["telbridge"]["compiled"]


@pytest.mark.parametrize("module", MODULES)
def test_all_of_the_list_is_compiled_or_nothing(module: str) -> None:
    assert is_compiled(module) is (os.environ.get("TELBRIDGE_REQUIRE_COMPILED") == "1")


@pytest.mark.parametrize("module", MODULES)
def test_no_coroutine_is_compiled(module: str) -> None:
    """One that is cancelled would leave its CancelledError to somebody else (mypyc 2.4.1)."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)] == []
