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


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", help, labels)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", help, labels, buckets)


# ---------------------------------------------------------------- calls

CALLS_OFFERED: Final = _counter(
    "calls_offered", "Calls that came, answered or not, without those of strangers.", "ingress", "trunk"
)
CALLS_REJECTED: Final = _counter(
    "calls_rejected", "Calls that were refused before an answer.", "ingress", "reason"
)
CALLS_ANSWERED: Final = _counter(
    "calls_answered", "Calls that were answered.", "ingress", "trunk", "dialplan", "agent"
)
CALLS_ENDED: Final = _counter(
    "calls_ended",
    "Calls that are over, by cause (`ending` of the record).",
    "ingress",
    "trunk",
    "dialplan",
    "agent",
    "ending",
)
CALLS_LIVE: Final = _gauge("calls_live", "Calls that ring or talk now.", "ingress")
CALL_SECONDS: Final = _histogram(
    "call_duration_seconds", "The call arrives -> it is over.", CALL_S, "ingress", "dialplan", "agent"
)
DTMF: Final = _counter("dtmf_digits", "Keys that callers pressed.", "ingress", "method")

# ---------------------------------------------------------------- latency

TURN_GAP: Final = _histogram(
    "turn_gap_seconds",
    "The caller's last voiced frame arrives -> the first agent frame of the answer is on the wire.",
    ANSWER_S,
    "ingress",
    "agent",
)
TURN_UPLINK: Final = _histogram(
    "turn_uplink_seconds",
    "The caller's last voiced frame arrives -> it is handed to the agent's WebSocket.",
    BRIDGE_S,
    "ingress",
    "agent",
)
TURN_END_OF_TURN: Final = _histogram(
    "turn_end_of_turn_seconds",
    "The caller's last voiced frame is handed to the agent's WebSocket -> the API tells that the turn is "
    "over.",
    ANSWER_S,
    "ingress",
    "agent",
)
TURN_FIRST_AUDIO: Final = _histogram(
    "turn_first_audio_seconds",
    "The API tells that the caller's turn is over -> first audio of the answer comes from the API. Of an API "
    "that does not tell, from the last voiced frame on.",
    ANSWER_S,
    "ingress",
    "agent",
)
TURN_DOWNLINK: Final = _histogram(
    "turn_downlink_seconds",
    "First audio of the answer comes from the API -> the tick at which the leg takes its first frame.",
    BRIDGE_S,
    "ingress",
    "agent",
)
TURN_WIRE: Final = _histogram(
    "turn_wire_seconds",
    "The tick at which the leg takes the first frame of the answer -> that frame is handed over to be sent.",
    BRIDGE_S,
    "ingress",
    "agent",
)
BRIDGE: Final = _histogram(
    "bridge_latency_seconds",
    "What we add to each turn; up: the caller's last voiced frame arrives -> it is handed to the agent's "
    "WebSocket; down: first audio of the answer comes from the API -> its first frame is on the wire.",
    BRIDGE_S,
    "ingress",
    "direction",
)
ANSWER_TO_AUDIO: Final = _histogram(
    "answer_to_audio_seconds",
    "The answer is acknowledged and media can flow -> the first frame with speech is on the wire, "
    "the agent's or our own.",
    ANSWER_S,
    "ingress",
    "agent",
)
SESSION_READY: Final = _histogram(
    "session_ready_seconds",
    "A session is asked for -> its API acknowledged the configuration.",
    SETUP_S,
    "agent",
)
TOOL: Final = _histogram(
    "tool_call_seconds",
    "The agent asks for a tool -> its result is handed to the agent's WebSocket.",
    OUTSIDE_S,
    "agent",
)
SERVER_LATENCY: Final = _histogram(
    "server_latency_seconds",
    "What an API reports of its own share in a turn; its clock points are its own.",
    ANSWER_S,
    "agent",
    "figure",
)

# ---------------------------------------------------------------- interruptions

BARGE_INS: Final = _counter(
    "barge_ins",
    "The agent was heard and was cut; by: api, or local (a key, a dialplan).",
    "ingress",
    "agent",
    "by",
)
BARGE_IN_DETECT: Final = _histogram(
    "barge_in_detect_seconds",
    "The first voiced frame of the caller arrives while the agent is heard -> the API's event comes.",
    TALK_S,
    "ingress",
    "agent",
)
BARGE_IN_STOP: Final = _histogram(
    "barge_in_stop_seconds",
    "The event that cuts the agent comes -> the last agent frame is handed to the leg.",
    TALK_S,
    "ingress",
    "agent",
)
TALK_OVER: Final = _histogram(
    "talk_over_seconds",
    "The first voiced frame of the caller arrives while the agent is heard -> the last agent frame is handed "
    "to the leg.",
    TALK_S,
    "ingress",
    "agent",
)
DISCARDED: Final = _counter(
    "agent_audio_discarded_seconds",
    "Agent audio that was thrown away unheard at interruptions.",
    "ingress",
    "agent",
)
HEARD: Final = _counter(
    "agent_audio_heard_seconds", "Agent audio that was handed to the leg.", "ingress", "agent"
)
FALSE_BARGE_INS: Final = _counter(
    "barge_ins_false",
    "Barge-ins after which the API sent no transcript of the caller, in calls in which it sends some.",
    "ingress",
    "agent",
)
AGENT_INTERRUPTIONS: Final = _counter(
    "agent_interruptions",
    "Answers that began while the caller spoke, who went on for 0.3 s and more.",
    "ingress",
    "agent",
)
MISSED_BARGE_INS: Final = _counter(
    "barge_ins_missed",
    "Caller and agent were heard together for 1.5 s and more, and no event came.",
    "ingress",
    "agent",
)

