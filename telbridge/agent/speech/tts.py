"""Synthesis: hibari (Apache-2.0, voice inside the package), one sentence at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from telbridge.agent.levels import Samples, to_pcm
from telbridge.agent.speech.models import HIBARI, ModelsMissingError
from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.resampler import resample
from telbridge.audio.transcoder import Transcoder

RATE_HZ: Final = 24_000
SILENT: Final = 0.01
"""Below this the model's output is the breath before and after a sentence (0.26 to 0.4 s of it)."""
LEAD_MS, TAIL_MS, PAUSE_MS = 10, 60, 160
"""Kept before a sentence and after it, and the silence added behind it."""


class Synthesizer(Protocol):
    def synthesize(self, text: str, output: AudioFormat) -> bytes:
        """A sentence as audio, with a short pause behind it."""


class Hibari:
    """The voice. Not for two threads at once."""

    def __init__(self, voice: str, level_dbfs: float) -> None:
        """`voice`: "heart", or the path of another model. ModelsMissingError if it is not on this machine."""
        HIBARI.folder()
        from hibari import Hibari as Engine

        if voice == "heart":
            self._engine = Engine(threads=1)
        elif Path(voice).is_file():
            self._engine = Engine(model=voice, threads=1)
        else:
            # The package would download it. Here only what is on the machine counts.
            raise ModelsMissingError([f"speech: voice {voice}: neither `heart` nor a model file"])
        self._rms = 10 ** (level_dbfs / 20)

    def synthesize(self, text: str, output: AudioFormat) -> bytes:
        # The noise of the breath is random in this model: a seed makes the same words the same bytes.
        samples = self._engine(text, seed=1)
        pcm = to_pcm(_trimmed(samples) * np.float32(self._rms / max(_active_rms(samples), 1e-4)))
        return _encoded(pcm, output) + output.silence(output.rate_hz * PAUSE_MS // 1000)


def _trimmed(samples: Samples) -> Samples:
    loud = np.flatnonzero(np.abs(samples) > SILENT)
    if not loud.size:
        return samples[:0]
    start = max(0, int(loud[0]) - RATE_HZ * LEAD_MS // 1000)
    return samples[start : int(loud[-1]) + RATE_HZ * TAIL_MS // 1000]


def _active_rms(samples: Samples) -> float:
    """RMS of the frames of 20 ms that are within 35 dB of the loudest."""
    frame = RATE_HZ // 50
    count = samples.size // frame
    if not count:
        return 0.0
    power = np.mean(samples[: count * frame].reshape(count, frame) ** 2, axis=1)
    return float(np.sqrt(np.mean(power[power >= power.max() * 10**-3.5])))


def _encoded(pcm: bytes, output: AudioFormat) -> bytes:
    if output.rate_hz != RATE_HZ:
        pcm = resample(pcm, RATE_HZ, output.rate_hz)
    return Transcoder(AudioFormat(Encoding.PCM16, output.rate_hz), output).convert(pcm)


_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])[\"”')\]]*\s+(?=\S)|\n+")
_ABBREVIATION: Final = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|No|vs|a\.m|p\.m|[A-Z])\.$")


def sentences(text: str) -> list[str]:
    """The text in pieces that can be spoken one after the other, as soon as each is there."""
    found: list[str] = []
    for piece in _SENTENCE_END.split(text.strip()):
        if not piece or not piece.strip():
            continue
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] = f"{found[-1]} {piece.strip()}"
        else:
            found.append(piece.strip())
    return found
