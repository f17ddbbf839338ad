"""Every call leaves a record: one JSON object, on disk before anything else may fail."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from telbridge.call.events import CallFacts, Ending, LegQuality
from telbridge.call.playout import PlayoutTotals
from telbridge.call.quality import mos_received, mos_sent
from telbridge.call.summary import CallSummary, Marks
from telbridge.call.turns import Interruption, Turn

HASH_DIGITS: Final = 16
"""Of 64: enough that no two callers of one installation meet."""


@dataclass(frozen=True, slots=True)
class Privacy:
    """What of a call may be kept, and shown."""

    transcripts: bool = True
    key: bytes | None = None
    """Of the hash of telephone numbers; None keeps them as they are."""

    def number(self, number: str) -> str:
        """As it is kept: the same number is always kept as the same text."""
        if self.key is None or not number:
            return number
        digest = hmac.new(self.key, number.encode("utf-8", "replace"), hashlib.sha256)
        return "#" + digest.hexdigest()[:HASH_DIGITS]


def record_of(summary: CallSummary, privacy: Privacy, started_at: datetime) -> dict[str, Any]:
    """The record as it is kept. Keys ending in _ms are ms since the call arrived, or lengths."""
    facts = summary.facts
    ended_at = started_at + timedelta(milliseconds=summary.duration_ms)
    return {
        "call_id": facts.call_id,
        "started_at": started_at.isoformat(timespec="milliseconds"),
        "ended_at": ended_at.isoformat(timespec="milliseconds"),
        "ingress": facts.ingress,
        "trunk": facts.trunk,
        "caller": privacy.number(facts.caller),
        "called": privacy.number(facts.called),
        "peer": facts.peer,
        "signalling_id": facts.signalling_id,
        "codec": str(facts.wire_format),
        "agent": summary.agent,
        "ending": summary.ending.value,
        "detail": summary.detail,
        "duration_ms": round(summary.duration_ms),
        "answered_ms": _rounded(summary.answered_ms),
        "session_ready_ms": _rounded(summary.session_ready_ms),
        "first_sound_ms": _rounded(summary.first_sound_ms),
        "sessions": [_fields(setup) for setup in summary.sessions],
        "caller_voice": _fields(summary.voice),
        "turns": [_turn(turn, privacy.transcripts) for turn in summary.turns if turn != Turn(turn.agent)],
        "voices": _tenths({"caller": summary.caller_speech, "agent": summary.agent_speech}),
        "events": [
            {"at_ms": round(event.at_ms, 1), "kind": event.kind, **_shown(event.facts, privacy)}
            for event in summary.events
        ],
        "events_dropped": summary.events_dropped,
        "agent_heard_ms": summary.playout.heard_samples * 1000 // summary.rate_hz,
        "agent_discarded_ms": summary.playout.discarded_samples * 1000 // summary.rate_hz,
        "underruns": summary.playout.underruns,
        "underrun_frames": summary.playout.underrun_frames,
        "uplink_dropped_ms": summary.uplink_dropped_ms,
        "dtmf_count": summary.dtmf_count,
        "session_losses": summary.session_losses,
        "dialplan": summary.dialplan,
        "dialplan_version": summary.dialplan_version,
        "tags": summary.marks.tags,
        "counts": summary.marks.counts,
        "dialplan_failures": dict(summary.marks.failures),
        "faults": dict(summary.faults),
        "recording": _fields(summary.recording) if summary.recording else None,
        "carrier": dict(summary.carrier),
        "rtp": _rtp(summary.quality) if summary.quality else None,
    }


def record_without_a_call(facts: CallFacts, ending: Ending, detail: str, privacy: Privacy) -> dict[str, Any]:
    """Of a call that came to nothing: no dialplan wanted it, or it fell over a bug of ours."""
    nothing = CallSummary(
        facts=facts,
        ending=ending,
        detail=detail,
        duration_ms=0.0,
        answered_ms=None,
        session_ready_ms=None,
        turns=[],
        playout=PlayoutTotals(),
        rate_hz=facts.wire_format.rate_hz,
        quality=None,
        uplink_dropped_ms=0,
        dtmf_count=0,
        session_losses=0,
        dialplan="",
        dialplan_version="",
        marks=Marks(),
    )
    return record_of(nothing, privacy, datetime.now(UTC))


def summary_line(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the log says of a call that is over: its figures, and nothing of who called."""
    turns = record["turns"]
    gaps_ms = [turn["gap_ms"] for turn in turns if turn["gap_ms"] is not None]
    rtp = record["rtp"] or {}
    kept = ("ingress", "trunk", "agent", "dialplan", "ending", "duration_ms", "answered_ms")
    return {
        **{name: record[name] for name in kept},
        "turns": len(turns),
        "worst_gap_ms": max(gaps_ms, default=None),
        "interruptions": sum(1 for turn in turns if turn["interruption"]),
        "underruns": record["underruns"],
        "session_losses": record["session_losses"],
        "rx_lost": rtp.get("rx_lost"),
        "mos": rtp.get("mos"),
    }


def worse_mos(quality: LegQuality) -> float | None:
    """Of the two directions."""
    scores = [score for score in (mos_received(quality), mos_sent(quality)) if score is not None]
    return round(min(scores), 2) if scores else None


def _rtp(quality: LegQuality) -> dict[str, Any]:
    return {**_fields(quality), "mos": worse_mos(quality)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _shown(facts: Mapping[str, str], privacy: Privacy) -> dict[str, str]:
    return {name: privacy.number(fact) if name == "target" else fact for name, fact in facts.items()}


def _turn(turn: Turn, transcripts: bool) -> dict[str, Any]:
    left_out = {"replies", "interruption", "tools"} | (
        set() if transcripts else {"caller_text", "agent_text"}
    )
    return {
        **_fields(turn, left_out),
        "gap_ms": _rounded(turn.gap_ms),
        "parts_ms": _parts(turn.parts_ms),
        "tools": [_fields(tool) for tool in turn.tools],
        "interruption": _interruption(turn.interruption),
    }


def _parts(parts_ms: Mapping[str, float]) -> dict[str, float]:
    """Rounded, so that they still add up to the rounded whole."""
    ends = [round(end, 1) for end in accumulate(parts_ms.values())]
    lengths = (round(end - start, 1) for start, end in zip([0.0, *ends], ends, strict=False))
    return dict(zip(parts_ms, lengths, strict=True))


def _interruption(one: Interruption | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        **_fields(one),
        "detect_ms": _rounded(one.detect_ms),
        "talk_over_ms": _rounded(one.talk_over_ms),
    }


def _fields(one: Any, left_out: Collection[str] = ()) -> dict[str, Any]:
    """Of a dataclass that holds no others; `asdict` copies deeply, which takes five times as long."""
    return {name: _tenths(getattr(one, name)) for name in one.__dataclass_fields__ if name not in left_out}


def _tenths(value: Any) -> Any:
    """Every figure of a tree to a tenth."""
    if isinstance(value, float):
        return round(value, 1)
    if isinstance(value, dict):
        return {key: _tenths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tenths(inner) for inner in value]
    return value


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """To a file of JSON Lines. Blocks. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    with open(path, "ab", opener=_privately) as file:
        file.write(line)
