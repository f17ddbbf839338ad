"""The metrics of all processes on one page, served by the supervisor.

Workers write theirs into memory-mapped files of a directory that is made here (the multiprocess mode of
prometheus-client). What a dead worker counted stays counted: counters must not fall. Its gauges go.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from telbridge.ops.catalogue import Metric
from telbridge.ops.exemplars import Exemplars

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client looks for the directory, once, when it is imported."""
PREFIX: Final = "telbridge-figures-"
ALIVE: Final = "alive"
"""A file that is locked as long as its supervisor lives, in whatever container."""
MEMORY: Final = Path("/dev/shm")
"""Files there are never written to a disk, so that a page's way to the disk cannot hold up a worker."""

NOBODY: Final = 0
"""The pid under which the figures of the dead are kept."""

Own = tuple[Metric, tuple[str, ...], float]
"""A figure of the supervisor's own: what, its labels' values, its value."""


class Figures:
    """From `open` to `close`."""

    def __init__(self, base: Path | None = None) -> None:
        """`base`: where the directory will be made; default: in memory where that is possible."""
        base = base or (MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
        self.directory: Final = base / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._reading = threading.Lock()
        self._alive: IO[bytes] | None = None
        self.exemplars: Final = Exemplars()

    def open(self) -> None:
        """Make it, and clear away those of supervisors that were killed."""
        for other in self.directory.parent.glob(f"{PREFIX}*"):
            _clear(other)
        self.directory.mkdir(mode=0o700)
        self._alive = (self.directory / ALIVE).open("wb")
        fcntl.flock(self._alive, fcntl.LOCK_EX)

    @property
    def environ(self) -> Mapping[str, str]:
        """For a worker."""
        return {DIRECTORY: str(self.directory)}

    def forget(self, pid: int) -> None:
        """This worker is dead: what it counted is added to what others did that died before. A worker that
        dies again and again must not fill the directory."""
        with self._reading:
            mark_process_dead(pid, str(self.directory))  # type: ignore[no-untyped-call]
            for kind in ("counter", "histogram"):
                file = self.directory / f"{kind}_{pid}.db"
                if file.exists():
                    _add(file, self.directory / f"{kind}_{NOBODY}.db")
                    file.unlink()

    def page(self, own: Callable[[], Iterable[Own]]) -> web.RouteDef:
        """GET /metrics, in the format that is asked for: OpenMetrics or Prometheus's text."""

        async def answer(request: web.Request) -> web.Response:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            figures = list(own())
            text = await asyncio.to_thread(self._encoded, encode, figures)
            return web.Response(body=text, headers={"Content-Type": content_type})

        return web.get("/metrics", answer)

    def close(self) -> None:
        """Safe twice, and without `open`."""
        if self._alive is not None:
            self._alive.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _encoded(self, encode: Callable[[CollectorRegistry], bytes], own: Iterable[Own]) -> bytes:
        with self._reading:
            return encode(self._registry(own))

    def _registry(self, own: Iterable[Own]) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(_Workers(self.directory, self.exemplars))
        registry.register(_Supervisor(own))
        return registry


class _Workers:
    """A collector of prometheus-client."""

    def __init__(self, directory: Path, exemplars: Exemplars) -> None:
        self._files = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]
        self._exemplars = exemplars

    def collect(self) -> Iterator[Family]:
        yield from self._exemplars.put_to(self._files.collect())  # type: ignore[no-untyped-call]


class _Supervisor:
    """A collector of prometheus-client."""

    def __init__(self, own: Iterable[Own]) -> None:
        self._own = own

    def collect(self) -> Iterator[Family]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, labels, value in self._own:
            family = families.get(metric.name)
            if family is None:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                name = f"telbridge_{metric.name}"
                family = families[metric.name] = kind(name, metric.help, labels=metric.labels)
            family.add_metric(labels, value)
        yield from families.values()


def _add(file: Path, kept: Path) -> None:
    """The figures of one file to those of another."""
    sums = MmapedDict(str(kept))  # type: ignore[no-untyped-call]
    for key, value, at, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
        sums.write_value(key, before + value, at)  # type: ignore[no-untyped-call]
    sums.close()  # type: ignore[no-untyped-call]


def _clear(directory: Path) -> None:
    """If nobody is behind it any more."""
    try:
        with (directory / ALIVE).open("rb") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # It lives; or it is being made just now; or it is somebody else's.
    shutil.rmtree(directory, ignore_errors=True)
