"""Our own music on hold."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np

from telbridge.audio.formats import PCM_8K
from telbridge.serving.music import hold_music

PIECE = np.frombuffer(hold_music(), "<i2").astype(float)


def test_it_is_as_long_as_a_loop_should_be() -> None:
    assert 20_000 <= PCM_8K.ms_in(len(hold_music())) <= 30_000


def test_it_is_soft_and_nowhere_near_clipping() -> None:
    rms_dbfs = 20 * np.log10(np.sqrt(np.mean(PIECE**2)) / 32768)
    assert abs(rms_dbfs + 26) < 0.1
    assert np.abs(PIECE).max() < 32768 * 10 ** (-9 / 20)
    assert abs(PIECE.mean()) < 1


def test_it_is_never_silent() -> None:
    seconds = PIECE[: PIECE.size // 8000 * 8000].reshape(-1, 8000)
    assert np.sqrt((seconds**2).mean(axis=1)).min() > 32768 * 10 ** (-36 / 20)


def test_nobody_hears_where_it_begins_again() -> None:
    """A click is a jump of the wave, or of its slope: at the seam there is none larger than in the middle."""
    looped = np.concatenate([PIECE, PIECE])
    for order in (1, 2, 3):
        jumps = np.abs(np.diff(looped, order))
        seam = jumps[PIECE.size - 8 : PIECE.size + 8].max()
        assert seam <= np.percentile(np.abs(np.diff(PIECE, order)), 99.9)


def test_nothing_in_it_is_beyond_the_telephone() -> None:
    power = np.abs(np.fft.rfft(PIECE)) ** 2
    pitch_hz = np.fft.rfftfreq(PIECE.size, 1 / 8000)
    assert power[pitch_hz > 3400].sum() < 1e-4 * power.sum()


def test_each_worker_makes_the_same_octets() -> None:
    code = "import hashlib; from telbridge.serving.music import hold_music; " \
        "print(hashlib.sha256(hold_music()).hexdigest())"  # fmt: skip
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(hold_music()).hexdigest()
