"""What a dashboard is, without Grafana's format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["figure", "lines", "stack", "heat"]


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`help` says what it shows and when to worry. `calls`: filters of the admin port's /calls behind it, as
    "agent=${__field.labels.agent}". `limits`: from where on it is orange and red; the other way round where
    less is worse. Width is of 24 columns; a phone shows each panel over its whole width."""

    title: str
    help: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    unit: str = "short"
    width: int = 12
    calls: str | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    uid: str
    title: str
    help: str
    rows: tuple[Row, ...]


def by_labels(*labels: str) -> str:
    """A legend."""
    return " · ".join(f"{{{{{label}}}}}" for label in labels)


def of_label(*labels: str) -> str:
    """A filter of /calls by the labels of the series that was clicked."""
    return "&".join(f"{label}=${{__field.labels.{label}}}" for label in labels)
