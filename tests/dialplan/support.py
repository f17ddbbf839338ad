"""What the tests of dialplans share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.loader import DialplanSet, load
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.dialplan.plan import Plan
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.provider import Provider, problems, refuse_locked_neutral
from telbridge.sessions.providers import PROVIDERS

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
"""A Monday."""
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class RealAgents:
    """The agent APIs of telbridge, as `telbridge check` will show them to the loader."""

    default: str = "openai_realtime"

    @property
    def names(self) -> list[str]:
        return ["local", *PROVIDERS]

    def problems(
        self, agent: str, neutral: NeutralSettings, vendor: Json, *, running: bool
    ) -> Iterable[tuple[str, str, str]]:
        provider: Provider[Any] | None = PROVIDERS.get(agent)
        if provider is None:
            return
        found = problems(provider, neutral)
        for key, what in found:
            yield key, what, "remove it, or choose another agent"
        if running and not found:
            try:
                refuse_locked_neutral(provider, neutral, spoken=False)
            except UpdateImpossible as error:
                yield error.key, error.why, "set it in [session]"


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
    return load(write(folder, **texts), RealAgents())


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
