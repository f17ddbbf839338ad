"""What a listener would think of a line, from loss and delay: the E-model of ITU-T G.107, as far as G.711
over RTP needs it, with the figures of G.113 appendix I for G.711 whose losses are concealed."""

from __future__ import annotations

from typing import Final

from telbridge.call.events import LegQuality

BEST_R: Final = 93.2
ROBUSTNESS: Final = 25.1
"""Bpl, against losses in per cent."""
FRAME_MS: Final = 20.0
PEERS_BUFFER_MS: Final = 40.0
"""Nobody tells us what stands in the peer's jitter buffer."""


def mos(loss_percent: float, one_way_ms: float) -> float:
    """Mean opinion score, 1 to 4.5, of one direction."""
    delayed = 0.024 * one_way_ms + 0.11 * max(0.0, one_way_ms - 177.3)
    damaged = 95 * loss_percent / (loss_percent + ROBUSTNESS)
    r = BEST_R - delayed - damaged
    if r <= 0:
        return 1.0
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def mos_received(quality: LegQuality) -> float | None:
    """Of what comes from the caller; None without RTP."""
    sent = quality.rx_packets + quality.rx_lost
    if quality.jitter_buffer_ms is None or not sent:
        return None
    lost = quality.rx_lost + quality.rx_discarded
    return mos(100 * min(1.0, lost / sent), _way_ms(quality) + quality.jitter_buffer_ms)


def mos_sent(quality: LegQuality) -> float | None:
    """Of what the caller gets, by the reports of their side; None without any."""
    if quality.jitter_buffer_ms is None or quality.rtt_ms is None or not quality.tx_packets:
        return None
    lost = min(1.0, quality.tx_lost / quality.tx_packets)
    return mos(100 * lost, _way_ms(quality) + PEERS_BUFFER_MS)


def _way_ms(quality: LegQuality) -> float:
    return (quality.rtt_ms or 0.0) / 2 + FRAME_MS