# ---------------------------------------------------------------- audio

UNDERRUNS: Final = _counter(
    "playout_underruns", "Silences inside agent speech because it came too slowly.", "ingress", "agent"
)
UNDERRUN_SECONDS: Final = _counter(
    "playout_underrun_seconds", "Their length, all together.", "ingress", "agent"
)
PLAYOUT_DEPTH: Final = _histogram(
    "playout_depth_seconds", "Most agent speech that waited in a call.", SPEECH_S, "ingress", "agent"
)
UPLINK_DROPPED: Final = _counter(
    "uplink_dropped_seconds", "Caller audio thrown away because the agent's network fell behind.", "agent"
)
RTP_PACKETS: Final = _counter(
    "rtp_packets", "RTP packets, or audio messages of a media stream.", "ingress", "direction"
)
RTP_LOST: Final = _counter(
    "rtp_packets_lost", "Of these, lost; sent ones by the peer's report (RFC 3550).", "ingress", "direction"
)
RTP_LATE: Final = _counter(
    "rtp_packets_discarded", "Received too late or in vain for the jitter buffer.", "ingress"
)
RTP_LOSS: Final = _histogram(
    "rtp_loss_ratio", "Part of a call's packets that was lost.", LOSS, "ingress", "trunk", "direction"
)
RTP_JITTER: Final = _histogram(
    "rtp_jitter_seconds",
    "Interarrival jitter at the end of a call (RFC 3550 section 6.4.1).",
    BRIDGE_S,
    "ingress",
    "trunk",
    "direction",
)
RTP_RTT: Final = _histogram(
    "rtp_round_trip_seconds",
    "Round trip to the peer (RTCP; media streams: a mark).",
    BRIDGE_S,
    "ingress",
    "trunk",
)
CALLER_SECONDS: Final = _counter(
    "caller_audio_seconds",
    "Audio that came from callers; kind: voiced, silent (without the least noise), clipped, other.",
    "ingress",
    "kind",
)
ONE_WAY: Final = _counter(
    "calls_one_way_suspected",
    "Answered calls of 10 s and more of which not a sound came from the caller, or to whom none was sent.",
    "ingress",
    "trunk",
    "direction",
)

# ---------------------------------------------------------------- agents, dialplans, the world

SESSION_FAULTS: Final = _counter(
    "session_faults", "Complaints about sessions, by kind (`faults` of the record).", "agent", "kind"
)
SESSION_LOSSES: Final = _counter(
    "session_losses", "Connections to agents that broke in a call and were made again.", "agent"
)
DIALPLAN_ACTIONS: Final = _counter("dialplan_actions", "What dialplans had done.", "dialplan", "action")
DIALPLAN_FAILURES: Final = _counter(
    "dialplan_failures", "Actions that failed and had no on_error.", "dialplan", "action"
)
DIALPLAN_EVENTS: Final = _counter(
    "dialplan_events",
    "What dialplans count with their `metric` action, with its labels.",
    "dialplan",
    "metric",
)
OUTSIDE: Final = _histogram(
    "outside_request_seconds",
    "A dialplan's webhook, or a tool's HTTP request or function, is begun -> its answer is there, or it has "
    "failed; with all tries.",
    OUTSIDE_S,
    "what",
    "result",
)

# ---------------------------------------------------------------- processes

LOOP_LAG: Final = _histogram(
    "event_loop_lag_seconds", "A tick of 100 ms is due -> a worker's event loop gets to it.", BRIDGE_S
)
WORKERS: Final = _gauge("workers_up", "Workers that are ready.")
CHILD_RESTARTS: Final = _counter("child_restarts", "Processes that died and were started anew.", "process")
DRAINING: Final = _gauge("draining", "1 while no new calls are taken.")
BUILD: Final = _gauge("build_info", "Always 1.", "version")

SECTIONS: Final[tuple[tuple[str, tuple[Metric, ...]], ...]] = (
    ("Calls", (CALLS_OFFERED, CALLS_REJECTED, CALLS_ANSWERED, CALLS_ENDED, CALLS_LIVE, CALL_SECONDS, DTMF)),
    ("Latency", (
        TURN_GAP, TURN_UPLINK, TURN_END_OF_TURN, TURN_FIRST_AUDIO, TURN_DOWNLINK, TURN_WIRE, BRIDGE,
        ANSWER_TO_AUDIO, SESSION_READY, TOOL, SERVER_LATENCY,
    )),
    ("Interruptions", (
        BARGE_INS, BARGE_IN_DETECT, BARGE_IN_STOP, TALK_OVER, DISCARDED, HEARD, FALSE_BARGE_INS,
        AGENT_INTERRUPTIONS, MISSED_BARGE_INS,
    )),
    ("Audio", (
        UNDERRUNS, UNDERRUN_SECONDS, PLAYOUT_DEPTH, UPLINK_DROPPED, RTP_PACKETS, RTP_LOST, RTP_LATE,
        RTP_LOSS, RTP_JITTER, RTP_RTT, CALLER_SECONDS, ONE_WAY,
    )),
    ("Agents and dialplans", (
        SESSION_FAULTS, SESSION_LOSSES, DIALPLAN_ACTIONS, DIALPLAN_FAILURES, DIALPLAN_EVENTS, OUTSIDE,
    )),
    ("Processes", (LOOP_LAG, WORKERS, CHILD_RESTARTS, DRAINING, BUILD)),
)  # fmt: skip
OF_SUPERVISOR: Final = (WORKERS, CHILD_RESTARTS, DRAINING, BUILD)
