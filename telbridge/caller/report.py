"""What a call was like: figures, a text for people, a recording with both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from telbridge.audio.wav import write_wav
from telbridge.caller.conversation import Turn
from telbridge.caller.handle import CallHandle
from telbridge.caller.rtp import CLOCK_HZ, Histogram
from telbridge.caller.timeline import by_timestamp


@dataclass(frozen=True, slots=True)
class Gaps:
    """Time between two packets, ms; None where there were none."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Gaps:
        p50, p95, p99 = (histogram.percentile_ms(percent) for percent in (50, 95, 99))
        return cls(p50, p95, p99, histogram.max_ns / 1e6 if histogram.count else None)

    def __str__(self) -> str:
        return f"p50 {_ms(self.p50)} · p95 {_ms(self.p95)} · p99 {_ms(self.p99)} · max {_ms(self.max)}"


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn in milliseconds (see `Turn` for the clock points)."""

    text: str
    at_ms: float
    """Our onset after the answer."""
    gap_ms: float | None
    barge_in_stop_ms: float | None

    def __str__(self) -> str:
        stop = (
            "" if self.barge_in_stop_ms is None else f", silent {_ms(self.barge_in_stop_ms)} after our onset"
        )
        answered = "no answer" if self.gap_ms is None else f"answered after {_ms(self.gap_ms)}"
        return f"{answered}{stop}: {self.text}"


@dataclass(frozen=True, slots=True)
class CallReport:
    """All figures of a call. Durations in ms; None: it did not come to that."""

    uri: str
    code: int
    phrase: str
    ended_by: str
    retry_after_s: int | None
    codec: str
    ringing_ms: float | None
    """INVITE -> first 180 or 183."""
    answer_ms: float | None
    """INVITE -> 200."""
    first_packet_ms: float | None
    """200 -> first RTP packet (negative: early media)."""
    first_audio_ms: float | None
    """200 -> first loud RTP packet."""
    duration_ms: float | None
    """200 -> end."""
    turns: tuple[TurnReport, ...]
    packets_sent: int
    packets_received: int
    packets_lost: int
    packets_reordered: int
    packets_duplicate: int
    loss_percent: float
    jitter_ms: float
    gaps: Gaps
    """Of what came."""
    sending_gaps: Gaps
    """Of what we sent: how far the measurement itself can be trusted."""
    digits_received: str
    record: str | None = None

    @property
    def ok(self) -> bool:
        """It was answered, and neither the network nor a time-out ended it."""
        return self.answer_ms is not None and self.ended_by in ("us", "peer")

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """A summary for people, one fact a line."""
        retry = f", Retry-After {self.retry_after_s} s" if self.retry_after_s is not None else ""
        lines = [f"{self.uri}: {self.code} {self.phrase}, ended by {self.ended_by}{retry}"]
        if self.answer_ms is None:
            return lines
        loss, first_packet = f"{self.loss_percent:.1f} %", _ms(self.first_packet_ms)
        lines += [
            f"answered after    {_ms(self.answer_ms)} ({self.codec})",
            f"first audio       {_ms(self.first_audio_ms)} after the answer; first packet {first_packet}",
            *(f"turn {number:<12} {turn}" for number, turn in enumerate(self.turns, 1)),
            f"received          {self.packets_received} packets, {self.packets_lost} lost ({loss}), "
            f"{self.packets_reordered} out of order, {self.packets_duplicate} twice",
            f"jitter            {_ms(self.jitter_ms)}",
            f"gaps received     {self.gaps}",
            f"gaps sent         {self.sending_gaps}",
        ]
        if self.digits_received:
            lines.append(f"digits received   {self.digits_received}")
        if self.record is not None:
            lines.append(f"recorded in       {self.record}")
        return lines


def report_of(
    call: CallHandle, turns: Sequence[Turn], first_loud_ns: int | None, record: Path | None
) -> CallReport:
    """The figures of a call that has ended. RuntimeError if it has not."""
    ended = call.ended
    if ended is None:
        raise RuntimeError("the call has not ended")
    times, statistics = call.times, call.statistics
    answered_ns = times.answered_ns
    return CallReport(
        uri=call.uri,
        code=ended.code,
        phrase=ended.phrase,
        ended_by=ended.by.value,
        retry_after_s=ended.retry_after_s,
        codec=call.codec.encoding.name,
        ringing_ms=_between(times.invited_ns, times.ringing_ns),
        answer_ms=_between(times.invited_ns, answered_ns),
        first_packet_ms=_between(answered_ns, call.media.first_packet_ns),
        first_audio_ms=_between(answered_ns, first_loud_ns),
        duration_ms=_between(answered_ns, times.ended_ns),
        turns=tuple(_turn(turn, answered_ns) for turn in turns),
        packets_sent=call.media.sender.packets,
        packets_received=statistics.received,
        packets_lost=statistics.lost,
        packets_reordered=statistics.reordered,
        packets_duplicate=statistics.duplicates,
        loss_percent=statistics.loss_percent,
        jitter_ms=statistics.jitter_ms,
        gaps=Gaps.of(statistics.gaps),
        sending_gaps=Gaps.of(call.sending_gaps),
        digits_received=call.received_digits,
        record=str(record) if record is not None else None,
    )


def record(call: CallHandle, path: Path) -> None:
    """Two channels from the answer on: left what we sent, right what came. Needs `keep_packets`."""
    origin_ns = call.times.answered_ns
    if origin_ns is None:
        raise RuntimeError("the call was not answered: there is nothing to record")
    left, right = (by_timestamp(packets).aligned(origin_ns) for packets in (call.sent, call.received))
    length = max(len(left), len(right))
    write_wav(path, [left.ljust(length, b"\0"), right.ljust(length, b"\0")], CLOCK_HZ)


def _turn(turn: Turn, answered_ns: int | None) -> TurnReport:
    return TurnReport(
        turn.text, _between(answered_ns, turn.onset_ns) or 0.0, turn.gap_ms, turn.barge_in_stop_ms
    )


def _between(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e6


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
