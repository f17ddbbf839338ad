"""The agent APIs as the settings have them, for the checker of dialplans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from telbridge.config import Settings
from telbridge.dialplan.asking import Asked
from telbridge.sessions.dialplan_agents import LOCAL, DialplanAgents
from telbridge.sessions.providers import PROVIDERS


class AgentApis:
    """Implements `telbridge.dialplan.asking.Agents`."""

    def __init__(self, settings: Settings, *, local_runs: bool = True) -> None:
        """`local_runs`: the embedded agent is there, or will be if a dialplan names it."""
        self._apis = DialplanAgents(
            default=settings.call.agent,
            local_api=settings.call.local_api,
            sections={name: getattr(settings, name) for name in PROVIDERS},
        )
        self._local_runs = local_runs

    @property
    def names(self) -> Sequence[str]:
        return self._apis.names

    @property
    def default(self) -> str:
        return self._apis.default

    def cannot(self, agent: str, action: str) -> str | None:
        return self._apis.cannot(agent, action)

    def problems(self, agent: str, asked: Asked) -> Iterable[tuple[str, str, str]]:
        if agent == LOCAL and not self._local_runs:
            yield "agent", "the embedded agent is not running", "restart telbridge, which then starts it"
        yield from self._apis.problems(agent, asked)
