"""The files of grafana/: made from the code, and every name in them is one of the catalogue's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telbridge.ops.asking import Wanted
from telbridge.ops.catalogue import SECTIONS, Metric
from telbridge.ops.verdict import FAILURES

ROOT = Path(__file__).parent.parent
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = (ROOT / "grafana" / "rules" / "telbridge.yml").read_text("utf-8")
METRICS = {metric.full_name: metric for section in SECTIONS for metric in section.metrics}
OF_PROMETHEUS = {"instance", "job"}
SELECTOR = re.compile(r"\btelbridge_\w+(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"(?:[^"\\]|\\.)*"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries() -> Iterator[Any]:
    for file in DASHBOARDS:
        for panel in panels(json.loads(file.read_text("utf-8"))):
            for target in panel["targets"]:
                name = f"{file.stem}-{panel['title']}-{target['refId']}"
                yield pytest.param(target["expr"], panel["type"] == "heatmap", id=name)


def metric_of(name: str) -> Metric:
    """Of a sample's name: a histogram has three."""
    if name in METRICS and METRICS[name].kind != "histogram":
        return METRICS[name]
    family, _, suffix = name.rpartition("_")
    assert suffix in ("bucket", "sum", "count"), f"no such metric: {name}"
    assert family in METRICS, f"no such metric: {family}"
    assert METRICS[family].kind == "histogram", f"no histogram: {family}"
    return METRICS[family]


def judge(expr: str) -> None:
    """Metrics, labels to choose and to group by, brackets, and that counters are looked at as rates."""
    selectors = list(SELECTOR.finditer(expr))
    assert selectors, f"asks no metric: {expr}"
    labels: set[str] = set(OF_PROMETHEUS)
    for selector in selectors:
        name = selector[0].partition("{")[0]
        metric = metric_of(name)
        has = {*metric.labels, *OF_PROMETHEUS, *(["le"] if name.endswith("_bucket") else [])}
        labels |= has
        chosen = selector[1] or ""
        rest = MATCHER.sub("", chosen).replace(",", "").strip()
        assert not rest, f"cannot be read: {{{chosen}}}"
        strange = {match[1] for match in MATCHER.finditer(chosen)} - has
        assert not strange, f"{name} has no label {strange}"
        if metric.kind != "gauge":
            after = expr[selector.end() :]
            assert after.startswith(("[", " unless ", " offset ")), f"no rate: {expr}"
    for grouping in GROUPING.finditer(expr):
        strange = {label.strip() for label in grouping[1].split(",")} - labels
        assert not strange, f"no metric here has a label {strange}: {expr}"
    assert [expr.count(bracket) for bracket in "({["] == [expr.count(bracket) for bracket in ")}]"], expr


@pytest.mark.parametrize(("expr", "heat"), list(queries()))
def test_a_query_asks_for_what_there_is(expr: str, heat: bool) -> None:
    judge(expr)
    assert not heat or "by (le)" in expr
    assert "histogram_quantile" not in expr or re.search(r"by \(le\b", expr)


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(telbridge_calls_living)",
        'sum(rate(telbridge_dtmf_digits_total{caller="x"}[5m]))',
        "sum by (trunk) (rate(telbridge_turn_gap_seconds_sum[5m]))",
        "sum(telbridge_dtmf_digits_total)",
        "sum(rate(telbridge_turn_gap_seconds[5m]))",
        "sum((telbridge_calls_live)",
    ],
)
def test_a_wrong_query_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        judge(wrong)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_whole(file: Path) -> None:
    dashboard = json.loads(file.read_text("utf-8"))
    assert dashboard["uid"] == file.stem
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"instance", "ingress", "trunk", "dialplan", "agent"} <= defined
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard)))
    assert used <= defined, "a variable that is not there"
    for panel in panels(dashboard):
        assert panel["description"], panel["title"]
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24, panel["title"]
    assert not list(_overlapping(dashboard["panels"]))


def _overlapping(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if (other := taken.setdefault((x, y), panel["title"])) is not panel["title"]:
                    yield panel["title"], other


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_links_ask_calls_for_filters_that_it_has(file: Path) -> None:
    """And only for labels that the panel's series have."""
    known = {*Wanted.__dataclass_fields__, "live"}
    for panel in panels(json.loads(file.read_text("utf-8"))):
        for link in panel["fieldConfig"]["defaults"].get("links", []):
            path, _, query = link["url"].partition("?")
            assert path == "${admin}/calls"
            assert {part.partition("=")[0] for part in query.split("&")} <= known, link["url"]
            for label in re.findall(r"\$\{__field\.labels\.(\w+)\}", query):
                for target in panel["targets"]:
                    grouped = {
                        name.strip() for each in GROUPING.findall(target["expr"]) for name in each.split(",")
                    }
                    assert label in grouped, f"{panel['title']}: series have no {label}"


def test_the_files_are_what_the_code_makes() -> None:
    pytest.importorskip(
        "grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed: extra test"
    )
    made = subprocess.run(
        [sys.executable, "-m", "scripts.dashboards", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr


def test_the_rules_ask_for_what_there_is() -> None:
    recorded = set(re.findall(r"- record: (\S+)", RULES))
    assert set(re.findall(r"\btelbridge:\w+:\w+", RULES)) == recorded, (
        "recorded and never read, or the reverse"
    )
    for expr in _expressions():
        if "telbridge_" in expr:
            judge(expr)


def _expressions() -> Iterator[str]:
    """By the file's own layout: one line, or folded lines that are further in."""
    for match in re.finditer(r"^( +)expr: (?:>-\n((?:\1 +.*\n)+)|(.*)\n)", RULES, re.MULTILINE):
        yield re.sub(r"\s+", " ", match[2] or match[3])


def test_every_alert_has_its_lines_in_the_runbook_and_its_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES)
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    tests = (ROOT / "grafana" / "rules" / "telbridge_test.yml").read_text("utf-8")
    sections = dict(re.findall(r"^## (\w+)\n((?:(?!## ).*\n)*)", runbook, re.MULTILINE))
    assert list(sections) == alerts
    for alert in alerts:
        assert f"docs/runbook.md#{alert.lower()}" in RULES
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", tests), f"{alert}: no test that it fires"
        for part in ("**Means:**", "**Look at:**", "**Do:**"):
            assert part in sections[alert], alert


def test_endings_that_count_as_failures_are_those_of_the_records() -> None:
    """A dashboard names the good ones, so that a new failure is never left out."""
    (good,) = {
        match
        for file in DASHBOARDS
        for match in re.findall(r'ending!~\\"([^"\\]+)\\"', file.read_text("utf-8"))
    }
    assert not set(good.split("|")) & set(FAILURES)
