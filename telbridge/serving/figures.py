"""The metrics of all processes on one page, served by the supervisor.

Workers write theirs into memory-mapped files of a directory that is made here (the multiprocess mode of
prometheus-client). What a dead worker counted stays counted: counters must not fall. Its gauges go.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from telbridge.ops.catalogue import Metric

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client looks for the directory, once, when it is imported."""
PREFIX: Final = "telbridge-figures-"
MEMORY: Final = Path("/dev/shm")
"""Files there are never written to a disk, so that a page's way to the disk cannot hold up a worker."""

NOBODY: Final = 0
"""The pid under which the figures of the dead are kept."""

Own = tuple[Metric, tuple[str, ...], float]
"""A figure of the supervisor's own: what, its labels' values, its value."""


class Figures:
    """From the supervisor's start to `close`."""

    def __init__(self, base: Path | None = None) -> None:
        """`base`: where the directory is made; default: in memory where that is possible."""
        base = base or (MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
        _clear(base)
        self._reading = threading.Lock()
        self.directory: Final = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))

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
        """Safe twice."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _encoded(self, encode: Callable[[CollectorRegistry], bytes], own: Iterable[Own]) -> bytes:
        with self._reading:
            return encode(self._registry(own))

    def _registry(self, own: Iterable[Own]) -> CollectorRegistry:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.directory))  # type: ignore[no-untyped-call]
        registry.register(_Supervisor(own))
        return registry


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


def _clear(base: Path) -> None:
    """What supervisors left that were killed."""
    for left in base.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not _lives(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
