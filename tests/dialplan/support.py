"""What the tests of dialplans share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from telbridge.dialplan.facts import Facts
from telbridge.dialplan.loader import DialplanSet, load
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.dialplan.plan import Plan
from telbridge.sessions.dialplan_agents import DialplanAgents

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
"""A Monday."""
ROOT = Path(__file__).parent.parent.parent


AGENTS = DialplanAgents("openai_realtime")
"""The agent APIs of telbridge, as `telbridge check` shows them to the loader."""


def facts(**changes: Any) -> Facts:
    """Of an ordinary call."""
    known: dict[str, Any] = {
        "call_id": "c1",
        "ingress": "sip",
        "caller": "+493012345",
        "called": "+49301234567",
        "started_at": NOW,
        "domain": "example.com",
        "peer": "10.1.2.3:5060",
    }
    return Facts(**{**known, **changes})


def write(folder: Path, **texts: str) -> Path:
    """Files of a folder of dialplans."""
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return folder


def loaded(folder: Path, **texts: str) -> DialplanSet:
    return load(write(folder, **texts), AGENTS)


def plan(folder: Path, text: str) -> Plan:
    """One dialplan."""
    return loaded(folder, plan=text).plans[0]


def mistakes(folder: Path, **texts: str) -> list[str]:
    """The lines that `telbridge check` prints."""
    try:
        loaded(folder, **texts)
    except DialplanErrors as errors:
        return [str(mistake).replace(f"{folder}/", "") for mistake in errors.mistakes]
    return []
