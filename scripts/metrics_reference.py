"""Writes the reference of docs/metrics.md from the catalogue; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from telbridge.ops.catalogue import SECTIONS, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
BEGIN = (
    "<!-- reference: made from the code by scripts/metrics_reference.py; a test holds the two together -->\n"
)
END = "<!-- end of the reference -->\n"


def page() -> str:
    """The whole page."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + BEGIN + "".join(_reference()) + END + rest.partition(END)[2]


def _reference() -> Iterator[str]:
    yield "## Reference\n\n`A → B`: the interval between two clock points.\n"
    for section in SECTIONS:
        yield f"\n### {section.title}\n\n| metric | labels | meaning |\n|---|---|---|\n"
        for metric in section.metrics:
            yield f"| `{metric.full_name}` | {_labels(metric)} | {_meaning(metric)} |\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "–"


def _meaning(metric: Metric) -> str:
    """With the kind where the name does not tell it."""
    kind = "" if metric.kind == "counter" else f" ({metric.kind})"
    return metric.help.replace("->", "→").replace("|", "\\|") + kind


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
