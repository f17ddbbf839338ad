"""Against programs of other people's making: `make interop`. Not part of the normal run; a test whose program
is not here is skipped and says which one it misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.records.conftest import postgres as postgres


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Unless this folder, or something in it, was asked for by name."""
    here = Path(__file__).parent
    asked = (Path(config.invocation_params.dir, each.partition("::")[0]).resolve() for each in config.args)
    return None if any(here in (path, *path.parents) for path in asked) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These start programs of all sizes: a test that hangs is told from one whose machine is busy."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))
