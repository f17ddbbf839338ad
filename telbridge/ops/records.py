"""Every call leaves a record: one JSON object a line, appended by a thread, never on the audio path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import structlog

from telbridge.call.summary import CallSummary
from telbridge.call.turns import Interruption, Turn

log = structlog.get_logger()


def record_of(summary: CallSummary, *, transcripts: bool, ended_at: datetime | None = None) -> dict[str, Any]:
    """The record as it is written. Keys ending in _ms are ms since the call arrived, or lengths."""
    facts = summary.facts
    return {
        "call_id": facts.call_id,
        "ended_at": (ended_at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "ingress": facts.ingress,
        "caller": facts.caller,
        "called": facts.called,
        "peer": facts.peer,
        "signalling_id": facts.signalling_id,
        "codec": str(facts.wire_format),
        "ending": summary.ending.value,
        "detail": summary.detail,
        "duration_ms": round(summary.duration_ms),
        "answered_ms": _rounded(summary.answered_ms),
        "session_ready_ms": _rounded(summary.session_ready_ms),
        "agent": summary.agent,
        "first_sound_ms": _rounded(summary.first_sound_ms),
        "caller_voice": asdict(summary.voice),
        "turns": [_turn(turn, transcripts) for turn in summary.turns if turn != Turn(turn.agent)],
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
        "carrier": dict(summary.carrier),
        "rtp": asdict(summary.quality) if summary.quality else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _turn(turn: Turn, transcripts: bool) -> dict[str, Any]:
    left_out = {"replies", "interruption"} | (set() if transcripts else {"caller_text", "agent_text"})
    kept = {key: value for key, value in asdict(turn).items() if key not in left_out}
    return {
        **_tenths(kept),
        "gap_ms": _rounded(turn.gap_ms),
        "parts_ms": _parts(turn.parts_ms),
        "tools": [_tenths(asdict(tool)) for tool in turn.tools],
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
        **_tenths(asdict(one)),
        "detect_ms": _rounded(one.detect_ms),
        "talk_over_ms": _rounded(one.talk_over_ms),
    }


def _tenths(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 1) if isinstance(value, float) else value for key, value in figures.items()}


class RecordFile:
    """An append-only file of records; a write that fails is logged with the call's id and tried no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    async def write(self, record: Mapping[str, Any]) -> None:
        """One line, in a thread: a slow disk delays nobody's audio."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as error:
            log.error("record_lost", call_id=record["call_id"], path=str(self.path), error=str(error))

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
