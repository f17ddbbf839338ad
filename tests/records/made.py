"""Records for the tests, as workers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def record(call_id: str = "c1", *, minute: int = 0, **more: Any) -> dict[str, Any]:
    """A good call that ended so many minutes after noon."""
    ended_at = NOON + timedelta(minutes=minute)
    return {
        "call_id": call_id,
        "started_at": (ended_at - timedelta(seconds=30)).isoformat(timespec="milliseconds"),
        "ended_at": ended_at.isoformat(timespec="milliseconds"),
        "ingress": "sip",
        "trunk": "",
        "caller": "+491701",
        "called": "+4930",
        "peer": "192.0.2.1:5060",
        "signalling_id": "abc@host",
        "codec": "pcma/8000",
        "agent": "deepgram",
        "ending": "caller_hung_up",
        "detail": "",
        "duration_ms": 30_000,
        "answered_ms": 900.0,
        "session_ready_ms": 800.0,
        "turns": [greeting()],
        "voices": {"caller": [], "agent": [[970.0, 2500.0]]},
        "events": [],
        "events_dropped": 0,
        "agent_heard_ms": 2000,
        "agent_discarded_ms": 0,
        "underruns": 0,
        "underrun_frames": 0,
        "uplink_dropped_ms": 0,
        "dtmf_count": 0,
        "session_losses": 0,
        "dialplan": "support",
        "dialplan_version": "abc123",
        "tags": [],
        "counts": {},
        "dialplan_failures": {},
        "faults": {},
        "rtp": None,
        **more,
    }


def greeting() -> dict[str, Any]:
    return turn(agent_first_audio_ms=950.0, agent_first_frame_ms=970.0, agent_text="Hello.")


def turn(**more: Any) -> dict[str, Any]:
    """One in which nothing happened, but for what is said."""
    return {
        "agent": "deepgram",
        "caller_started_ms": None,
        "voice_ended_ms": None,
        "uplink_sent_ms": None,
        "caller_stopped_ms": None,
        "agent_first_audio_ms": None,
        "agent_first_frame_ms": None,
        "agent_on_wire_ms": None,
        "agent_over_caller_ms": None,
        "missed_interruptions": 0,
        "caller_text": "",
        "agent_text": "",
        "interruption": None,
        "tools": [],
        "server_latency_ms": {},
        "gap_ms": None,
        "parts_ms": {},
        **more,
    }


def answered(at_ms: float, *, more: dict[str, Any] | None = None, **parts: float) -> dict[str, Any]:
    """The caller spoke for two seconds until `at_ms`; these parts make the wait for the answer."""
    parts_ms = {
        "uplink": 5.0,
        "end_of_turn": 300.0,
        "first_audio": 280.0,
        "downlink": 20.0,
        "wire": 1.0,
        **parts,
    }
    gap_ms = sum(parts_ms.values())
    stopped_ms = at_ms + parts_ms["uplink"] + parts_ms["end_of_turn"]
    return turn(
        caller_started_ms=at_ms - 2000,
        voice_ended_ms=at_ms,
        caller_stopped_ms=stopped_ms,
        agent_first_audio_ms=stopped_ms + parts_ms["first_audio"],
        agent_first_frame_ms=at_ms + gap_ms,
        agent_on_wire_ms=at_ms + gap_ms,
        gap_ms=gap_ms,
        parts_ms=parts_ms,
        **{"caller_text": "Yes.", "agent_text": "Good.", **(more or {})},
    )


def cut(at_ms: float, **more: Any) -> dict[str, Any]:
    """An interruption."""
    return {
        "at_ms": at_ms,
        "by": "api",
        "onset_ms": at_ms - 200,
        "detect_ms": 200.0,
        "stop_ms": 20.0,
        "talk_over_ms": 220.0,
        "heard_ms": 600,
        "discarded_ms": 900,
        "false": False,
        **more,
    }
