"""What we say ourselves when the agent cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.serving.apology import apology_path, filler_path


@dataclass(frozen=True, slots=True)
class OwnWords:
    """In PCM_8K."""

    apology: bytes
    filler: bytes


def own_words(settings: Settings) -> OwnWords:
    """ConfigErrors for a file that cannot be read."""
    section = settings.call
    return OwnWords(
        apology=_wav("apology_wav", section.apology_wav or apology_path()),
        filler=_wav("filler_wav", section.filler_wav or filler_path()),
    )


def _wav(key: str, path: Path) -> bytes:
    try:
        return load_wav(path, PCM_8K)
    except (ValueError, OSError) as fault:
        raise ConfigErrors(
            [ConfigError("settings", f"call.{key}", str(fault), "name a readable WAV file")]
        ) from None
