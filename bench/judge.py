"""An independent judge of two-channel recordings: turn gaps and talk-over by energy alone.

`python bench/judge.py RECORDING.wav [RECORD.json]` prints what it hears and, beside it, what the call's
record says. It shares nothing with telbridge: it knows WAV (by Python's own module), numpy, and that the
caller is left and the agent right.
"""

from __future__ import annotations

import json
import math
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

STEP_MS: Final = 5
PAUSE_MS: Final = 400
"""Shorter silences lie within speech: between two sentences, say."""
LEAST_MS: Final = 40
"""Shorter sounds are clicks."""
LEAST_LEVEL: Final = 50.0
"""Of 32767 (rms), -56 dBFS: what is softer is not heard on a telephone."""
OVER_NOISE: Final = 3.0
UNDER_SPEECH: Final = 63.0
"""Of the caller, 36 dB below their loudest speech: what is softer is breath, or the room."""
FAR_MS: Final = 300
"""What is heard so far from where the record has it is something else."""
LIMIT_MS: Final = 40

Stretch = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Heard:
    """Of one call, in ms since the recording began."""

    caller: list[Stretch]
    agent: list[Stretch]
    gaps: list[Stretch]
    """From the caller's last sound to the agent's first, where nobody spoke in between."""
    overlaps: list[Stretch]
    """From the caller's first sound into the agent's words to the agent's last."""


def judge(path: Path) -> Heard:
    """ValueError if it has not two channels of 16 bit."""
    with wave.open(str(path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (2, 2):
            raise ValueError(f"{path}: no two channels of 16 bit")
        rate_hz = file.getframerate()
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    caller = _speech(both[:, 0].astype(np.float64), rate_hz, UNDER_SPEECH)
    agent = _speech(both[:, 1].astype(np.float64), rate_hz, math.inf)  # There is no room around it.
    return Heard(caller, agent, list(_gaps(caller, agent)), list(_overlaps(caller, agent)))


def _speech(samples: npt.NDArray[np.float64], rate_hz: int, under_speech: float) -> list[Stretch]:
    """Where there is more than noise."""
    step = rate_hz * STEP_MS // 1000
    levels = np.sqrt((samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(axis=1))
    if not len(levels):
        return []
    noise, loudest = np.percentile(levels, 10), np.percentile(levels, 99.5)
    loud = levels > max(LEAST_LEVEL, OVER_NOISE * noise, loudest / under_speech)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]]))) * float(STEP_MS)
    stretches: list[Stretch] = []
    for start, end in edges.reshape(-1, 2):
        if stretches and start - stretches[-1][1] < PAUSE_MS:
            stretches[-1] = (stretches[-1][0], float(end))
        else:
            stretches.append((float(start), float(end)))
    return [(start, end) for start, end in stretches if end - start >= LEAST_MS]


def _gaps(caller: list[Stretch], agent: list[Stretch]) -> Iterator[Stretch]:
    for begin, _ in agent:
        last = max((end for start, end in caller if start < begin), default=math.inf)
        if last <= begin and not any(last <= start < begin for start, _ in agent):
            yield last, begin


def _overlaps(caller: list[Stretch], agent: list[Stretch]) -> Iterator[Stretch]:
    for begin, _ in caller:
        for start, end in agent:
            if start < begin < end:
                yield begin, end


# -------------------------------------------------------------------- beside a call's record


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of the record and what is heard of it: infinite where nothing is, None where energy cannot
    tell, since the agent was cut in a pause between two of its sentences."""

    what: str
    at_ms: float
    """In the recording."""
    record_ms: float
    heard_ms: float | None

    @property
    def off_ms(self) -> float:
        return 0.0 if self.heard_ms is None else self.record_ms - self.heard_ms


def compare(heard: Heard, record: dict[str, Any]) -> list[Compared]:
    """Every turn gap and talk-over that the record has."""
    from_ms = record["recording"]["from_ms"]
    compared = []
    for turn in record["turns"]:
        if turn["gap_ms"] is not None:
            at_ms = turn["agent_on_wire_ms"] - from_ms
            length_ms = _length(min(heard.gaps, key=lambda gap: abs(gap[1] - at_ms), default=None), 1, at_ms)
            compared.append(Compared("turn gap", at_ms, turn["gap_ms"], length_ms))
        cut = turn["interruption"] or {}
        if cut.get("talk_over_ms") is not None:
            at_ms = cut["onset_ms"] - from_ms
            nearest = min(heard.overlaps, key=lambda both: abs(both[0] - at_ms), default=None)
            length = None if _pauses(heard.agent, at_ms) else _length(nearest, 0, at_ms)
            compared.append(Compared("talk-over", at_ms, cut["talk_over_ms"], length))
    return compared


def _pauses(agent: list[Stretch], at_ms: float) -> bool:
    """Not a sound of the agent then."""
    return not any(start - LIMIT_MS < at_ms < end + LIMIT_MS for start, end in agent)


def _length(stretch: Stretch | None, edge: int, at_ms: float) -> float:
    if stretch is None or abs(stretch[edge] - at_ms) > FAR_MS:
        return math.inf
    return stretch[1] - stretch[0]


def main(arguments: list[str]) -> int:
    heard = judge(Path(arguments[0]))
    print(f"{len(heard.caller)} stretches of the caller, {len(heard.agent)} of the agent")
    if len(arguments) < 2:
        for name, stretches in (("turn gap", heard.gaps), ("talk-over", heard.overlaps)):
            for start, end in stretches:
                print(f"{start / 1000:8.2f} s  {name:9}  {end - start:5.0f} ms")
        return 0
    worst = 0.0
    for one in compare(heard, json.loads(Path(arguments[1]).read_text("utf-8"))):
        worst = max(worst, abs(one.off_ms))
        told = "in a pause" if one.heard_ms is None else f"heard {one.heard_ms:5.0f} ms"
        print(
            f"{one.at_ms / 1000:8.2f} s  {one.what:9}  {told:14}  "
            f"record {one.record_ms:7.1f} ms  off {one.off_ms:+6.1f} ms"
        )
    print(f"off by at most {worst:.1f} ms")
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
