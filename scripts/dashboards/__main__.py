"""Writes grafana/dashboards/ from the boards; `--check` only compares. Needs grafana-foundation-sdk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from scripts.dashboards import agents, conversation, line, overview, workers
from scripts.dashboards.model import Board, Panel, Query
from scripts.dashboards.promql import FILTERS
from telbridge.ops import catalogue as the

FOLDER: Final = Path(__file__).parent.parent.parent / "grafana" / "dashboards"
BOARDS: Final = (overview.BOARD, conversation.BOARD, line.BOARD, agents.BOARD, workers.BOARD)
TAG: Final = "telbridge"
SOURCE: Final = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
VALUES: Final = {
    "instance": the.WORKERS,
    "ingress": the.CALLS_OFFERED,
    "trunk": the.CALLS_OFFERED,
    "dialplan": the.CALLS_ANSWERED,
    "agent": the.CALLS_ANSWERED,
}
"""Where the values of a template variable come from."""
HEIGHT: Final = {"figure": 4, "lines": 8, "stack": 8, "heat": 8}
WHEN: Final = "since=${__from:date:iso}&before=${__to:date:iso}"
_Built = stat.Panel | timeseries.Panel | heatmap.Panel


def files() -> Iterator[tuple[Path, str]]:
    """Every dashboard's file, and what ought to stand in it."""
    for board in BOARDS:
        raw = json.loads(JSONEncoder(sort_keys=True).encode(_board(board).build()))
        yield (
            FOLDER / f"{board.uid}.json",
            json.dumps(raw, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        )


def _board(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.help)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .link(_boards_link())
        .link(_calls_link())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name in FILTERS:
        made.with_variable(_variable(name))
    made.with_variable(
        dashboard.TextBoxVariable("admin").label("Admin port").default_value("http://127.0.0.1:8081")
    )
    ids = count(1)
    for row in board.rows:
        made.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel in row.panels:
            made.with_panel(_panel(panel).id(next(ids)))
    return made


def _variable(name: str) -> dashboard.QueryVariable:
    """All of them, the empty label too, unless somebody chooses."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .query(f"label_values({VALUES[name].full_name}, {name})")
        .datasource(SOURCE)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(d.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _boards_link() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("telbridge")
        .type(d.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _calls_link() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Calls")
        .type(d.DashboardLinkType.LINK)
        .icon("external link")
        .url(f"${{admin}}/calls?{WHEN}")
        .target_blank(True)
    )


def _panel(panel: Panel) -> _Built:
    match panel.kind:
        case "figure":
            made: _Built = _figure()
        case "heat":
            made = _heat(panel)
        case "lines" | "stack":
            made = _lines(panel)
    made.title(panel.title).description(panel.help).unit(panel.unit).datasource(SOURCE)
    made.span(panel.width).height(HEIGHT[panel.kind])
    if panel.limits is not None:
        made.thresholds(_limits(*panel.limits))
    if panel.calls is not None:
        made.data_links([_calls(panel.calls)])
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        made.with_target(_target(letter, query, panel.kind == "heat"))
    return made


def _figure() -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(last).color_mode(c.BigValueColorMode.VALUE)


def _heat(panel: Panel) -> heatmap.Panel:
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
    return heatmap.Panel().calculate(False).color(color).y_axis(heatmap.YAxisConfig().unit(panel.unit))


def _lines(panel: Panel) -> timeseries.Panel:
    """The legend below and the tooltip with all series: a phone has no room at the side."""
    legend = (
        common.VizLegendOptions().display_mode(c.LegendDisplayMode.LIST).placement(c.LegendPlacement.BOTTOM)
    )
    made = timeseries.Panel().legend(legend.show_legend(True)).min(0).span_nulls(False)
    made.tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
    if panel.kind == "stack":
        made.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL)).fill_opacity(30)
    if panel.limits is not None:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    return made


def _limits(orange: float, red: float) -> dashboard.ThresholdsConfig:
    steps = [d.Threshold(None, "green"), d.Threshold(orange, "orange"), d.Threshold(red, "red")]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(steps)


def _calls(filters: str) -> dashboard.DashboardLink:
    """From a point to the calls behind it."""
    where = "&".join(part for part in (filters, "" if "live=1" in filters else WHEN) if part)
    return dashboard.DashboardLink("Calls behind this").url(f"${{admin}}/calls?{where}").target_blank(True)


def _target(letter: str, query: Query, heat: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
    over_time = "$__rate_interval" in query.expr or "$__range" not in query.expr
    made = made.range() if over_time else made.instant()
    if over_time and "histogram_quantile" in query.expr:
        made = made.exemplar(True)
    return made.format(PromQueryFormat.HEATMAP if heat else PromQueryFormat.TIME_SERIES)


def main() -> int:
    made = dict(files())
    if "--check" in sys.argv:
        stale = [
            path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text
        ]
        strays = [path.name for path in FOLDER.glob("*.json") if path not in made]
        if stale or strays:
            print(f"not what the code makes: {', '.join(stale + strays)}; run make grafana", file=sys.stderr)
        return int(bool(stale or strays))
    for path, text in made.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
