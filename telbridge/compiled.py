"""Whether this telbridge is the compiled one (setup.py, docs/decisions/0015)."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec


def is_compiled(module: str = "telbridge.call.way") -> bool:
    """Whether that module is machine code. ModuleNotFoundError if there is none of that name."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module}")
    return spec.origin.endswith(tuple(EXTENSION_SUFFIXES))
