"""Every call leaves a record: one JSON object a line, appended by a thread, never on the audio path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from telbridge.call.summary import CallSummary

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
        "turns": [_turn(asdict(turn), transcripts) for turn in summary.turns if turn != type(turn)()],
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


def _turn(turn: Mapping[str, Any], transcripts: bool) -> dict[str, Any]:
    private = () if transcripts else ("caller_text", "agent_text")
    kept = {key: value for key, value in turn.items() if key not in private and key != "replies"}
    if kept["interruption"]:
        kept["interruption"] = _tenths(kept["interruption"])
    return _tenths(kept)


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
