"""Is there room, and do our processes keep up?"""

from __future__ import annotations

from typing import Final

from scripts.dashboards.model import Board, Panel, Query, Row, by_labels
from scripts.dashboards.promql import a_minute, buckets, gauge, quantile
from telbridge.ops import catalogue as the

BOARD: Final = Board(
    "telbridge-workers",
    "telbridge · workers and capacity",
    "Is there room, and do our processes keep up?",
    (
        Row(
            "Room",
            (
                Panel(
                    "Workers ready",
                    "By instance.",
                    (Query(gauge(the.WORKERS, "instance"), by_labels("instance")),),
                ),
                Panel(
                    "Live calls by instance",
                    "Calls that ring or talk.",
                    (Query(gauge(the.CALLS_LIVE, "instance"), by_labels("instance")),),
                    "stack",
                    calls="live=1",
                ),
                Panel(
                    "Rejected by reason",
                    "A minute. What says that there is no room: more workers, or a higher cap.",
                    (Query(a_minute(the.CALLS_REJECTED, "reason"), by_labels("reason")),),
                    "stack",
                ),
                Panel(
                    "Draining",
                    "1 while an instance takes no new calls.",
                    (Query(gauge(the.DRAINING, "instance"), by_labels("instance")),),
                ),
            ),
        ),
        Row(
            "Keeping up",
            (
                Panel(
                    "Event loop lag: percentiles",
                    "A tick of 100 ms is due to the loop getting to it. Above 20 ms audio comes late.",
                    tuple(
                        Query(quantile(q, the.LOOP_LAG, "instance"), f"{{{{instance}}}} p{q * 100:g}")
                        for q in (0.5, 0.99, 0.999)
                    ),
                    unit="s",
                    limits=(0.02, 0.05),
                ),
                Panel(
                    "Event loop lag: heat map",
                    "How many ticks were how late.",
                    (Query(buckets(the.LOOP_LAG), "{{le}}"),),
                    "heat",
                    "s",
                ),
                Panel(
                    "What we add to a turn (p99)",
                    "By ingress and way.",
                    (
                        Query(
                            quantile(0.99, the.BRIDGE, "ingress, direction"),
                            by_labels("ingress", "direction"),
                        ),
                    ),
                    unit="s",
                    limits=(0.06, 0.1),
                ),
                Panel(
                    "Agent speech that waits (p95)",
                    "The most in a call: APIs send faster than people listen. It is memory, and nothing bad.",
                    (Query(quantile(0.95, the.PLAYOUT_DEPTH, "agent"), by_labels("agent")),),
                    unit="s",
                ),
                Panel(
                    "Processes that died",
                    "Within 5 minutes, by process; each was started anew. A worker takes its calls with it.",
                    (
                        Query(
                            f"sum by (instance, process) (increase({the.CHILD_RESTARTS.full_name}"
                            '{instance=~"$instance"}[5m]))',
                            by_labels("instance", "process"),
                        ),
                    ),
                    "stack",
                ),
                Panel(
                    "Versions",
                    "Instances of each; two for long: an upgrade that was not finished.",
                    (Query(gauge(the.BUILD, "version"), by_labels("version")),),
                    "stack",
                ),
            ),
        ),
    ),
)
