"""A call to look at for each bucket of a histogram: the last one that was in it, by its id.

prometheus-client keeps no exemplars in its multiprocess mode. So a worker tells, when a call is over, what
was worst in it of each histogram, and the process that serves the page puts that to the buckets (OpenMetrics
1.0; the older text format has no exemplars).
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from prometheus_client.core import Exemplar
from prometheus_client.core import Metric as Family
from prometheus_client.utils import floatToGoString

from telbridge.ops import catalogue as the
from telbridge.ops.catalogue import Metric

MOST: Final = 5_000
"""Buckets with an exemplar; more series than that have other troubles."""
LESS_IS_WORSE: Final = frozenset({the.MOS_OF_CALLS.name})
_HISTOGRAMS: Final = {
    metric.name: metric
    for metric in chain.from_iterable(section.metrics for section in the.SECTIONS)
    if metric.kind == "histogram"
}

Labels = tuple[tuple[str, str], ...]
Told = tuple[str, tuple[str, ...], float]
"""Name of a metric, its labels' values, an observation."""


class Worst:
    """What was worst in one call, of each series."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, tuple[str, ...]], float] = {}
        """By the metric's name."""

    def see(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        key = metric.name, labels
        before = self._seen.get(key, value)
        self._seen[key] = min(before, value) if metric.name in LESS_IS_WORSE else max(before, value)

    def told(self) -> list[Told]:
        """JSON, for the process that serves the page."""
        return [(name, labels, value) for (name, labels), value in self._seen.items()]


class Exemplars:
    """Of all workers' calls."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._clock = clock
        self._of_family: dict[str, dict[Labels, Exemplar]] = {}
        self._count = 0

    def note(self, of: Mapping[str, str], told: Iterable[Told]) -> None:
        """A call is over. `of`: its labels, as {"call_id": …}; 128 characters at most, all together
        (OpenMetrics 1.0, Exemplars). A worker of another version may tell of metrics that we do not know."""
        for name, values, value in told:
            metric = _HISTOGRAMS.get(name)
            if metric is None or len(values) != len(metric.labels):
                continue
            at = bisect_left(metric.buckets, value)
            buckets, key = (
                self._of_family.setdefault(f"telbridge_{name}", {}),
                _place(name, tuple(values), at),
            )
            if key in buckets or self._count < MOST:
                self._count += key not in buckets
                buckets[key] = Exemplar(dict(of), value, self._clock())

    def put_to(self, families: Iterable[Family]) -> Iterator[Family]:
        """The same families; from any thread."""
        for family in families:
            if buckets := self._of_family.get(family.name):
                family.samples = [
                    sample._replace(exemplar=buckets.get(_key(sample.labels)))
                    if sample.name.endswith("_bucket")
                    else sample
                    for sample in family.samples
                ]
            yield family


def _key(labels: Mapping[str, Any]) -> Labels:
    return tuple(sorted(labels.items()))


@lru_cache(MOST)
def _place(name: str, values: tuple[str, ...], at: int) -> Labels:
    """The labels of a histogram's bucket, by its place among them."""
    metric = _HISTOGRAMS[name]
    le: str = floatToGoString((*metric.buckets, math.inf)[at])  # type: ignore[no-untyped-call]
    return _key(dict(zip(metric.labels, values, strict=True)) | {"le": le})
