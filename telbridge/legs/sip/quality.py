"""RTP statistics of a leg, over all the streams that its re-INVITEs brought."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from telbridge.call.events import LegQuality
from telbridge.legs.drift import Drift

FRAME_NS: Final = 20_000_000
DRIFT_AFTER_S: Final = 300.0
"""We count packets of 20 ms, so the drift is known to 20 ms in all that time: 67 ppm at worst."""


class QualityBook:
    """Adds up the streams that ended; a live one is added on demand."""

    def __init__(self) -> None:
        self._kept: LegQuality | None = None
        self._index = 0
        self._drift = Drift(DRIFT_AFTER_S)

    def stream_created(self, index: int) -> None:
        """`index`: which media line of the session the live stream belongs to."""
        self._index = index
        self._drift = Drift(DRIFT_AFTER_S)

    def keep(self, call: Any) -> None:
        """The call's stream dies now."""
        self._kept = self.with_live(call)

    def with_live(self, call: Any) -> LegQuality | None:
        live = _read(call, self._index, self._drift.ppm)
        if live is None or self._kept is None:
            return live or self._kept
        kept = self._kept
        return replace(
            live,
            rx_packets=kept.rx_packets + live.rx_packets,
            rx_lost=kept.rx_lost + live.rx_lost,
            rx_discarded=kept.rx_discarded + live.rx_discarded,
            tx_packets=kept.tx_packets + live.tx_packets,
            tx_lost=kept.tx_lost + live.tx_lost,
            rx_reordered=kept.rx_reordered + live.rx_reordered,
            drift_ppm=live.drift_ppm if live.drift_ppm is not None else kept.drift_ppm,
            rtt_ms=live.rtt_ms if live.rtt_ms is not None else kept.rtt_ms,
        )

    def total(self) -> LegQuality | None:
        return self._kept

    def takes_events(self, call: Any) -> bool:
        """Telephone-events (RFC 4733) were negotiated for the live stream."""
        # A nested object does not keep the one around it alive.
        info = call.getStreamInfo(self._index)
        return int(info.audTxEventPt) > 0

    def packets_heard(self, call: Any, now_ns: int) -> int:
        """RTP packets received on the live stream."""
        # A nested object does not keep the one around it alive.
        stat = call.getStreamStat(self._index)
        received = stat.rtcp.rxStat
        self._drift.note((int(received.pkt) + int(received.loss)) * FRAME_NS, now_ns)
        return int(received.pkt)


def _read(call: Any, index: int, drift_ppm: float | None) -> LegQuality | None:
    try:
        stat, info = call.getStreamStat(index), call.getStreamInfo(index)
    except Exception:  # noqa: BLE001 - pjsua2's Error, which only exists at run time: the stream is gone
        return None
    received, sent, rtcp = stat.rtcp.rxStat, stat.rtcp.txStat, stat.rtcp
    return LegQuality(
        codec=str(info.codecName).lower(),
        rx_packets=int(received.pkt),
        rx_lost=int(received.loss),
        rx_discarded=int(received.discard),
        rx_jitter_ms=received.jitterUsec.last / 1000,
        tx_packets=int(sent.pkt),
        tx_lost=int(sent.loss),
        tx_jitter_ms=sent.jitterUsec.last / 1000,
        rtt_ms=rtcp.rttUsec.last / 1000 if rtcp.rttUsec.n else None,
        rx_reordered=int(received.reorder),
        jitter_buffer_ms=float(stat.jbuf.avgDelayMsec),
        drift_ppm=drift_ppm,
    )
