"""Which agent a call talks to: from settings to a session."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import aiohttp
import structlog

from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCMU_8K, AudioFormat
from telbridge.call.call import HANG_UP_TOOL
from telbridge.call.events import CallFacts
from telbridge.call.ports import Session
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.dialplan.vocabulary import NeutralSettings, Tool, TurnDetection
from telbridge.sessions.base import AgentProtocol, Opening
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.link import Patience
from telbridge.sessions.provider import Ability, Provider, VendorSettings, Way, problems
from telbridge.sessions.providers import PROVIDERS

log = structlog.get_logger()

REFRESH_S: Final = 20 * 60.0
"""Fetched secrets live for an hour at the least."""
TRY_AGAIN_S: Final = 30.0


class Sessions:
    """Makes the session of each call. ConfigErrors if a secret is missing."""

    def __init__(self, settings: Settings, agent_port: int | None) -> None:
        """Blocks where the agent API wants a secret that has to be fetched: before any call."""
        self._provider, vendor = _agent(settings, agent_port)
        self._vendor = self._provider.with_neutral(vendor, _asked(settings, self._provider))
        self._patience = Patience(
            connect_s=settings.call.connect_timeout_s, setup_s=settings.call.setup_timeout_s
        )
        try:
            self._fetched = self._provider.fetch_secrets(self._vendor)
            self._protocol("check", PCMU_8K)
        except SecretMissing as missing:
            name = self._provider.name
            key = missing.key if missing.key.startswith(f"{name}.") else f"{name}.{missing.key}"
            raise ConfigErrors([ConfigError("settings", key, missing.what, missing.instead)]) from None

    def new(self, facts: CallFacts, http: aiohttp.ClientSession, log: Any) -> Session:
        protocol = self._protocol(facts.call_id, facts.wire_format)
        return AgentConnection(protocol, http, log=log, patience=self._patience)

    async def keep_secrets_fresh(self) -> None:
        """Until cancelled; ends at once if none has to be fetched."""
        wait_s = REFRESH_S
        while self._fetched:
            await asyncio.sleep(wait_s)
            try:
                self._fetched = await asyncio.to_thread(self._provider.fetch_secrets, self._vendor)
                wait_s = REFRESH_S
            except SecretMissing as missing:
                log.warning("secret_not_refreshed", what=str(missing))
                wait_s = TRY_AGAIN_S
            except Exception as fault:  # noqa: BLE001 - the vendor's library; an hour later no call would get in
                log.warning("secret_not_refreshed", what=type(fault).__name__)
                wait_s = TRY_AGAIN_S

    def _protocol(self, call_id: str, wire_format: AudioFormat) -> AgentProtocol:
        environ = {**os.environ, **self._fetched} if self._fetched else os.environ
        return self._provider.open(self._vendor, Opening(call_id, wire_format, environ))


def _asked(settings: Settings, provider: Provider[Any]) -> NeutralSettings:
    """[session], and the tools that the call itself answers."""
    asked = settings.session.model_dump(exclude_unset=True)
    if settings.call.agent == "local":
        asked = _able(provider, _local(settings.local_agent)) | asked
    if settings.call.agent_may_hang_up and provider.abilities[Ability.TOOLS].way is not Way.IMPOSSIBLE:
        asked["tools"] = [
            Tool(
                name=HANG_UP_TOOL,
                description="End the phone call. Call it when the caller has said goodbye or wants to stop.",
            )
        ]
    return NeutralSettings.model_validate(asked)


def _local(agent: AgentSettings) -> NeutralSettings:
    """What stands in [local_agent] and is the client's to ask for."""
    return NeutralSettings(
        turn_detection=TurnDetection(mode="vad", silence_ms=agent.end_of_turn_ms),
        barge_in=agent.barge_in.enabled,
    )


def _able(provider: Provider[Any], neutral: NeutralSettings) -> dict[str, Any]:
    """What of it this API can be asked at all: the embedded agent's own defaults do the rest."""
    unable = {key.partition(".")[0] for key, _ in problems(provider, neutral)}
    return neutral.model_dump(exclude_unset=True, exclude=unable)


def _agent(settings: Settings, agent_port: int | None) -> tuple[Provider[Any], VendorSettings]:
    if settings.call.agent != "local":
        return PROVIDERS[settings.call.agent], settings.vendor(settings.call.agent)
    assert agent_port is not None
    provider = PROVIDERS[settings.call.local_api]
    return provider, provider.embedded(agent_port)
