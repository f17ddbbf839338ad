"""Counts what happens in a worker for Prometheus. Nothing of it is touched for a frame.

A worker that runs with PROMETHEUS_MULTIPROC_DIR set writes its figures into that directory, from which the
supervisor serves those of all workers; without it they stay in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from telbridge.call.events import CallFacts, Ending, LegQuality
from telbridge.call.observer import Nobody
from telbridge.call.quality import mos_received, mos_sent
from telbridge.call.summary import CallSummary
from telbridge.call.taping import RESULTS
from telbridge.call.turns import Turn
from telbridge.dialplan.actions import ACTIONS
from telbridge.dialplan.counting import Bounds
from telbridge.ops import catalogue as the
from telbridge.ops.catalogue import Metric
from telbridge.ops.exemplars import Worst

OTHER: Final = "other"
MOST_FIGURES: Final = 24
"""Names of server-reported latencies: they are the vendors', and a broken server must not invent more."""
ONE_WAY_AFTER_MS: Final = 10_000
PARTS: Final = {
    "uplink": the.TURN_UPLINK,
    "end_of_turn": the.TURN_END_OF_TURN,
    "first_audio": the.TURN_FIRST_AUDIO,
    "downlink": the.TURN_DOWNLINK,
    "wire": the.TURN_WIRE,
}
FAULTS: Final = (
    "agent_error",
    "agent_warning",
    "bad_message",
    "reply_failed",
    "unknown_message",
    "unknown_tool",
    "update_refused",
)
"""What there may be in a call's `faults`."""
KEYS: Final = {"sip": ("rfc4733", "info", "inband"), "ari": ("ari",)}
"""How keys come; over a media stream as its messages."""
REFUSED: Final = {
    Ending.DRAINED: "draining",
    Ending.DIALPLAN_HUNG_UP: "dialplan",
}
"""Endings of calls that were never answered because we did not want to."""
APART: Final = (Ending.NO_DIALPLAN, Ending.WORKER_DIED)
"""Endings that are counted otherwise: as rejected, and not at all."""
OF_AGENTS: Final = (
    the.DISCARDED,
    the.HEARD,
    the.FALSE_BARGE_INS,
    the.AGENT_INTERRUPTIONS,
    the.MISSED_BARGE_INS,
    the.UNDERRUNS,
    the.UNDERRUN_SECONDS,
)
"""Counters by kind of leg and agent API."""


def choose_place() -> None:
    """By the environment of now: prometheus-client has looked at it when it was imported, which may have been
    in the process that this one was forked from."""
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


