"""Are callers waiting, talked over, or cut off, and by whom?"""

from __future__ import annotations

from typing import Final

from scripts.dashboards.model import Board, Panel, Query, Row, by_labels, of_label
from scripts.dashboards.promql import a_minute, count, gauge, quantile, rate, share
from telbridge.ops import catalogue as the

GOOD_ENDINGS: Final = "caller_hung_up|caller_cancelled|agent_hung_up|dialplan_hung_up|transferred"
FAILED: Final = {"ending": f'!~"{GOOD_ENDINGS}"'}

BOARD: Final = Board(
    "telbridge-overview",
    "telbridge · overview",
    "Are callers waiting, talked over, or cut off, and by whom? The rest is a click away.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Live calls",
                    "Calls that ring or talk now.",
                    (Query(gauge(the.CALLS_LIVE)),),
                    "figure",
                    width=4,
                    calls="live=1",
                ),
                Panel(
                    "Wait for an answer (p95)",
                    "Last voiced frame to the answer's first frame on the wire, within the time shown.",
                    (Query(quantile(0.95, the.TURN_GAP, window="$__range")),),
                    "figure",
                    "s",
                    4,
                    "worst=slow_answer",
                    (1.5, 2.5),
                ),
                Panel(
                    "Talked over for (p95)",
                    "How long the agent goes on after the caller cut in, within the time shown.",
                    (Query(quantile(0.95, the.TALK_OVER, window="$__range")),),
                    "figure",
                    "s",
                    4,
                    "worst=talked_over",
                    (0.7, 1.0),
                ),
                Panel(
                    "Calls cut off",
                    "Calls that ended by a failure, the agent's, the line's or ours.",
                    (Query(count(the.CALLS_ENDED, **FAILED)),),
                    "figure",
                    width=4,
                    calls="",
                    limits=(1, 5),
                ),
                Panel(
                    "Rejected",
                    "Calls that were refused before an answer: no room, no dialplan, not allowed.",
                    (Query(count(the.CALLS_REJECTED)),),
                    "figure",
                    width=4,
                    limits=(1, 5),
                ),
                Panel(
                    "Workers ready",
                    "Processes that take calls. None: nobody answers.",
                    (Query(gauge(the.WORKERS)),),
                    "figure",
                    width=4,
                ),
            ),
        ),
        Row(
            "By agent",
            (
                Panel(
                    "Wait for an answer by agent (p95)",
                    "Above 1.5 s callers wonder whether anybody is there.",
                    (Query(quantile(0.95, the.TURN_GAP, "agent"), by_labels("agent")),),
                    unit="s",
                    calls=f"{of_label('agent')}&worst=slow_answer",
                    limits=(1.5, 2.5),
                ),
                Panel(
                    "Talked over for, by agent (p95)",
                    "The caller's onset to silence. 0.5 s is what people need themselves.",
                    (Query(quantile(0.95, the.TALK_OVER, "agent"), by_labels("agent")),),
                    unit="s",
                    calls=f"{of_label('agent')}&worst=talked_over",
                    limits=(0.7, 1.0),
                ),
                Panel(
                    "Failed calls by agent and cause",
                    "A minute. agent_*: the API; leg_failed, media_timeout: the line; the rest is ours.",
                    (
                        Query(
                            a_minute(the.CALLS_ENDED, "agent, ending", **FAILED),
                            by_labels("agent", "ending"),
                        ),
                    ),
                    "stack",
                    calls=of_label("agent", "ending"),
                ),
                Panel(
                    "Failed calls by trunk",
                    "Their share of the calls that ended. One trunk alone: the line; all: the agents.",
                    (
                        Query(
                            share(
                                rate(the.CALLS_ENDED, "ingress, trunk", **FAILED),
                                rate(the.CALLS_ENDED, "ingress, trunk"),
                            ),
                            by_labels("ingress", "trunk"),
                        ),
                    ),
                    unit="percentunit",
                    calls=of_label("ingress", "trunk"),
                    limits=(0.02, 0.05),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Calls that came",
                    "A minute, answered or not, without those of strangers.",
                    (Query(f"60 * {rate(the.CALLS_OFFERED, 'ingress')}", by_labels("ingress")),),
                    "stack",
                    calls=of_label("ingress"),
                ),
                Panel(
                    "Live calls by ingress",
                    "Calls that ring or talk.",
                    (Query(gauge(the.CALLS_LIVE, "ingress"), by_labels("ingress")),),
                    "stack",
                    calls=f"{of_label('ingress')}&live=1",
                ),
                Panel(
                    "How calls end",
                    "A minute, by cause.",
                    (Query(a_minute(the.CALLS_ENDED, "ending"), by_labels("ending")),),
                    "stack",
                    calls=of_label("ending"),
                ),
                Panel(
                    "Why calls are rejected",
                    "A minute, by reason; they leave no record.",
                    (
                        Query(
                            a_minute(the.CALLS_REJECTED, "ingress, reason"),
                            by_labels("ingress", "reason"),
                        ),
                    ),
                    "stack",
                ),
            ),
        ),
    ),
)
