"""Where the time goes in a turn, and how interruptions go."""

from __future__ import annotations

from typing import Final

from scripts.dashboards.model import Board, Panel, Query, Row, by_labels, of_label
from scripts.dashboards.promql import a_minute, buckets, mean, quantile, rate, share
from telbridge.ops import catalogue as the
from telbridge.ops.catalogue import Metric

PARTS: Final = (
    ("uplink (ours)", the.TURN_UPLINK),
    ("end of turn (agent)", the.TURN_END_OF_TURN),
    ("first audio (agent)", the.TURN_FIRST_AUDIO),
    ("downlink (ours)", the.TURN_DOWNLINK),
    ("wire (ours)", the.TURN_WIRE),
)


def percentiles(metric: Metric) -> tuple[Query, ...]:
    return tuple(Query(quantile(q, metric), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.95, 0.99))


def _of_turns(metric: Metric) -> str:
    """A counter's share of the turns that had a gap: how often it happens, whatever the traffic."""
    turns = rate(the.TURN_GAP, "agent", "_count")
    return share(rate(metric, "agent"), turns)


BOARD: Final = Board(
    "telbridge-conversation",
    "telbridge · conversation",
    "Where the time goes in a turn, and how interruptions go. Clock points: docs/metrics.md.",
    (
        Row(
            "Waiting",
            (
                Panel(
                    "Turn gap: percentiles",
                    "The caller's last voiced frame to the answer's first frame on the wire.",
                    percentiles(the.TURN_GAP),
                    unit="s",
                    calls="worst=slow_answer",
                    limits=(1.5, 2.5),
                ),
                Panel(
                    "Turn gap: heat map",
                    "How many turns waited how long. Two bands: two kinds of turn, as with a tool.",
                    (Query(buckets(the.TURN_GAP), "{{le}}"),),
                    "heat",
                    "s",
                ),
                Panel(
                    "Where the time goes (mean)",
                    "The parts of the turn gap; they add up to it where every turn has every part.",
                    tuple(Query(mean(metric), name) for name, metric in PARTS),
                    "stack",
                    "s",
                    24,
                    "worst=slow_answer",
                ),
                Panel(
                    "Answer to first audio (p95)",
                    "How long a caller hears nothing after the call was answered.",
                    (Query(quantile(0.95, the.ANSWER_TO_AUDIO, "agent"), by_labels("agent")),),
                    unit="s",
                    calls=f"{of_label('agent')}&worst=late_greeting",
                    limits=(1.5, 3.0),
                ),
                Panel(
                    "Tool calls (p95)",
                    "The agent asks for a tool to its result being handed over. It lies within first audio.",
                    (Query(quantile(0.95, the.TOOL, "agent"), by_labels("agent")),),
                    unit="s",
                    calls=of_label("agent"),
                ),
                Panel(
                    "What we add to a turn (p99)",
                    "Both ways. A frame is 20 ms; 100 ms and more: look at workers and capacity.",
                    (Query(quantile(0.99, the.BRIDGE, "direction"), by_labels("direction")),),
                    unit="s",
                    width=24,
                    limits=(0.06, 0.1),
                ),
            ),
        ),
        Row(
            "Interruptions",
            (
                Panel(
                    "Talk-over: percentiles",
                    "The caller cuts in to the last agent frame.",
                    percentiles(the.TALK_OVER),
                    unit="s",
                    calls="worst=talked_over",
                    limits=(0.7, 1.0),
                ),
                Panel(
                    "Talk-over: heat map",
                    "How many interruptions took how long.",
                    (Query(buckets(the.TALK_OVER), "{{le}}"),),
                    "heat",
                    "s",
                ),
                Panel(
                    "Detect and stop (p95)",
                    "Detect is the API's and the network's; stop is ours and ought to be one frame.",
                    (
                        Query(quantile(0.95, the.BARGE_IN_DETECT, "agent"), "detect · {{agent}}"),
                        Query(quantile(0.95, the.BARGE_IN_STOP, "agent"), "stop · {{agent}}"),
                    ),
                    unit="s",
                    calls=f"{of_label('agent')}&worst=talked_over",
                ),
                Panel(
                    "Barge-ins by who decided",
                    "A minute. api: the agent API heard the caller; local: a key or a dialplan.",
                    (Query(f"60 * {rate(the.BARGE_INS, 'agent, by')}", by_labels("agent", "by")),),
                    "stack",
                    calls=of_label("agent"),
                ),
                Panel(
                    "Interruptions that go wrong, per turn",
                    "False: the agent was cut for nothing. Missed: both talked for 1.5 s and no event came. "
                    "By the agent: it began while the caller spoke.",
                    (
                        Query(_of_turns(the.FALSE_BARGE_INS), "false · {{agent}}"),
                        Query(_of_turns(the.MISSED_BARGE_INS), "missed · {{agent}}"),
                        Query(_of_turns(the.AGENT_INTERRUPTIONS), "by the agent · {{agent}}"),
                    ),
                    unit="percentunit",
                    calls=of_label("agent"),
                ),
                Panel(
                    "Agent audio thrown away",
                    "Seconds a second of agent audio heard. Much of it: long answers that callers cut.",
                    (
                        Query(
                            share(rate(the.DISCARDED, "agent"), rate(the.HEARD, "agent")), by_labels("agent")
                        ),
                    ),
                    calls=of_label("agent"),
                ),
            ),
        ),
        Row(
            "What callers do",
            (
                Panel(
                    "Keys",
                    "A minute, by ingress and how they came.",
                    (Query(a_minute(the.DTMF, "ingress, method"), by_labels("ingress", "method")),),
                    "stack",
                ),
                Panel(
                    "How long calls last: heat map",
                    "The call arrives to its end. Many below 15 s: callers give up.",
                    (Query(buckets(the.CALL_SECONDS), "{{le}}"),),
                    "heat",
                    "s",
                ),
            ),
        ),
    ),
)
