"""What the metrics say of a call, and that their names and labels are as they should be."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import CallFacts, Ending, LegQuality, ReplyId
from telbridge.call.playout import PlayoutTotals
from telbridge.call.quality import mos
from telbridge.call.summary import CallerVoice, CallSummary, Marks
from telbridge.call.taping import Recording
from telbridge.call.turns import Interruption, ToolTime, Turn
from telbridge.dialplan.counting import bounds_of
from telbridge.dialplan.model import Dialplan
from telbridge.ops import catalogue
from telbridge.ops.metrics import FAULTS, MOST_FIGURES, CallMetrics, Metrics

NUMBER = "+4930555"
FACTS = CallFacts("c0ffee", "sip", NUMBER, "100", "192.0.2.1:5060", PCMU_8K, trunk="carrier")
ANSWERED = Turn(
    "deepgram",
    voice_ended_ms=2000,
    uplink_sent_ms=2001,
    caller_stopped_ms=2300,
    agent_first_audio_ms=2800,
    agent_first_frame_ms=2815,
    agent_on_wire_ms=2816,
    server_latency_ms={"total_latency": 480.0},
    tools=[ToolTime("look_up", 2310, 150)],
    interruption=Interruption(at_ms=5000, onset_ms=4750, stop_ms=20, discarded_ms=1500, false=True),
    replies=[ReplyId(1)],
)
INTERRUPTED = Turn("deepgram", agent_over_caller_ms=700, missed_interruptions=2)
DIALPLAN = """
greeting = "Hello."
keys.1 = { metric = "orders", labels.kind = "pizza" }
keys.2 = { metric = "orders", labels.kind = "{{ 'pasta' if caller else 'salad' }}" }
keys.3 = { metric = "orders", labels.kind = "{{ caller }}" }
keys.4 = { metric = "places", labels.where = "{{ context }}", labels.job = "x" }
contexts.shop = {}
"""


def a_summary(**changes: Any) -> CallSummary:
    summary = CallSummary(
        facts=FACTS,
        ending=Ending.CALLER_HUNG_UP,
        detail="",
        duration_ms=30_000,
        answered_ms=500,
        session_ready_ms=400,
        turns=[ANSWERED, INTERRUPTED],
        playout=PlayoutTotals(
            heard_samples=80_000,
            discarded_samples=12_000,
            underruns=2,
            underrun_frames=5,
            most_queued_samples=16_000,
        ),
        rate_hz=8000,
        quality=LegQuality("pcmu", 990, 10, 0, 2.0, 1000, 0, 1.0, 40.0, 3, 60.0, -12.0),
        uplink_dropped_ms=200,
        dtmf_count=1,
        session_losses=1,
        dialplan="desk",
        dialplan_version="v1",
        marks=Marks(),
        agent="deepgram",
        first_sound_ms=900,
        recording=Recording("/recordings/c0ffee.wav", 500.0, lost_ms=1_500),
        voice=CallerVoice(29_500, 9_000, 1_000, 40),
        faults=Counter(unknown_message=3),
    )
    for name, value in changes.items():
        setattr(summary, name, value)
    return summary


class Scene:
    """The metrics of a worker and one call's."""

    def __init__(self, dialplan: str = DIALPLAN) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        bounds = bounds_of(Dialplan.model_validate(tomllib.loads(dialplan)))
        self.call: CallMetrics = self.metrics.call(FACTS, "desk", "deepgram", bounds)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"telbridge_{name}", labels)

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def everything() -> Scene:
    """A call in which all happened that is counted."""
    scene = Scene()
    scene.metrics.offered("sip", "carrier")
    scene.metrics.rejected("sip", "no_dialplan")
    scene.metrics.loop_lag.observe(0.001)
    call = scene.call
    call.answered()
    call.session_ready("deepgram", 120, 80)
    call.session_lost("deepgram")
    call.key("rfc4733")
    call.ordered("say")
    call.failed("webhook")
    call.asked("webhook", 35, failed=True)
    call.counted("orders", 1, {"kind": "pizza"})
    for turn in (ANSWERED, INTERRUPTED):
        call.turn_over(turn)
    call.ended(a_summary())
    call.ended(a_summary(voice=CallerVoice(29_500, 0, 29_500, 0)))
    call.closed()
    return scene


def test_a_turn_is_counted_with_its_parts() -> None:
    scene = everything()
    where = {"ingress": "sip", "agent": "deepgram"}
    assert scene.value("turn_gap_seconds_sum", **where) == pytest.approx(0.816)
    sums = {
        part: scene.value(f"turn_{part}_seconds_sum", **where)
        for part in ("uplink", "end_of_turn", "first_audio", "downlink", "wire")
    }
    assert sums == pytest.approx(
        {"uplink": 0.001, "end_of_turn": 0.299, "first_audio": 0.5, "downlink": 0.015, "wire": 0.001}
    )
    assert scene.value("bridge_latency_seconds_sum", ingress="sip", direction="down") == pytest.approx(0.016)
    assert scene.value("barge_in_detect_seconds_sum", **where) == pytest.approx(0.25)
    assert scene.value("talk_over_seconds_sum", **where) == pytest.approx(0.27)
    assert scene.value("agent_audio_discarded_seconds_total", **where) == pytest.approx(1.5)
    assert scene.value("barge_ins_missed_total", **where) == 2
    assert scene.value("agent_interruptions_total", **where) == 1
    assert scene.value(
        "server_latency_seconds_sum", agent="deepgram", figure="total_latency"
    ) == pytest.approx(0.48)


