"""Finds and loads a pjsua2: the one built for this machine first, else the PyPI wheel (docs/pjsua2.md)."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

REMEDY: Final = "run `make pjsua2`"
FORCE_ENV: Final = "TELBRIDGE_PJSUA2"


class SipUnavailable(Exception):
    """SIP cannot run here; the text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class PjsuaBuild:
    """Which pjsua2 this process runs on."""

    kind: Literal["built", "wheel"]
    version: str
    max_calls: int
    """Calls at a time in one process, as compiled."""
    directory: Path

    @property
    def fixed_tone(self) -> bool:
        """Every telephone-event that it sends lasts 200 ms."""
        return _version_key(self.version) < (2, 16)

    def __str__(self) -> str:
        if self.kind == "built":
            return f"pjsua2 {self.version} built, {self.max_calls} calls"
        return f"pjsua2 {self.version} wheel, {self.max_calls} calls a process: {REMEDY} for more"


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library: its Python side, and its C functions by ctypes."""

    pj: Any
    native: ctypes.CDLL
    build: PjsuaBuild


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where `scripts/build-pjsua2.sh` keeps its results, one folder a version and interpreter."""
    root = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "telbridge" / "pjsua2"


def interpreter_tag() -> str:
    """What an extension module must be built for, as `cpython-311-x86_64-linux-gnu`."""
    return str(sysconfig.get_config_var("SOABI"))


def built_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The highest built version for this interpreter."""
    tag = interpreter_tag()
    found = [
        folder
        for folder in cache_folder(environ).glob(f"*-{tag}")
        if (folder / "pjsua2.py").is_file() and any(folder.glob("_pjsua2*.so"))
    ]
    return max(found, key=lambda folder: _version_key(folder.name.removesuffix(f"-{tag}")), default=None)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


@cache
def load() -> Library:
    """The library of this process, loaded once. SipUnavailable when there is none."""
    wanted = os.environ.get(FORCE_ENV, "")
    if wanted not in ("", "built", "wheel"):
        raise SipUnavailable(f"{FORCE_ENV}={wanted!r}: write built or wheel")
    folder = built_folder() if wanted != "wheel" else None
    if folder is not None:
        return _library("built", *_import_built(folder))
    if wanted == "built":
        raise SipUnavailable(f"{FORCE_ENV}=built, but {cache_folder()} has none for this Python: {REMEDY}")
    return _library("wheel", *_import_wheel())


def _import_built(folder: Path) -> tuple[Any, Any]:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("pjsua2"), importlib.import_module("_pjsua2")
    except ImportError as error:
        raise SipUnavailable(
            f"the pjsua2 in {folder} does not load ({error}): remove it and {REMEDY}"
        ) from error
    finally:
        sys.path.remove(str(folder))


def _import_wheel() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pjsua2.pjsua2"), importlib.import_module("pjsua2._pjsua2")
    except ImportError as error:
        raise SipUnavailable(f"no pjsua2 for this Python ({error}): {REMEDY}") from error


def _library(kind: Literal["built", "wheel"], pj: Any, extension: Any) -> Library:
    path = Path(extension.__file__)
    native = ctypes.CDLL(str(path))
    try:
        native.pj_get_version.restype = ctypes.c_char_p
        version = native.pj_get_version().decode()
        # Before libCreate, or it greets on stdout.
        native.pj_log_set_level(0)
    except AttributeError as error:
        raise SipUnavailable(f"{path} hides PJSIP's C functions ({error}): {REMEDY}") from error
    # Its default is what was compiled, at most. A nested object does not keep the one around it alive.
    config = pj.EpConfig()
    build = PjsuaBuild(kind, version, int(config.uaConfig.maxCalls), path.parent)
    return Library(pj, native, build)
