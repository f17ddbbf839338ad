"""The line: packets, jitter, MOS, one-way audio."""

from __future__ import annotations

from typing import Final

from scripts.dashboards.model import Board, Panel, Query, Row, by_labels, of_label
from scripts.dashboards.promql import a_minute, buckets, quantile, rate, share
from telbridge.ops import catalogue as the

TRUNK: Final = by_labels("ingress", "trunk")
TRUNK_WAY: Final = by_labels("ingress", "trunk", "direction")

BOARD: Final = Board(
    "telbridge-line",
    "telbridge · SIP and RTP",
    "How good the lines are. Figures of a call are counted when it ends.",
    (
        Row(
            "Quality",
            (
                Panel(
                    "MOS: the worst tenth of calls",
                    "By loss and delay (ITU-T G.107): 4.4 is the most G.711 has; below 3.6 people complain.",
                    (Query(quantile(0.1, the.MOS_OF_CALLS, "ingress, trunk, direction"), TRUNK_WAY),),
                    calls=of_label("ingress", "trunk"),
                    unit="none",
                ),
                Panel(
                    "MOS: heat map",
                    "How many calls had which score.",
                    (Query(buckets(the.MOS_OF_CALLS), "{{le}}"),),
                    "heat",
                    "none",
                ),
                Panel(
                    "Packets lost",
                    "Their share. sent: by the peer's reports.",
                    (
                        Query(
                            share(
                                rate(the.RTP_LOST, "ingress, direction"),
                                rate(the.RTP_PACKETS, "ingress, direction"),
                            ),
                            by_labels("ingress", "direction"),
                        ),
                    ),
                    unit="percentunit",
                    calls=f"{of_label('ingress')}&worst=packet_loss",
                    limits=(0.01, 0.02),
                ),
                Panel(
                    "Loss of calls (p95)",
                    "Of a call's packets, by trunk: a bad line among good ones.",
                    (Query(quantile(0.95, the.RTP_LOSS, "ingress, trunk, direction"), TRUNK_WAY),),
                    unit="percentunit",
                    calls=f"{of_label('ingress', 'trunk')}&worst=packet_loss",
                    limits=(0.01, 0.02),
                ),
                Panel(
                    "Jitter (p95)",
                    "Interarrival jitter at the end of a call (RFC 3550).",
                    (Query(quantile(0.95, the.RTP_JITTER, "ingress, trunk, direction"), TRUNK_WAY),),
                    unit="s",
                    calls=of_label("ingress", "trunk"),
                    limits=(0.03, 0.06),
                ),
                Panel(
                    "Jitter buffer delay (p95)",
                    "What the caller's audio waits in our jitter buffer; it is not in the turn gap.",
                    (Query(quantile(0.95, the.JITTER_BUFFER, "ingress, trunk"), TRUNK),),
                    unit="s",
                    calls=of_label("ingress", "trunk"),
                ),
                Panel(
                    "Round trip (p95)",
                    "To the peer, by RTCP or a stream's mark; it is not in the turn gap.",
                    (Query(quantile(0.95, the.RTP_RTT, "ingress, trunk"), TRUNK),),
                    unit="s",
                    calls=of_label("ingress", "trunk"),
                    limits=(0.2, 0.3),
                ),
                Panel(
                    "Late and reordered packets",
                    "A minute. Late: the jitter buffer had no use for them, which is as good as lost.",
                    (
                        Query(f"60 * {rate(the.RTP_LATE, 'ingress')}", "late · {{ingress}}"),
                        Query(f"60 * {rate(the.RTP_REORDERED, 'ingress')}", "reordered · {{ingress}}"),
                    ),
                    calls=of_label("ingress"),
                ),
            ),
        ),
        Row(
            "Sound",
            (
                Panel(
                    "One-way audio suspected",
                    "Calls a minute. up: no sound from the caller; down: none was sent. A firewall, mostly.",
                    (Query(a_minute(the.ONE_WAY, "ingress, trunk, direction"), TRUNK_WAY),),
                    "stack",
                    calls=of_label("ingress", "trunk"),
                ),
                Panel(
                    "What comes from callers",
                    "Seconds a second. silent: not the least noise; clipped is part of the others.",
                    (Query(rate(the.CALLER_SECONDS, "kind"), by_labels("kind")),),
                    "stack",
                ),
                Panel(
                    "Clock drift (p95)",
                    "How far peers' clocks are off ours. Above 100 ppm: a frame comes or goes every 200 s.",
                    (Query(quantile(0.95, the.DRIFT, "ingress"), by_labels("ingress")),),
                    unit="ppm",
                    width=24,
                ),
            ),
        ),
    ),
)
