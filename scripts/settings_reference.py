"""Writes docs/settings.md from the settings themselves; `--check` only compares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from telbridge.config import Settings
from telbridge.sessions.providers import PROVIDERS

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """# Settings

Made from the code by `scripts/settings_reference.py`; a test holds the two together.

One TOML file, given as `telbridge serve --config FILE`; nothing needs to be set. `telbridge check FILE`
names each mistake with its remedy. Any setting can be overridden by the environment: `sip.port` is
`TELBRIDGE__SIP__PORT`. The sections of the agent APIs stand in [providers.md](providers.md).
"""


def page() -> str:
    """The whole page."""
    fields = Settings.model_fields.items()
    return HEAD + "".join(_section(name, field) for name, field in fields if name not in PROVIDERS)


def _section(name: str, field: FieldInfo) -> str:
    model = field.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    rows = "".join(
        f"| `{key}` | {default} | {text} |\n" for key, default, text in _rows(model, field.default)
    )
    return f"\n## [{name}]\n\n| key | default | meaning |\n|---|---|---|\n{rows}"


def _rows(model: type[BaseModel], defaults: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        value = getattr(defaults, name, field.default)
        inner, *others = [kind for kind in get_args(field.annotation) if kind is not NoneType] or [
            field.annotation
        ]
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not field.description:
            yield from _rows(inner, value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value), (field.description or "").replace("|", "\\|")
            if value is None and not others and isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _rows(inner, None, f"{prefix}{name}.")


def _shown(value: Any) -> str:
    if value in (None, PydanticUndefined):
        return "–"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, (set, frozenset, tuple)):
        value = sorted(str(item) for item in value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
