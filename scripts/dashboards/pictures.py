"""Draws docs/dashboard-*.png from what a real Prometheus answered, with matplotlib (extra interop):

    TELBRIDGE_DASHBOARD_DATA=answers.json .venv-interop/bin/python -m pytest tests/interop/test_grafana.py
    .venv-interop/bin/python -m scripts.dashboards.pictures answers.json

Grafana's layout and our data; not Grafana's looks.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
UNIT: Final = {"s": "s", "percentunit": "share", "ppm": "ppm"}
MOST_NAMES: Final = 6

Answer = dict[str, Any]


def draw(board: str, answers: list[Answer]) -> None:
    """One picture, each panel where Grafana has it."""
    panels: dict[int, list[Answer]] = {}
    for answer in answers:
        panels.setdefault(answer["panel"]["id"], []).append(answer)
    first = min(time for a in answers for s in a["series"] for time, _ in s["values"])
    height = max(a["panel"]["gridPos"]["y"] + a["panel"]["gridPos"]["h"] for a in answers)
    figure = Figure(figsize=(11, height * 0.28), dpi=80)
    for of_panel in panels.values():
        at = of_panel[0]["panel"]["gridPos"]
        below, rows = height - at["y"] - at["h"] + 1, at["h"] - 2
        axes = figure.add_axes((at["x"] / 24 + 0.04, below / height, at["w"] / 24 - 0.05, rows / height))
        _panel(axes, of_panel, first)
    figure.savefig(DOCS / f"dashboard-{board.removeprefix('telbridge-')}.png")


def _panel(axes: Any, answers: list[Answer], first: float) -> None:
    panel = answers[0]["panel"]
    axes.set_title(panel["title"], fontsize=8, loc="left")
    axes.tick_params(labelsize=6)
    match panel["type"]:
        case "stat":
            _figure(axes, answers, panel)
        case "heatmap":
            _heat(axes, answers[0]["series"], first)
        case _:
            _lines(axes, answers, first)
            axes.set_ylabel(UNIT.get(panel["fieldConfig"]["defaults"]["unit"], ""), fontsize=6)


def _figure(axes: Any, answers: list[Answer], panel: dict[str, Any]) -> None:
    axes.axis("off")
    series = answers[0]["series"]
    value = _points(series[0], 0.0)[1][-1] if series else math.nan
    unit = UNIT.get(panel["fieldConfig"]["defaults"]["unit"], "")
    axes.text(0.0, 0.3, f"{value:.3g} {unit}" if unit else f"{value:.0f}", fontsize=16)


def _lines(axes: Any, answers: list[Answer], first: float) -> None:
    stacked = (
        answers[0]["panel"]["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    )
    drawn = [(_name(a, s), *_points(s, first)) for a in answers for s in a["series"]]
    if stacked:
        times = sorted({time for _, at, _ in drawn for time in at})
        rows = [
            [dict(zip(at, values, strict=True)).get(time, 0.0) for time in times] for _, at, values in drawn
        ]
        if rows:
            axes.stackplot(times, rows, labels=[name for name, *_ in drawn], alpha=0.7)
    else:
        for name, at, values in drawn:
            axes.plot(at, values, label=name, linewidth=1, marker="." if len(at) < 3 else None)
    axes.set_ylim(bottom=0)
    if 0 < len(drawn) <= MOST_NAMES and any(name for name, *_ in drawn):
        axes.legend(fontsize=5, loc="best")


def _heat(axes: Any, series: list[dict[str, Any]], first: float) -> None:
    """From cumulative buckets to how many are in each."""
    ordered = sorted(series, key=lambda each: float(each["metric"]["le"]))
    times = sorted({time - first for each in ordered for time, _ in each["values"]})
    below = [0.0] * len(times)
    rows = []
    for each in ordered:
        at = dict(zip(*_points(each, first), strict=True))
        counts = [at.get(time, 0.0) for time in times]
        rows.append([max(0.0, count - less) for count, less in zip(counts, below, strict=True)])
        below = counts
    axes.imshow(rows, aspect="auto", origin="lower", cmap="turbo", extent=(times[0], times[-1], 0, len(rows)))
    axes.set_yticks(range(1, len(rows) + 1), [each["metric"]["le"] for each in ordered], fontsize=4)


def _points(series: dict[str, Any], first: float) -> tuple[list[float], list[float]]:
    points = [(time - first, float(value)) for time, value in series["values"]]
    finite = [point for point in points if math.isfinite(point[1])]
    return [time for time, _ in finite], [value for _, value in finite]


def _name(answer: Answer, series: dict[str, Any]) -> str:
    legend = next(t["legendFormat"] for t in answer["panel"]["targets"] if t["expr"] == answer["expr"])
    for label, value in series["metric"].items():
        legend = legend.replace("{{" + label + "}}", value)
    return str(legend)


if __name__ == "__main__":
    everything = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for name in dict.fromkeys(answer["board"] for answer in everything):
        draw(name, [answer for answer in everything if answer["board"] == name])
