"""PromQL from the catalogue's metrics: a misspelt metric or label fails when the dashboards are made.

Every selector filters by each template variable whose label the metric has.
"""

from __future__ import annotations

from typing import Final

from telbridge.ops.catalogue import Metric

FILTERS: Final = ("instance", "ingress", "trunk", "dialplan", "agent")
"""Template variables; `instance` is Prometheus's own label."""
WINDOW: Final = "$__rate_interval"


def series(metric: Metric, suffix: str = "", /, **more: str) -> str:
    """A selector. `more`: label to matcher, as `direction='="up"'`."""
    unknown = more.keys() - set(metric.labels)
    if unknown:
        raise ValueError(f"{metric.full_name} has no label {', '.join(sorted(unknown))}")
    filters = [f'{name}=~"${name}"' for name in FILTERS if name == "instance" or name in metric.labels]
    matchers = [f"{name}{matcher}" for name, matcher in more.items()]
    return f"{metric.full_name}{suffix}{{{','.join(filters + matchers)}}}"


def gauge(metric: Metric, by: str = "") -> str:
    return f"sum{_by(metric, by)} ({series(metric)})"


def rate(metric: Metric, by: str = "", suffix: str = "", /, **more: str) -> str:
    """A second."""
    return f"sum{_by(metric, by)} (rate({series(metric, suffix, **more)}[{WINDOW}]))"


def a_minute(metric: Metric, by: str, **more: str) -> str:
    """How often, for those of which there was one in the time that is shown: the others stand at 0, and
    would fill the legend."""
    return f"60 * {rate(metric, by, **more)} and {count(metric, by, **more)} > 0"


def count(metric: Metric, by: str = "", window: str = "$__range", **more: str) -> str:
    """How many, within the window; none where nothing ever happened is 0 if it is one figure."""
    total = f"sum{_by(metric, by)} (increase({series(metric, **more)}[{window}]))"
    return total if by else f"{total} or vector(0)"


def quantile(q: float, metric: Metric, by: str = "", window: str = WINDOW, **more: str) -> str:
    labels = f"le, {by}" if by else "le"
    _by(metric, by)
    return f"histogram_quantile({q}, sum by ({labels}) (rate({series(metric, '_bucket', **more)}[{window}])))"


def mean(metric: Metric, by: str = "", window: str = WINDOW) -> str:
    """Of a histogram's observations."""
    total, number = (
        f"sum{_by(metric, by)} (rate({series(metric, s)}[{window}]))" for s in ("_sum", "_count")
    )
    return f"{total} / {number}"


def buckets(metric: Metric, **more: str) -> str:
    """For a heat map."""
    return f"sum by (le) (increase({series(metric, '_bucket', **more)}[{WINDOW}]))"


def share(part: str, whole: str) -> str:
    """Nothing where the whole is nothing."""
    return f"{part} / ({whole} > 0)"


def _by(metric: Metric, by: str) -> str:
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = set(names) - {*metric.labels, "instance"}
    if unknown:
        raise ValueError(f"{metric.full_name} has no label {', '.join(sorted(unknown))}")
    return f" by ({', '.join(names)})" if names else ""
