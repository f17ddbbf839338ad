"""`python -m bench [SECTION …]`: measure, print one table, store it, exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import math
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from bench import (
    call_setup,
    capacity,
    cpu,
    echo,
    host,
    interruption,
    keys,
    kills,
    load,
    meter,
    monologue,
    overhead,
    peer,
    recorded,
    soak,
    speech,
    stalls,
    streams,
    tls,
    truth,
    upgrade,
    wheel,
)
from bench.figures import Figure, show, store, told
from bench.options import Options

SECTIONS: Final[dict[str, Callable[[], Awaitable[list[Figure]]]]] = {
    "echo": echo.measure,
    "cpu": cpu.measure,
    "interruption": interruption.measure,
    "keys": keys.measure,
    "monologue": monologue.measure,
    "capacity": capacity.measure,
    "streams": streams.measure,
    "stalls": stalls.measure,
    "speech": speech.measure,
    "meter": meter.measure,
    "truth": truth.measure,
    "upgrade": upgrade.measure,
    "recorded": recorded.measure,
}
WITH_OPTIONS: Final[dict[str, Callable[[Options], Awaitable[list[Figure]]]]] = {
    "load": load.measure,
    "setup": call_setup.measure,
    "tls": tls.measure,
    "kills": kills.measure,
    "wheel": wheel.measure,
    "overhead": overhead.measure,
    "peer": peer.measure,
    "soak": soak.measure,
}
USUAL: Final = [*SECTIONS, "load"]


async def run(names: list[str], options: Options) -> list[Figure]:
    """The sections one after the other: they must not disturb each other."""
    figures: list[Figure] = []
    for name in names:
        started = time.monotonic()
        print(f"{name} …", end="", flush=True, file=sys.stderr)
        taken = [await host.most_percent()]
        try:
            figures += await (SECTIONS[name]() if name in SECTIONS else WITH_OPTIONS[name](options))
        except Exception as error:  # noqa: BLE001 - one section that fails must not cost what the others found
            traceback.print_exception(error)
            figures.append(Figure(f"{name}: not measured", math.inf, type(error).__name__, "measured", False))
        taken.append(await host.most_percent())
        for when, percent in zip(("before", "after"), taken, strict=True):
            figures.append(told(f"{name}: the host took from a busy core {when}", percent, "% of the time"))
        print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = [*SECTIONS, *WITH_OPTIONS]
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"{', '.join(known)}; by default {', '.join(USUAL)}"
    )
    parser.add_argument(
        "--calls", type=_numbers, metavar="N[,N…]", help="calls at a time; of `load` the ladder, 1,40,80 …"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="length of one measurement")
    parser.add_argument("--minutes", type=float, metavar="M", help="the same in minutes")
    parser.add_argument("--only", type=_words, default=(), metavar="PART[,PART…]", help="of `load`: sip, …")
    parser.add_argument("--uri", default="", help="of `peer`: sip:USER@HOST:PORT or ws://HOST:PORT/PATH")
    parser.add_argument("--pid", type=_numbers, default=(), metavar="PID[,PID…]", help="of `peer`")
    given = parser.parse_args()
    names: list[str] = given.sections or USUAL
    for name in names:
        if name not in known:
            parser.error(f"no section {name!r}; there are {', '.join(known)}")
    seconds = given.minutes * 60 if given.minutes is not None else given.seconds
    options = Options(given.calls, seconds, given.only, given.uri, given.pid)
    # uvloop, because a light load is a punctual one.
    figures = uvloop.run(run(names, options))
    show(figures)
    print(f"stored in {store(figures, names)}")
    missed = sum(not figure.ok for figure in figures)
    print(f"{missed} of {sum(bool(figure.target) for figure in figures)} targets missed")
    return 1 if missed else 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
