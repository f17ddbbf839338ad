"""Exemplars: which call stands at which bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from telbridge.ops import catalogue as the
from telbridge.ops.exemplars import Exemplars, Worst

GAP, WHERE = the.TURN_GAP, ("sip", "deepgram")
CALL = {"call_id": "c0ffee", "trace_id": "0af7651916cd43dd8448eb211c80319c"}


class Page:
    """A histogram of the catalogue, served with exemplars."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.exemplars = Exemplars(clock=lambda: 1_800_000_000.0)
        self.histogram = Histogram(
            f"telbridge_{GAP.name}", GAP.help, GAP.labels, buckets=GAP.buckets, registry=self._registry
        )

    def collect(self) -> list[object]:
        return list(self.exemplars.put_to(self._registry.collect()))

    def found(self) -> dict[str, tuple[dict[str, str], float]]:
        """By the bucket's `le`."""
        (family,) = text_string_to_metric_families(openmetrics(self).decode())  # type: ignore[arg-type]
        return {
            sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value)
            for sample in family.samples
            if sample.exemplar is not None
        }


@given(st.floats(0, 100, allow_nan=False))
def test_an_observation_stands_at_the_bucket_that_it_is_in(value: float) -> None:
    page = Page()
    page.histogram.labels(*WHERE).observe(value)
    page.exemplars.note(CALL, [(GAP.name, WHERE, value)])
    ((le, (labels, seen)),) = page.found().items()
    assert labels == CALL and seen == value
    lower = [bound for bound in GAP.buckets if bound < float(le)]
    assert value <= float(le) and all(value > bound for bound in lower)


def test_the_last_call_of_a_bucket_stands_there_and_the_text_format_goes_without() -> None:
    page = Page()
    for call_id, value in (("c1", 0.65), ("c2", 0.66), ("c3", 4.0)):
        page.histogram.labels(*WHERE).observe(value)
        page.exemplars.note({"call_id": call_id}, [(GAP.name, WHERE, value)])
    assert {le: labels["call_id"] for le, (labels, _) in page.found().items()} == {"0.7": "c2", "5.0": "c3"}
    assert b"c3" not in generate_latest(page)  # type: ignore[arg-type]


def test_what_a_worker_of_another_version_tells_besides_is_nothing_to_us() -> None:
    page = Page()
    page.histogram.labels(*WHERE).observe(0.5)
    page.exemplars.note(CALL, [("patience_seconds", ("sip",), 1.0), (GAP.name, ("sip",), 1.0)])
    assert page.found() == {}


def test_of_a_call_the_worst_is_told() -> None:
    worst = Worst()
    for gap_s, mos in ((0.5, 4.4), (2.5, 3.1), (1.0, 4.0)):
        worst.see(GAP, WHERE, gap_s)
        worst.see(the.MOS_OF_CALLS, ("sip", "", "sent"), mos)
    assert sorted(worst.told()) == [("mos", ("sip", "", "sent"), 3.1), ("turn_gap_seconds", WHERE, 2.5)]
