"""One measured figure and its target; percentiles; the table and the file they end in."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from telbridge.compiled import is_compiled

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and whether it is as good as we say."""

    name: str
    value: float
    unit: str
    target: str = ""
    """As a person reads it; empty for what is only told."""
    ok: bool = True


def at_most(name: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(name, value, unit, f"≤ {limit:g}", value <= limit)


def at_least(name: str, value: float, limit: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, f"≥ {limit:g}", value >= limit)


def exactly(name: str, value: float, wanted: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, f"= {wanted:g}", value == wanted)


def told(name: str, value: float, unit: str) -> Figure:
    """Without a target: what helps to read the others."""
    return Figure(name, value, unit)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank, so that it is one of the values; infinite without any: nothing was measured."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "measured", "target", "")
    for figure in figures:
        verdict = "" if not figure.target else "[green]ok" if figure.ok else "[bold red]MISSED"
        table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}", figure.target, verdict)
    Console(width=None if os.environ.get("COLUMNS") else 110).print(table)


def store(figures: Sequence[Figure], sections: Sequence[str]) -> Path:
    """One JSON file a run, under RESULTS, named by its time (UTC)."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    run = {
        "ended_at": now.isoformat(timespec="seconds"),
        "sections": list(sections),
        "machine": machine(),
        "figures": [asdict(figure) | {"value": _finite(figure.value)} for figure in figures],
    }
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def machine() -> dict[str, Any]:
    """What the figures depend on. `load_1min` holds what ran here besides, and the run itself."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiled": is_compiled(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _number(value: float) -> str:
    if value == int(value) if math.isfinite(value) else False:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _finite(value: float) -> float | None:
    """JSON has no infinity; null says that there was nothing to measure."""
    return round(value, 4) if math.isfinite(value) else None
