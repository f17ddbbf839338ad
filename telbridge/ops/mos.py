"""How good a G.711 call sounds, from loss and delay: the E-model (ITU-T G.107), cut to what RTP tells."""

from __future__ import annotations

from typing import Final

from telbridge.call.events import LegQuality

R_BEST: Final = 93.2
"""With all defaults of G.107."""
BPL: Final = 25.1
"""G.711 with its concealment of lost packets (ITU-T G.113 appendix I)."""
BUFFER_MS: Final = 40.0
"""Of a jitter buffer, on top of twice the jitter."""
KNEE_MS: Final = 177.3
"""From here on people notice the delay."""


def mos_of(quality: LegQuality) -> float | None:
    """1 to 4.4 of the worse direction; None where nothing was sent. Loss counts as if it came one by one:
    bursts sound worse than this says."""
    ways = (
        (quality.rx_packets + quality.rx_lost, quality.rx_lost + quality.rx_discarded, quality.rx_jitter_ms),
        (quality.tx_packets, quality.tx_lost, quality.tx_jitter_ms),
    )
    found = [
        _mos(lost / sent, (quality.rtt_ms or 0.0) / 2 + 2 * jitter_ms + BUFFER_MS)
        for sent, lost, jitter_ms in ways
        if sent > 0
    ]
    return round(min(found), 2) if found else None


def _mos(loss: float, delay_ms: float) -> float:
    percent = 100 * min(1.0, loss)
    impairment = 95 * percent / (percent + BPL)
    delay = 0.024 * delay_ms + (0.11 * (delay_ms - KNEE_MS) if delay_ms > KNEE_MS else 0.0)
    r = max(0.0, R_BEST - impairment - delay)
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
