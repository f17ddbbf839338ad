"""Every metric that there is: name, what it means, labels, buckets. docs/metrics.md is made from it.

The meaning of an interval names its two clock points: "A -> B". Labels come from closed sets: never a call's
id, a number, a text. What `ingress`, `agent`, `trunk` and `dialplan` may be is settled by the settings and
the dialplans that are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ANSWER_S: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
"""What a caller waits for: fine where conversation is good or bad, 0.2 to 1.5 s."""
BRIDGE_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)
"""Our own share: a frame is 20 ms."""
TALK_S: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
"""Around an interruption."""
SPEECH_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
CALL_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
SETUP_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
OUTSIDE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LOSS: Final = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
MOS: Final = (1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.4)
DRIFT_PPM: Final = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
UNDERRUNS_S: Final = (0.02, 0.04, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. A counter's name has no "_total" here: exposition adds it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return f"telbridge_{self.name}" + ("_total" if self.kind == "counter" else "")


class _Section:
    """Metrics that belong together, in their order."""

    def __init__(self, title: str) -> None:
        self.title: Final = title
        self.metrics: Final[list[Metric]] = []

    def counter(self, name: str, labels: str, help: str) -> Metric:
        return self._add(Metric(name, "counter", help, tuple(labels.split())))

    def gauge(self, name: str, labels: str, help: str) -> Metric:
        return self._add(Metric(name, "gauge", help, tuple(labels.split())))

    def histogram(self, name: str, labels: str, buckets: tuple[float, ...], help: str) -> Metric:
        return self._add(Metric(name, "histogram", help, tuple(labels.split()), buckets))

    def _add(self, metric: Metric) -> Metric:
        self.metrics.append(metric)
        return metric


_calls = _Section("Calls")
CALLS_OFFERED: Final = _calls.counter(
    "calls_offered",
    "ingress trunk",
    "Calls that came, answered or not, without those of strangers.",
)
CALLS_REJECTED: Final = _calls.counter(
    "calls_rejected",
    "ingress reason",
    "Calls that were refused before an answer.",
)
CALLS_ANSWERED: Final = _calls.counter(
    "calls_answered",
    "ingress trunk dialplan agent",
    "Calls that were answered.",
)
CALLS_ENDED: Final = _calls.counter(
    "calls_ended",
    "ingress trunk dialplan agent ending",
    "Calls that are over, by cause (`ending` of the record).",
)
CALLS_LIVE: Final = _calls.gauge("calls_live", "ingress trunk dialplan agent", "Calls that ring or talk now.")
CALL_SECONDS: Final = _calls.histogram(
    "call_duration_seconds",
    "ingress trunk dialplan agent",
    CALL_S,
    "The call arrives -> it is over.",
)
DTMF: Final = _calls.counter("dtmf_digits", "ingress method", "Keys that callers pressed.")

_latency = _Section("Latency")
TURN_GAP: Final = _latency.histogram(
    "turn_gap_seconds",
    "ingress agent",
    ANSWER_S,
    "The caller's last voiced frame arrives -> the first agent frame of the answer is on the wire.",
)
TURN_UPLINK: Final = _latency.histogram(
    "turn_uplink_seconds",
    "ingress agent",
    BRIDGE_S,
    "The caller's last voiced frame arrives -> it is handed to the agent's WebSocket.",
)
TURN_END_OF_TURN: Final = _latency.histogram(
    "turn_end_of_turn_seconds",
    "ingress agent",
    ANSWER_S,
    "The caller's last voiced frame is handed to the agent's WebSocket -> the API tells that the turn "
    "is over.",
)
TURN_FIRST_AUDIO: Final = _latency.histogram(
    "turn_first_audio_seconds",
    "ingress agent",
    ANSWER_S,
    "The API tells that the caller's turn is over -> first audio of the answer comes from the API. Of "
    "an API that does not tell, from the last voiced frame on.",
)
TURN_DOWNLINK: Final = _latency.histogram(
    "turn_downlink_seconds",
    "ingress agent",
    BRIDGE_S,
    "First audio of the answer comes from the API -> the tick at which the leg takes its first frame.",
)
TURN_WIRE: Final = _latency.histogram(
    "turn_wire_seconds",
    "ingress agent",
    BRIDGE_S,
    "The tick at which the leg takes the first frame of the answer -> that frame is handed over to be sent.",
)
BRIDGE: Final = _latency.histogram(
    "bridge_latency_seconds",
    "ingress direction",
    BRIDGE_S,
    "What we add to each turn; up: the caller's last voiced frame arrives -> it is handed to the "
    "agent's WebSocket; down: first audio of the answer comes from the API -> its first frame is on the "
    "wire.",
)
ANSWER_TO_AUDIO: Final = _latency.histogram(
    "answer_to_audio_seconds",
    "ingress agent",
    ANSWER_S,
    "The answer is acknowledged and media can flow -> the first frame with speech is on the wire, the "
    "agent's or our own.",
)
SESSION_CONNECT: Final = _latency.histogram(
    "session_connect_seconds",
    "agent",
    SETUP_S,
    "A session is asked for -> its WebSocket is open, with whatever HTTP its API wants before.",
)
SESSION_CONFIGURE: Final = _latency.histogram(
    "session_configure_seconds",
    "agent",
    SETUP_S,
    "A session's WebSocket is open -> its API acknowledged the configuration.",
)
TOOL: Final = _latency.histogram(
    "tool_call_seconds",
    "agent",
    OUTSIDE_S,
    "The agent asks for a tool -> its result is handed to the agent's WebSocket.",
)
SERVER_LATENCY: Final = _latency.histogram(
    "server_latency_seconds",
    "agent figure",
    ANSWER_S,
    "What an API reports of its own share in a turn; its clock points are its own.",
)

_cuts = _Section("Interruptions")
BARGE_INS: Final = _cuts.counter(
    "barge_ins",
    "ingress agent by",
    "The agent was heard and was cut; by: api, or local (a key, a dialplan).",
)
BARGE_IN_DETECT: Final = _cuts.histogram(
    "barge_in_detect_seconds",
    "ingress agent",
    TALK_S,
    "The first voiced frame of the caller arrives while the agent is heard -> the API's event comes.",
)
BARGE_IN_STOP: Final = _cuts.histogram(
    "barge_in_stop_seconds",
    "ingress agent",
    TALK_S,
    "The event that cuts the agent comes -> the last agent frame is handed to the leg.",
)
TALK_OVER: Final = _cuts.histogram(
    "talk_over_seconds",
    "ingress agent",
    TALK_S,
    "The first voiced frame of the caller arrives while the agent is heard -> the last agent frame is "
    "handed to the leg.",
)
DISCARDED: Final = _cuts.counter(
    "agent_audio_discarded_seconds",
    "ingress agent",
    "Agent audio that was thrown away unheard at interruptions.",
)
HEARD: Final = _cuts.counter(
    "agent_audio_heard_seconds",
    "ingress agent",
    "Agent audio that was handed to the leg.",
)
FALSE_BARGE_INS: Final = _cuts.counter(
    "barge_ins_false",
    "ingress agent",
    "Barge-ins after which the agent spoke again though nobody had said anything: no transcript came; in "
    "calls without transcripts, our own meter heard no voice.",
)
AGENT_INTERRUPTIONS: Final = _cuts.counter(
    "agent_interruptions",
    "ingress agent",
    "Answers that began while the caller spoke, who went on for 0.3 s and more.",
)
MISSED_BARGE_INS: Final = _cuts.counter(
    "barge_ins_missed",
    "ingress agent",
    "Caller and agent were heard together for 1.5 s and more, and no event came.",
)

_audio = _Section("Audio")
UNDERRUNS: Final = _audio.counter(
    "playout_underruns",
    "ingress agent",
    "Silences inside agent speech because it came too slowly.",
)
UNDERRUN_SECONDS: Final = _audio.counter(
    "playout_underrun_seconds",
    "ingress agent",
    "Their length, all together.",
)
PLAYOUT_DEPTH: Final = _audio.histogram(
    "playout_depth_seconds",
    "ingress agent",
    SPEECH_S,
    "Most agent speech that waited in a call.",
)
UPLINK_DROPPED: Final = _audio.counter(
    "uplink_dropped_seconds",
    "agent",
    "Caller audio thrown away because the agent's network fell behind.",
)
RTP_PACKETS: Final = _audio.counter(
    "rtp_packets",
    "ingress direction",
    "RTP packets, or audio messages of a media stream.",
)
RTP_LOST: Final = _audio.counter(
    "rtp_packets_lost",
    "ingress direction",
    "Of these, lost; sent ones by the peer's report (RFC 3550).",
)
RTP_LATE: Final = _audio.counter(
    "rtp_packets_discarded",
    "ingress",
    "Received too late or in vain for the jitter buffer.",
)
RTP_LOSS: Final = _audio.histogram(
    "rtp_loss_ratio",
    "ingress trunk direction",
    LOSS,
    "Part of a call's packets that was lost.",
)
RTP_JITTER: Final = _audio.histogram(
    "rtp_jitter_seconds",
    "ingress trunk direction",
    BRIDGE_S,
    "Interarrival jitter at the end of a call (RFC 3550 section 6.4.1).",
)
RTP_RTT: Final = _audio.histogram(
    "rtp_round_trip_seconds",
    "ingress trunk",
    BRIDGE_S,
    "Round trip to the peer (RTCP; media streams: a mark).",
)
RTP_REORDERED: Final = _audio.counter(
    "rtp_packets_reordered",
    "ingress",
    "Received RTP packets that came out of order.",
)
JITTER_BUFFER: Final = _audio.histogram(
    "jitter_buffer_delay_seconds",
    "ingress trunk",
    BRIDGE_S,
    "A received RTP packet enters the jitter buffer -> it is taken out; a call's average.",
)
MOS_OF_CALLS: Final = _audio.histogram(
    "mos",
    "ingress trunk direction",
    MOS,
    "Mean opinion score of a call by loss and delay (ITU-T G.107).",
)
DRIFT: Final = _audio.histogram(
    "clock_drift_ppm",
    "ingress",
    DRIFT_PPM,
    "How far a peer's clock is off ours, fast or slow; of calls that are long enough.",
)
CALLER_SECONDS: Final = _audio.counter(
    "caller_audio_seconds",
    "ingress kind",
    "Audio that came from callers; kind: voiced, silent (without the least noise), clipped, other.",
)
ONE_WAY: Final = _audio.counter(
    "calls_one_way_suspected",
    "ingress trunk direction",
    "Answered calls of 10 s and more of which not a sound came from the caller, or to whom none was sent.",
)

RECORDINGS: Final = _audio.counter(
    "recordings",
    "ingress result",
    "Calls that were recorded; result: whole, gaps (not all could be written in time), cut (it ended early).",
)
RECORDING_LOST: Final = _audio.counter(
    "recording_lost_seconds",
    "ingress",
    "Audio of either voice that a recording should hold and does not: the disk was slow or full.",
)

_agents = _Section("Agents and dialplans")
SESSION_FAULTS: Final = _agents.counter(
    "session_faults",
    "agent kind",
    "Complaints about sessions, by kind (`faults` of the record).",
)
SESSION_LOSSES: Final = _agents.counter(
    "session_losses",
    "agent",
    "Connections to agents that broke in a call and were made again.",
)
DIALPLAN_ACTIONS: Final = _agents.counter("dialplan_actions", "dialplan action", "What dialplans had done.")
DIALPLAN_FAILURES: Final = _agents.counter(
    "dialplan_failures",
    "dialplan action",
    "Actions that failed and had no on_error.",
)
DIALPLAN_EVENTS: Final = _agents.counter(
    "dialplan_events",
    "dialplan metric",
    "What dialplans count with their `metric` action, with its labels.",
)
OUTSIDE: Final = _agents.histogram(
    "outside_request_seconds",
    "what result",
    OUTSIDE_S,
    "A dialplan's webhook, or a tool's HTTP request or function, is begun -> its answer is there, or it "
    "has failed; with all tries.",
)

_processes = _Section("Processes")
LOOP_LAG: Final = _processes.histogram(
    "event_loop_lag_seconds",
    "",
    BRIDGE_S,
    "A tick of 100 ms is due -> a worker's event loop gets to it.",
)
WORKERS: Final = _processes.gauge("workers_up", "", "Workers that are ready.")
CHILD_RESTARTS: Final = _processes.counter(
    "child_restarts",
    "process",
    "Processes that died and were started anew.",
)
DRAINING: Final = _processes.gauge("draining", "", "1 while no new calls are taken.")
BUILD: Final = _processes.gauge("build_info", "version", "Always 1.")

SECTIONS: Final = (_calls, _latency, _cuts, _audio, _agents, _processes)
OF_SUPERVISOR: Final = (WORKERS, CHILD_RESTARTS, DRAINING, BUILD)
