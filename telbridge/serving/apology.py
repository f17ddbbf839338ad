"""The words that we say ourselves when the agent cannot."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def apology_path() -> Path:
    """«I'm sorry, something went wrong on our side. Please call again in a moment. Goodbye.», 8 kHz."""
    return _asset("apology.wav")


def filler_path() -> Path:
    """«One moment, please.», 8 kHz."""
    return _asset("filler.wav")


def _asset(name: str) -> Path:
    return Path(str(files("telbridge") / "assets" / name))
