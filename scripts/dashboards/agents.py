"""The agent APIs side by side, and what dialplans do beside them."""

from __future__ import annotations

from typing import Final

from scripts.dashboards.model import Board, Panel, Query, Row, by_labels, of_label
from scripts.dashboards.overview import FAILED
from scripts.dashboards.promql import a_minute, mean, quantile, rate, share
from telbridge.ops import catalogue as the
from telbridge.ops.catalogue import Metric

AGENT: Final = by_labels("agent")
CALLS: Final = of_label("agent")


def p50_and_p95(metric: Metric) -> tuple[Query, ...]:
    return tuple(Query(quantile(q, metric, "agent"), f"{{{{agent}}}} p{q * 100:.0f}") for q in (0.5, 0.95))


BOARD: Final = Board(
    "telbridge-agents",
    "telbridge · agents side by side",
    "Which agent API is fast, listens, and stays.",
    (
        Row(
            "Fast",
            (
                Panel("Turn gap", "What callers wait.", p50_and_p95(the.TURN_GAP), unit="s", calls=CALLS),
                Panel(
                    "End-of-turn decision",
                    "The last voiced frame is sent to the API's word that the turn is over.",
                    p50_and_p95(the.TURN_END_OF_TURN),
                    unit="s",
                    calls=CALLS,
                ),
                Panel(
                    "First audio",
                    "The API tells that the turn is over to its first audio. Tools lie within.",
                    p50_and_p95(the.TURN_FIRST_AUDIO),
                    unit="s",
                    calls=CALLS,
                ),
                Panel(
                    "What APIs report themselves (mean)",
                    "By their own clock points; only some APIs tell.",
                    (Query(mean(the.SERVER_LATENCY, "agent, figure"), by_labels("agent", "figure")),),
                    unit="s",
                    calls=CALLS,
                ),
                Panel(
                    "Connect (p95)",
                    "A session is asked for to its WebSocket being open.",
                    (Query(quantile(0.95, the.SESSION_CONNECT, "agent"), AGENT),),
                    unit="s",
                    calls=CALLS,
                    limits=(1.0, 2.0),
                ),
                Panel(
                    "Configure (p95)",
                    "The WebSocket is open to the configuration being acknowledged.",
                    (Query(quantile(0.95, the.SESSION_CONFIGURE, "agent"), AGENT),),
                    unit="s",
                    calls=CALLS,
                    limits=(1.0, 2.0),
                ),
            ),
        ),
        Row(
            "Listens",
            (
                Panel("Talk-over", "Onset to silence.", p50_and_p95(the.TALK_OVER), unit="s", calls=CALLS),
                Panel(
                    "Detects an interruption",
                    "The caller cuts in to the API's event.",
                    p50_and_p95(the.BARGE_IN_DETECT),
                    unit="s",
                    calls=CALLS,
                ),
                Panel(
                    "False barge-ins",
                    "Their share of all barge-ins by the API: a cough, a noise, its own echo.",
                    (
                        Query(
                            share(
                                rate(the.FALSE_BARGE_INS, "agent"), rate(the.BARGE_INS, "agent", by='="api"')
                            ),
                            AGENT,
                        ),
                    ),
                    unit="percentunit",
                    calls=f"{CALLS}&worst=false_interruption",
                ),
                Panel(
                    "Missed interruptions, interruptions by the agent",
                    "A minute.",
                    (
                        Query(f"60 * {rate(the.MISSED_BARGE_INS, 'agent')}", "missed · {{agent}}"),
                        Query(f"60 * {rate(the.AGENT_INTERRUPTIONS, 'agent')}", "by the agent · {{agent}}"),
                    ),
                    calls=f"{CALLS}&worst=interrupted_caller",
                ),
            ),
        ),
        Row(
            "Stays",
            (
                Panel(
                    "Failed calls",
                    "Their share of the calls that ended.",
                    (
                        Query(
                            share(rate(the.CALLS_ENDED, "agent", **FAILED), rate(the.CALLS_ENDED, "agent")),
                            AGENT,
                        ),
                    ),
                    unit="percentunit",
                    calls=CALLS,
                    limits=(0.02, 0.05),
                ),
                Panel(
                    "Complaints about sessions",
                    "A minute, by kind (`faults` of the record).",
                    (Query(a_minute(the.SESSION_FAULTS, "agent, kind"), by_labels("agent", "kind")),),
                    "stack",
                    calls=CALLS,
                ),
                Panel(
                    "Connections lost and made again",
                    "A minute.",
                    (Query(f"60 * {rate(the.SESSION_LOSSES, 'agent')}", AGENT),),
                    "stack",
                    calls=f"{CALLS}&worst=agent_reconnected",
                ),
                Panel(
                    "Speech that came too slowly",
                    "Silence inside agent speech, as share of what was heard.",
                    (Query(share(rate(the.UNDERRUN_SECONDS, "agent"), rate(the.HEARD, "agent")), AGENT),),
                    unit="percentunit",
                    calls=f"{CALLS}&worst=choppy_agent",
                    limits=(0.005, 0.01),
                ),
                Panel(
                    "Underruns",
                    "A minute: how often agent speech had a hole.",
                    (Query(f"60 * {rate(the.UNDERRUNS, 'agent')}", AGENT),),
                    "stack",
                    calls=f"{CALLS}&worst=choppy_agent",
                ),
                Panel(
                    "Caller audio not sent",
                    "Seconds a minute, thrown away because the agent's network fell behind.",
                    (Query(f"60 * {rate(the.UPLINK_DROPPED, 'agent')}", AGENT),),
                    unit="s",
                    calls=f"{CALLS}&worst=deaf_agent",
                ),
            ),
        ),
        Row(
            "Dialplans",
            (
                Panel(
                    "Actions",
                    "A minute.",
                    (
                        Query(
                            f"60 * {rate(the.DIALPLAN_ACTIONS, 'dialplan, action')}",
                            by_labels("dialplan", "action"),
                        ),
                    ),
                    "stack",
                    calls=of_label("dialplan"),
                ),
                Panel(
                    "Failed actions",
                    "A minute; those without on_error.",
                    (
                        Query(
                            a_minute(the.DIALPLAN_FAILURES, "dialplan, action"),
                            by_labels("dialplan", "action"),
                        ),
                    ),
                    "stack",
                    calls=f"{of_label('dialplan')}&worst=failed_action",
                ),
                Panel(
                    "Webhooks and tools (p95)",
                    "Begun to answered or failed, with all tries.",
                    (Query(quantile(0.95, the.OUTSIDE, "what, result"), by_labels("what", "result")),),
                    unit="s",
                ),
                Panel(
                    "What dialplans count",
                    "A minute, by their `metric` action.",
                    (
                        Query(
                            f"60 * {rate(the.DIALPLAN_EVENTS, 'dialplan, metric')}",
                            by_labels("dialplan", "metric"),
                        ),
                    ),
                    calls=of_label("dialplan"),
                ),
            ),
        ),
    ),
)