class Metrics:
    """One a worker."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """`registry`: where the figures are kept, None in a process whose figures another one serves."""
        self._registry = registry
        self._families = {
            metric.name: self._made(metric)
            for section in the.SECTIONS
            for metric in section.metrics
            if metric not in the.OF_SUPERVISOR and metric is not the.DIALPLAN_EVENTS
        }
        self._children: dict[tuple[str, ...], Any] = {}
        self._events: dict[tuple[str, ...], Counter] = {}
        self._expected: set[tuple[str, ...]] = set()
        self._figures: set[str] = set()
        self.loop_lag: Final[Histogram] = self._families[the.LOOP_LAG.name]

    def of(self, metric: Metric, *labels: str) -> Any:
        """A family's child with these labels, in their order."""
        key = metric.name, *labels
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._families[metric.name].labels(*labels)
        return child

    def offered(self, ingress: str, trunk: str = "") -> None:
        self.of(the.CALLS_OFFERED, ingress, trunk).inc()

    def rejected(self, ingress: str, reason: str, count: int = 1) -> None:
        self.of(the.CALLS_REJECTED, ingress, reason).inc(count)

    def refused(self, ingress: str, reason: str, count: int) -> None:
        """Calls that were offered and never became any: a door was closed."""
        self.of(the.CALLS_OFFERED, ingress, "").inc(count)
        self.rejected(ingress, reason, count)

    def call(self, facts: CallFacts, dialplan: str, agent: str, bounds: Bounds) -> CallMetrics:
        """The observer of a call that begins. `bounds`: what its dialplan may count."""
        return CallMetrics(self, facts, dialplan, agent, bounds)

    def expect(self, ingress: str, trunk: str, dialplan: str, agent: str) -> None:
        """Calls of this kind may come: what is counted of them begins at 0. A counter that is born with its
        first event shows no increase, and an alert does not see it."""
        whole = ingress, trunk, dialplan, agent
        if whole in self._expected:
            return
        self._expected.add(whole)
        self._zero(the.CALLS_OFFERED, (ingress, trunk))
        self._zero(the.CALLS_REJECTED, *((ingress, why) for why in ("no_dialplan", *REFUSED.values())))
        self._zero(the.CALLS_ANSWERED, whole)
        self._zero(the.CALLS_ENDED, *((*whole, ending.value) for ending in Ending if ending not in APART))
        self._zero(the.DTMF, *((ingress, method) for method in KEYS.get(ingress, ("stream",))))
        self._zero(the.BARGE_INS, (ingress, agent, "api"), (ingress, agent, "local"))
        for metric in OF_AGENTS:
            self._zero(metric, (ingress, agent))
        for metric in (the.UPLINK_DROPPED, the.SESSION_LOSSES):
            self._zero(metric, (agent,))
        self._zero(the.SESSION_FAULTS, *((agent, kind) for kind in FAULTS))
        self._zero(the.DIALPLAN_FAILURES, *((dialplan, action) for action in (*ACTIONS, "tool", OTHER)))
        self._zero(the.ONE_WAY, (ingress, trunk, "up"), (ingress, trunk, "down"))
        for metric in (the.RTP_PACKETS, the.RTP_LOST):
            self._zero(metric, (ingress, "received"), (ingress, "sent"))
        for metric in (the.RTP_LATE, the.RTP_REORDERED, the.RECORDING_LOST):
            self._zero(metric, (ingress,))
        self._zero(the.RECORDINGS, *((ingress, result) for result in RESULTS))

    def _zero(self, metric: Metric, *children: tuple[str, ...]) -> None:
        for labels in children:
            self.of(metric, *labels)

    def event(self, dialplan: str, metric: str, labels: Mapping[str, str], add: float) -> None:
        """What a dialplan counts; `labels` are few and their values bounded."""
        names = tuple(sorted(labels))
        family = self._events.get(names)
        if family is None:
            family = self._events[names] = self._event_family(names)
        family.labels(dialplan, metric, *(labels[name] for name in names)).inc(add)

    def figure(self, name: str) -> str:
        """A vendor's name as a label."""
        if name not in self._figures:
            if len(self._figures) >= MOST_FIGURES:
                return OTHER
            self._figures.add(name)
        return name

    def _made(self, metric: Metric) -> Any:
        name = f"telbridge_{metric.name}"
        match metric.kind:
            case "counter":
                return Counter(name, metric.help, metric.labels, registry=self._registry)
            case "histogram":
                return Histogram(
                    name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry
                )
            case "gauge":
                return Gauge(
                    name, metric.help, metric.labels, registry=self._registry, multiprocess_mode="livesum"
                )

    def _event_family(self, names: tuple[str, ...]) -> Counter:
        """Samples of one family may have different labels; the client wants an object for each set of them,
        and a registry takes only one of that name."""
        metric = the.DIALPLAN_EVENTS
        labels = (*metric.labels, *names)
        registry = None if self._events else self._registry
        return Counter(f"telbridge_{metric.name}", metric.help, labels, registry=registry)


