"""A spoken conversation with interruptions, recorded: what an independent judge hears, beside the record.

The embedded agent and our own caller talk in synthesised speech; `judge.py` knows the two channels alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.figures import Figure, at_least, at_most, told
from bench.judge import LIMIT_MS, Compared, compare, judge
from bench.processes import bridge
from telbridge.caller.run import CallOptions, Say, run_call
from telbridge.caller.streams.run import run_stream_call
from telbridge.cli.voice import make_voice

SCRIPT: Final = (
    Say("Hello, what are your opening hours?"),
    Say("I would like to book a table for two.", interrupt_after_ms=1200),
    Say("On Friday, please.", interrupt_after_ms=1500),
    Say("Wait a moment, what are your opening hours again?", interrupt_after_ms=1000),
    Say("Then on Friday at seven.", interrupt_after_ms=1300),
    Say("Thank you, that is all. Goodbye."),
)
GREETING: Final = "Hello, this is telbridge. How can I help you?"
LONGEST_S: Final = 90.0


async def measure() -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="telbridge-recorded-") as folder:
        settings = {"call": {"greeting": GREETING}, "recording": {"calls": "on", "folder": folder}}
        async with bridge("built", settings) as running:
            for number, uri in enumerate((running.uri, running.generic), 1):
                call = run_call if number == 1 else run_stream_call
                voice = make_voice()
                await call(CallOptions(uri=uri, script=SCRIPT, synthesize=voice, max_duration_s=LONGEST_S))
                record = (await running.records(number))[-1]
                heard = judge(Path(record["recording"]["path"]))
                figures += as_figures(f"recorded, {record['ingress']}", compare(heard, record))
    return figures


def as_figures(name: str, compared: Sequence[Compared]) -> list[Figure]:
    """The worst of each kind, against what is allowed."""
    figures = []
    for what in ("turn gap", "talk-over"):
        these = [one for one in compared if one.what == what]
        off_ms = [one.off_ms for one in these if one.heard_ms is not None]
        most = max(map(abs, off_ms), default=0.0)
        figures.append(at_least(f"{name}: {what}s judged", len(off_ms), 1))
        figures.append(at_most(f"{name}: {what} off what is heard, most", most, LIMIT_MS, "ms"))
        if pauses := len(these) - len(off_ms):
            figures.append(told(f"{name}: {what}s in a pause of the agent, not judged", pauses, ""))
    return figures
