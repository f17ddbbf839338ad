"""The rungs of a load as pictures. matplotlib draws them where it is (`pip install 'telbridge[bench]'`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.load import Rung

KINDS: Final = ("png", "svg")
PANELS: Final[Sequence[tuple[str, str, tuple[str, ...]]]] = (
    ("CPU a call", "% of a core", ("cpu", "cpu_all")),
    ("CPU as a multiple of the floor", "×", ("multiple",)),
    ("added latency", "ms", ("added_p50_ms", "added_p95_ms", "added_p99_ms")),
    ("gap between packets, p99", "ms", ("gap_p99_ms", "load_gap_p99_ms")),
    ("memory a call", "MB", ("memory_mb",)),
    ("set-up", "ms", ("setup_p50_ms", "setup_p95_ms")),
)


def draw(rungs: Sequence[Rung], path: Path) -> list[str]:
    """One picture a telephone side and format, `path`-SIDE.png; a line for each, or one that says why not."""
    try:
        import matplotlib
    except ImportError:
        return ["no plots: matplotlib is missing; pip install 'telbridge[bench]'"]
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = []
    for side in dict.fromkeys(rung.side for rung in rungs):
        figure, axes = pyplot.subplots(2, 3, figsize=(15, 8), layout="constrained")
        figure.suptitle(f"{side}: one core; crosses were not clean")
        ours = [rung for rung in rungs if rung.side == side]
        for panel, axis in zip(PANELS, axes.flat, strict=True):
            _panel(axis, ours, *panel)
        for kind in KINDS:
            file = path.with_name(f"{path.name}-{side}.{kind}")
            figure.savefig(file)
            lines.append(f"drawn in {file}")
        pyplot.close(figure)
    return lines


def _panel(axis: Any, rungs: Sequence[Rung], title: str, unit: str, fields: Sequence[str]) -> None:
    axis.set_title(title)
    axis.set_xlabel("calls")
    axis.set_ylabel(unit)
    for brain in dict.fromkeys(rung.brain for rung in rungs):
        for field in fields:
            points = points_of(rungs, brain, field)
            if points:
                label = f"{brain} {field.removesuffix('_ms').removesuffix('_mb')}"
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    for field in fields:
        bad = [(r.calls, y) for r in rungs if r.verdict != "clean" and (y := getattr(r, field)) is not None]
        axis.plot([x for x, _ in bad], [y for _, y in bad], "x", color="red")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small")


def points_of(rungs: Sequence[Rung], brain: str, field: str) -> list[tuple[int, float]]:
    """By number of calls; of a rung that was measured twice the later."""
    found = {
        rung.calls: value
        for rung in rungs
        if rung.brain == brain and (value := getattr(rung, field)) is not None
    }
    return sorted(found.items())
