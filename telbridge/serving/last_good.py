"""The dialplans that were last without a mistake, where a worker that is started again finds them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

_NAME: Final = "dialplans.zip"
_SOURCE, _RECORDING = "source:", "recording:"


class LastGood:
    """One file in a folder of the supervisor's. It holds texts and audio themselves, not their places."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME

    def keep(self, sources: Mapping[str, bytes], recordings: Mapping[str, bytes]) -> None:
        """In place of what was kept before, as a whole. A disk that does not take it is logged."""
        draft = self._file.with_suffix(f".{os.getpid()}")
        try:
            with zipfile.ZipFile(draft, "w") as archive:
                for path, raw in sources.items():
                    archive.writestr(_SOURCE + path, raw)
                for name, audio in recordings.items():
                    archive.writestr(_RECORDING + name, audio)
            draft.replace(self._file)
        except (OSError, UnicodeError) as error:
            log.warning("dialplans_not_kept", why=getattr(error, "strerror", None) or type(error).__name__)

    def take(self) -> tuple[dict[str, bytes], dict[str, bytes]] | None:
        """Sources by path and recordings by name; None if there are none."""
        try:
            with zipfile.ZipFile(self._file) as archive:
                entries = {name: archive.read(name) for name in archive.namelist()}
        except (OSError, zipfile.BadZipFile):
            return None
        return _those(entries, _SOURCE), _those(entries, _RECORDING)


def _those(entries: Mapping[str, bytes], kind: str) -> dict[str, bytes]:
    return {name.removeprefix(kind): raw for name, raw in entries.items() if name.startswith(kind)}
