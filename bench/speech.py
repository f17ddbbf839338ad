"""How well and how fast the embedded agent hears and answers: what `agent_speech` measures, as figures."""

from __future__ import annotations

from typing import Final

from bench import agent_speech as measured
from bench.figures import Figure, at_most, exactly, percentile, told

MANY_CALLS: Final = 8
ONLY_TOLD: Final = ("echo -2", "echo -1")
"""Echoes louder than any telephone line's."""


async def measure() -> list[Figure]:
    """FileNotFoundError without the recordings and their texts."""
    for path in (measured.SOUNDS, measured.TEXTS):
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: apt install asterisk-core-sounds-en-wav asterisk-core-sounds-en"
            )
    prompts = measured.select(measured.TEXTS)
    async with measured.agent() as (port, ready_s):
        figures = [told("speech: agent ready after", ready_s, "s")]
        errors = 100 * await measured.measure_words(port, prompts, verbose=False)
        figures.append(
            at_most(f"speech: words misheard, {len(prompts)} prompts", errors, 100 * measured.WER_MAX, "%")
        )
        for count in (1, MANY_CALLS):
            times = await measured.measure_times(port, count, prompts)
            figures += _times(f"speech, {count} at once", times)
        for cause, count in (await measured.measure_false(port)).items():
            name = f"speech: false interruptions by {cause}"
            figures.append(told(name, count, "") if cause.startswith(ONLY_TOLD) else exactly(name, count, 0))
    return figures


def _times(name: str, times: measured.Times) -> list[Figure]:
    return [
        told(f"{name}: last sound to answer, p50", percentile(times.answers, 50), "ms"),
        at_most(
            f"{name}: last sound to answer, p95", percentile(times.answers, 95), measured.ANSWER_MAX_MS, "ms"
        ),
        exactly(f"{name}: turns without an answer", times.unanswered, 0),
        at_most(
            f"{name}: interruption noticed, p95",
            percentile(times.barge_ins, 95),
            measured.BARGE_IN_MAX_MS,
            "ms",
        ),
        exactly(f"{name}: interruptions not noticed", times.unheard, 0),
    ]