def test_a_call_is_counted_when_it_is_over() -> None:
    scene = everything()
    whole = {"ingress": "sip", "trunk": "carrier", "dialplan": "desk", "agent": "deepgram"}
    assert scene.value("calls_ended_total", **whole, ending="caller_hung_up") == 2
    assert scene.value("calls_live", **whole) == 0
    assert scene.value("answer_to_audio_seconds_sum", ingress="sip", agent="deepgram") == pytest.approx(0.8)
    assert scene.value("calls_one_way_suspected_total", ingress="sip", trunk="carrier", direction="up") == 1
    assert scene.value("rtp_packets_lost_total", ingress="sip", direction="received") == 20
    assert scene.value("rtp_loss_ratio_sum", ingress="sip", trunk="carrier", direction="received") == 0.02
    assert scene.value("clock_drift_ppm_sum", ingress="sip") == 24
    assert scene.value("caller_audio_seconds_total", ingress="sip", kind="voiced") == 9
    assert scene.value("recordings_total", ingress="sip", result="gaps") == 2
    assert scene.value("recording_lost_seconds_total", ingress="sip") == 3


def test_counters_of_calls_that_may_come_are_there_before_the_first_of_them() -> None:
    """So that increase() and alerts see the first of their events, too."""
    registry = CollectorRegistry()
    Metrics(registry).expect("sip", "carrier", "desk", "deepgram")
    before = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert set(before.values()) == {0}
    scene = everything()
    after = {
        (sample.name, *sorted(sample.labels.items()))
        for family in scene.registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    unexpected = {name for name, *labels in after - set(before)}
    assert unexpected <= {
        "telbridge_dialplan_actions_total",
        "telbridge_dialplan_events_total",
        "telbridge_caller_audio_seconds_total",
    }, "never alerted on; their labels are of no known set, or they grow all the time"


def test_faults_are_of_a_known_set() -> None:
    """Whatever a call complains of begins at 0."""
    files = (Path(__file__).parent.parent / "telbridge" / "call").glob("*.py")
    text = "".join(file.read_text("utf-8") for file in files)
    assert set(re.findall(r"\.fault\(\s*\"(\w+)\"", text)) == set(FAULTS)


def test_every_metric_of_the_catalogue_is_there_after_a_call_in_which_all_happened() -> None:
    text = everything().text
    for metric in chain.from_iterable(section.metrics for section in catalogue.SECTIONS):
        if metric not in catalogue.OF_SUPERVISOR:
            assert re.search(rf"^{metric.full_name}(_count)?[{{ ]", text, re.MULTILINE), metric.full_name


def test_names_units_and_buckets_are_as_prometheus_wants_them() -> None:
    metrics = list(chain.from_iterable(section.metrics for section in catalogue.SECTIONS))
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_ms"))
        assert metric.help.endswith(".")
        if metric.kind == "histogram":
            assert list(metric.buckets) == sorted(set(metric.buckets))
            assert metric.name.endswith(("_seconds", "_ratio", "_ppm", "mos"))
        if metric.name.endswith("_seconds") and metric.kind == "histogram" and "server" not in metric.name:
            assert (
                "->" in metric.help
                or "wait" in metric.help
                or "round trip" in metric.help.lower()
                or ("jitter" in metric.help)
            ), f"{metric.name} names no clock points"


def test_no_label_ever_holds_what_is_a_callers_own() -> None:
    scene = everything()
    scene.call.counted("orders", 1, {"kind": NUMBER})
    scene.call.counted("unheard", 1, {"of": NUMBER})
    for private in (NUMBER, FACTS.call_id, FACTS.peer, FACTS.called):
        assert f'"{private}"' not in scene.text
        assert f'"{private.removeprefix("+")}"' not in scene.text


@pytest.mark.parametrize(
    ("labels", "counted"),
    [
        ({"kind": "pizza"}, {"kind": "pizza"}),
        ({"kind": "pasta"}, {"kind": "pasta"}),
        ({"kind": NUMBER}, {"kind": "other"}),
    ],
)
def test_what_a_dialplan_counts_has_the_labels_that_stand_in_it(
    labels: dict[str, str], counted: dict[str, str]
) -> None:
    scene = Scene()
    scene.call.counted("orders", 2, labels)
    assert scene.value("dialplan_events_total", dialplan="desk", metric="orders", **counted) == 2


def test_a_place_in_the_dialplan_is_a_label_and_one_of_prometheus_own_gets_another_name() -> None:
    scene = Scene()
    scene.call.counted("places", 1, {"where": "shop", "job": "x"})
    counted = {"metric": "places", "where": "shop", "exported_job": "x"}
    assert scene.value("dialplan_events_total", dialplan="desk", **counted) == 1


def test_a_server_cannot_invent_labels_without_end() -> None:
    scene = Scene()
    for number in range(MOST_FIGURES + 10):
        scene.call.turn_over(Turn("deepgram", server_latency_ms={f"figure_{number}": 1.0}))
    assert scene.value("server_latency_seconds_count", agent="deepgram", figure="other") == 10


@pytest.mark.parametrize(
    ("loss_percent", "one_way_ms", "score"),
    # R of 93.2, 90, 80, 70 and 50 by the table of G.107 annex B.
    [(0, 0, 4.41), (0, 133.3, 4.34), (4.04, 0, 4.03), (8.1, 0, 3.60), (20.94, 0, 2.58), (50, 800, 1.0)],
)
def test_mos_is_that_of_the_e_model(loss_percent: float, one_way_ms: float, score: float) -> None:
    assert mos(loss_percent, one_way_ms) == pytest.approx(score, abs=0.015)
