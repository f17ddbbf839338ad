"""`python -m bench [SECTION …]`: measure, print one table, store it, exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

from bench import capacity, cpu, echo, interruption, keys, meter, monologue, recorded, speech, streams, truth
from bench.figures import Figure, show, store

SECTIONS: Final[dict[str, Callable[[], Awaitable[list[Figure]]]]] = {
    "echo": echo.measure,
    "cpu": cpu.measure,
    "interruption": interruption.measure,
    "keys": keys.measure,
    "monologue": monologue.measure,
    "capacity": capacity.measure,
    "streams": streams.measure,
    "speech": speech.measure,
    "meter": meter.measure,
    "truth": truth.measure,
    "recorded": recorded.measure,
}


async def run(names: list[str]) -> list[Figure]:
    """The sections one after the other: they must not disturb each other."""
    figures: list[Figure] = []
    for name in names:
        started = time.monotonic()
        print(f"{name} …", end="", flush=True, file=sys.stderr)
        try:
            figures += await SECTIONS[name]()
        except Exception as error:  # noqa: BLE001 - one section that fails must not cost what the others found
            traceback.print_exception(error)
            figures.append(Figure(f"{name}: not measured", math.inf, type(error).__name__, "measured", False))
        print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    names: list[str] = parser.parse_args().sections or list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    figures = asyncio.run(run(names))
    show(figures)
    print(f"stored in {store(figures, names)}")
    missed = sum(not figure.ok for figure in figures)
    print(f"{missed} of {sum(bool(figure.target) for figure in figures)} targets missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