class CallMetrics(Nobody):
    """Implements `telbridge.call.observer.Observer` for one call."""

    def __init__(self, metrics: Metrics, facts: CallFacts, dialplan: str, agent: str, bounds: Bounds) -> None:
        self._metrics, self._bounds = metrics, bounds
        self._ingress, self._trunk, self._dialplan, self._agent = facts.ingress, facts.trunk, dialplan, agent
        metrics.expect(facts.ingress, facts.trunk, dialplan, agent)
        self._live = metrics.of(the.CALLS_LIVE, facts.ingress, facts.trunk, dialplan, agent)
        self._live.inc()
        self.worst: Final = Worst()

    def closed(self) -> None:
        """The call is over, however it went: call once."""
        self._live.dec()

    # ------------------------------------------------------------ while it runs

    def answered(self) -> None:
        self._count(the.CALLS_ANSWERED, self._ingress, self._trunk, self._dialplan, self._agent)

    def session_ready(self, agent: str, connect_ms: float, configure_ms: float) -> None:
        self._see(the.SESSION_CONNECT, connect_ms, agent)
        self._see(the.SESSION_CONFIGURE, configure_ms, agent)

    def session_lost(self, agent: str) -> None:
        self._count(the.SESSION_LOSSES, agent)

    def key(self, method: str) -> None:
        self._count(the.DTMF, self._ingress, method)

    def ordered(self, action: str) -> None:
        self._count(the.DIALPLAN_ACTIONS, self._dialplan, action)

    def failed(self, action: str) -> None:
        known = action if action in ACTIONS or action == "tool" else OTHER
        self._count(the.DIALPLAN_FAILURES, self._dialplan, known)

    def asked(self, what: str, took_ms: float, *, failed: bool) -> None:
        self._see(the.OUTSIDE, took_ms, what, "failed" if failed else "ok")

    def counted(self, metric: str, add: float, labels: Mapping[str, str]) -> None:
        self._metrics.event(self._dialplan, metric, self._bounds.bounded(metric, labels), add)

    def turn_over(self, turn: Turn) -> None:
        where = self._ingress, turn.agent
        if turn.gap_ms is not None:
            self._see(the.TURN_GAP, turn.gap_ms, *where)
            parts = turn.parts_ms
            for name, length_ms in parts.items():
                self._see(PARTS[name], length_ms, *where)
            if "uplink" in parts:
                self._see(the.BRIDGE, parts["uplink"], self._ingress, "up")
            if "downlink" in parts:
                self._see(the.BRIDGE, parts["downlink"] + parts["wire"], self._ingress, "down")
        for figure, length_ms in turn.server_latency_ms.items():
            self._see(the.SERVER_LATENCY, length_ms, turn.agent, self._metrics.figure(figure))
        for tool in turn.tools:
            self._see(the.TOOL, tool.took_ms, turn.agent)
        if turn.agent_over_caller_ms:
            self._count(the.AGENT_INTERRUPTIONS, *where)
        if turn.missed_interruptions:
            self._count(the.MISSED_BARGE_INS, *where, by=turn.missed_interruptions)
        if (cut := turn.interruption) is not None:
            self._count(the.BARGE_INS, *where, cut.by)
            self._count(the.DISCARDED, *where, by=cut.discarded_ms / 1000)
            self._see(the.BARGE_IN_STOP, cut.stop_ms, *where)
            if cut.by == "api":
                self._see(the.BARGE_IN_DETECT, cut.detect_ms, *where)
                self._see(the.TALK_OVER, cut.talk_over_ms, *where)

    # ------------------------------------------------------------ when it is over

    def ended(self, summary: CallSummary) -> None:
        """All that is only known now."""
        ingress, trunk, dialplan = self._ingress, self._trunk, self._dialplan
        where = ingress, self._agent
        self._count(the.CALLS_ENDED, ingress, trunk, dialplan, self._agent, summary.ending.value)
        self._see(the.CALL_SECONDS, summary.duration_ms, ingress, trunk, dialplan, self._agent)
        if summary.answered_ms is None and summary.ending in REFUSED:
            self._metrics.rejected(ingress, REFUSED[summary.ending])
        if summary.answered_ms is not None and summary.first_sound_ms is not None:
            self._see(the.ANSWER_TO_AUDIO, max(0.0, summary.first_sound_ms - summary.answered_ms), *where)
        for turn in summary.turns:
            if turn.interruption is not None and turn.interruption.false:
                self._count(the.FALSE_BARGE_INS, ingress, turn.agent)
        playout = summary.playout
        self._count(the.HEARD, *where, by=playout.heard_samples / summary.rate_hz)
        self._count(the.UNDERRUNS, *where, by=playout.underruns)
        self._count(the.UNDERRUN_SECONDS, *where, by=playout.underrun_frames * summary.frame_ms / 1000)
        self._see(the.PLAYOUT_DEPTH, playout.most_queued_samples * 1000 / summary.rate_hz, *where)
        self._count(the.UPLINK_DROPPED, self._agent, by=summary.uplink_dropped_ms / 1000)
        for kind, count in summary.faults.items():
            self._count(the.SESSION_FAULTS, self._agent, kind, by=count)
        self._caller(summary)
        if summary.quality is not None:
            self._rtp(summary.quality)
        if (recording := summary.recording) is not None:
            self._count(the.RECORDINGS, ingress, recording.result)
            self._count(the.RECORDING_LOST, ingress, by=recording.lost_ms / 1000)

    def _caller(self, summary: CallSummary) -> None:
        voice = summary.voice
        other_ms = voice.heard_ms - voice.voiced_ms - voice.silent_ms
        kinds = ("voiced", voice.voiced_ms), ("silent", voice.silent_ms), ("other", other_ms)
        for kind, length_ms in (*kinds, ("clipped", voice.clipped_ms)):
            self._count(the.CALLER_SECONDS, self._ingress, kind, by=length_ms / 1000)
        if summary.answered_ms is None or summary.duration_ms - summary.answered_ms < ONE_WAY_AFTER_MS:
            return
        if voice.silent_ms >= voice.heard_ms:
            self._count(the.ONE_WAY, self._ingress, self._trunk, "up")
        if not summary.playout.heard_samples and summary.first_sound_ms is None:
            self._count(the.ONE_WAY, self._ingress, self._trunk, "down")

    def _rtp(self, quality: LegQuality) -> None:
        ingress, trunk = self._ingress, self._trunk
        ways = (
            ("received", quality.rx_packets, quality.rx_lost, quality.rx_jitter_ms),
            ("sent", quality.tx_packets, quality.tx_lost, quality.tx_jitter_ms),
        )
        for direction, packets, lost, jitter_ms in ways:
            self._count(the.RTP_PACKETS, ingress, direction, by=packets)
            self._count(the.RTP_LOST, ingress, direction, by=lost)
            sent = packets + lost if direction == "received" else packets
            if sent:
                self._observe(the.RTP_LOSS, lost / sent, ingress, trunk, direction)
                self._see(the.RTP_JITTER, jitter_ms, ingress, trunk, direction)
        self._count(the.RTP_LATE, ingress, by=quality.rx_discarded)
        self._see(the.RTP_RTT, quality.rtt_ms, ingress, trunk)
        self._count(the.RTP_REORDERED, ingress, by=quality.rx_reordered)
        self._see(the.JITTER_BUFFER, quality.jitter_buffer_ms, ingress, trunk)
        for direction, score in (("received", mos_received(quality)), ("sent", mos_sent(quality))):
            if score is not None:
                self._observe(the.MOS_OF_CALLS, score, ingress, trunk, direction)
        if quality.drift_ppm is not None:
            self._observe(the.DRIFT, abs(quality.drift_ppm), ingress)

    def broke(self) -> None:
        """A bug of ours ended it: there is no summary."""
        ending = Ending.INTERNAL_ERROR.value
        self._count(the.CALLS_ENDED, self._ingress, self._trunk, self._dialplan, self._agent, ending)

    # ------------------------------------------------------------ small parts

    def _count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        child = self._metrics.of(metric, *labels)
        if by:
            child.inc(by)

    def _see(self, metric: Metric, length_ms: float | None, *labels: str) -> None:
        if length_ms is not None:
            self._observe(metric, length_ms / 1000, *labels)

    def _observe(self, metric: Metric, value: float, *labels: str) -> None:
        self._metrics.of(metric, *labels).observe(value)
        self.worst.see(metric, labels, value)
