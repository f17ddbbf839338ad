"""A worker without a supervisor: as it is, or without what a prototype would not have.

`python -m bench.lone_worker AGENT_PORT [--bare]`, its settings in the environment. It says on stdout what a
worker says to its supervisor, the ready line first, and ends when its stdin does. `--bare` takes out metrics,
records and the speech meter, so that their cost can be told (bench.overhead).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import Final

import uvloop

from telbridge.audio.speech import SpeechMeter
from telbridge.call import call as calls
from telbridge.config import load
from telbridge.ops import logging
from telbridge.serving import telling, worker
from telbridge.serving.messages import WorkerStart


class Nothing:
    """Takes whatever it is told, and tells nothing."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __call__(self, *_: object, **__: object) -> None:
        return None

    def call(self, *_: object) -> Nothing:
        """The observer of a call."""
        return self


class Deaf(SpeechMeter):
    """A meter that does not listen."""

    def hear(self, audio: bytes | memoryview, now_ns: int) -> bool:
        return False


def _nothing(*_: object, **__: object) -> None:
    return None


async def _nothing_later(*_: object) -> None:
    return None


TAKEN_OUT: Final[tuple[tuple[object, str, object], ...]] = (
    (worker, "Metrics", Nothing),
    (calls, "SpeechMeter", Deaf),
    (worker.Worker, "_keep", _nothing_later),
    (telling.Telling, "started", _nothing),
    (telling.Telling, "figures", _nothing_later),
)


def take_out() -> None:
    """AttributeError if something is no longer where it was: then there would be nothing to compare."""
    for owner, name, instead in TAKEN_OUT:
        getattr(owner, name)
        setattr(owner, name, instead)


async def _run(start: WorkerStart) -> None:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def end() -> None:
        stop.set()
        hurry.set()

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            end()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_reader(sys.stdin.fileno(), on_stdin)
    await worker.Worker(start).run(stop, hurry)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent_port", type=int)
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    if given.bare:
        take_out()
    settings = load(None)
    logging.configure(settings.log.level, settings.log.format, process="worker")
    uvloop.run(_run(WorkerStart(settings=settings, agent_port=given.agent_port)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
