"""Figures and facts of a call as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

ENDINGS: Final[Mapping[str, str]] = {
    "": "goes on",
    "caller_hung_up": "the caller hung up",
    "caller_cancelled": "the caller gave up ringing",
    "agent_hung_up": "the agent hung up",
    "dialplan_hung_up": "the dialplan hung up",
    "transferred": "transferred",
    "agent_unreachable": "agent unreachable",
    "agent_refused": "agent refused",
    "agent_lost": "agent lost",
    "media_timeout": "no more audio",
    "leg_failed": "line failed",
    "drained": "server stopped",
    "no_dialplan": "no dialplan",
    "internal_error": "internal error",
    "worker_died": "worker died",
}


def length(ms: float | None) -> str:
    """A stretch of time: 240 ms, 3.2 s, 4:05."""
    if ms is None:
        return "–"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else clock(ms)


def clock(ms: float) -> str:
    """A place in the call: 1:04."""
    seconds = int(ms // 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def place(ms: float) -> str:
    """A place in the call to a tenth of a second: 1:04.2."""
    tenths = round(ms / 100)
    return f"{clock(tenths * 100)}.{tenths % 10}"


def day_and_time(iso: str) -> str:
    """2026-11-21 12:00:30 UTC, of what stands in a record."""
    return f"{iso[:10]} {iso[11:19]} UTC" if len(iso) >= 19 else iso


def number(value: str) -> str:
    """A telephone number, or what stands for it."""
    return value or "hidden"


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a call was."""
    yield "began", day_and_time(str(record.get("started_at") or ""))
    ending = str(record.get("ending") or "")
    detail = str(record.get("detail") or "")
    yield "lasted" if ending else "lasts", length(record.get("duration_ms"))
    if ending:
        yield "ended", ENDINGS.get(ending, ending) + (f": {detail}" if detail else "")
    yield "caller", number(str(record.get("caller") or ""))
    yield "called", number(str(record.get("called") or ""))
    way = [str(record.get(key) or "") for key in ("ingress", "trunk", "codec")]
    yield "over", ", ".join(part for part in way if part)
    yield "agent", str(record.get("agent") or "–")
    version = str(record.get("dialplan_version") or "")
    yield "dialplan", str(record.get("dialplan") or "–") + (f" ({version[:12]})" if version else "")
    if record.get("tags"):
        yield "tags", ", ".join(map(str, record["tags"]))
    yield "from", str(record.get("peer") or "")
    if record.get("signalling_id"):
        yield "signalling id", str(record["signalling_id"])
    if recording := record.get("recording"):
        yield "recording", _recorded(recording)
    if record.get("trace_id"):
        yield "trace", str(record["trace_id"])


def _recorded(recording: Mapping[str, Any]) -> str:
    parts = [str(recording["path"]), f"from {place(recording['from_ms'])} on"]
    if recording["lost_ms"]:
        parts.append(f"{length(recording['lost_ms'])} could not be written in time")
    if recording["trouble"]:
        parts.append(f"ends early: {recording['trouble']}")
    return ", ".join(parts)


def quality(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured of the call as a whole."""
    yield "rang", length(record.get("answered_ms"))
    yield "agent ready after", length(record.get("session_ready_ms"))
    for setup in record.get("sessions") or ():
        lengths = length(setup.get("connect_ms")), length(setup.get("configure_ms"))
        yield f"{setup.get('agent')}: connect, configure", ", ".join(lengths)
    answered, sound = record.get("answered_ms"), record.get("first_sound_ms")
    if answered is not None and sound is not None:
        yield "first words after", length(max(0.0, sound - answered))
    yield from _audio(record)
    yield from _rtp(record.get("rtp") or {})
    for key, title in (("faults", "faults"), ("dialplan_failures", "failed actions"), ("counts", "counts")):
        if record.get(key):
            yield title, ", ".join(f"{name} {count:g}" for name, count in record[key].items())


def _audio(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "agent heard", length(record.get("agent_heard_ms"))
    yield "thrown away", length(record.get("agent_discarded_ms"))
    if record.get("underruns"):
        yield "gaps in speech", f"{record['underruns']}, {length(20 * (record.get('underrun_frames') or 0))}"
    if record.get("uplink_dropped_ms"):
        yield "not sent to the agent", length(record["uplink_dropped_ms"])
    voice = record.get("caller_voice") or {}
    if voice.get("heard_ms"):
        yield "caller spoke", f"{length(voice.get('voiced_ms'))} of {length(voice['heard_ms'])}"
        if voice.get("clipped_ms"):
            yield "caller clipped", length(voice["clipped_ms"])


def _rtp(rtp: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for way, title in (("rx", "from the caller"), ("tx", "to the caller")):
        packets = rtp.get(f"{way}_packets")
        if packets is not None:
            jitter = rtp.get(f"{way}_jitter_ms")
            text = f"{packets} packets, {rtp.get(f'{way}_lost') or 0} lost"
            yield title, text + (f", jitter {jitter:.1f} ms" if jitter is not None else "")
    if rtp.get("jitter_buffer_ms") is not None:
        yield "in the jitter buffer", length(rtp["jitter_buffer_ms"])
    if rtp.get("drift_ppm") is not None:
        yield "clock drift", f"{rtp['drift_ppm']:.0f} ppm"
    if rtp.get("rtt_ms") is not None:
        yield "round trip", length(rtp["rtt_ms"])
    if rtp.get("mos") is not None:
        yield "MOS, estimated", f"{rtp['mos']:.1f}"
