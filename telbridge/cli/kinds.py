"""What a file is, by what it holds: settings or a dialplan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from telbridge.config import Settings
from telbridge.dialplan.model import Dialplan

_KEY: Final = re.compile(r"^\s*(?:\[\[?\s*)?([A-Za-z_][\w-]*)", re.MULTILINE)
"""The first name of each line: a table or a key. Of a file that may be no TOML at all."""
_SETTINGS: Final = frozenset(Settings.model_fields) - set(Dialplan.model_fields)
_DIALPLAN: Final = frozenset(Dialplan.model_fields) - set(Settings.model_fields)


def is_dialplan(path: Path, folder: Path | None = None) -> bool:
    """Whether it is a folder of dialplans or one of them. Where the names in a file do not tell, it is by its
    place: in `folder`, in one that is called `dialplans`, or beside files that are dialplans."""
    if path.is_dir():
        return True
    votes = _votes(path)
    if votes:
        return votes > 0
    here = path.absolute().parent
    if here.name == "dialplans" or (folder is not None and here == folder.absolute()):
        return True
    return any(_votes(other) > 0 for other in here.glob("*.toml") if other != path)


def _votes(path: Path) -> int:
    """Names that only a dialplan has, less those that only settings have."""
    try:
        names = set(_KEY.findall(path.read_text("utf-8", "replace")))
    except OSError:
        return 0
    return len(names & _DIALPLAN) - len(names & _SETTINGS)
