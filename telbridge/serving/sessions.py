"""Which agent a call talks to: from settings, and what its dialplan wants, to a session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog

from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import CallFacts, Said
from telbridge.call.ports import Session, SessionImpossible, UpdateImpossible
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.dialplan.plan import Wanted
from telbridge.dialplan.vocabulary import Json, NeutralSettings, TurnDetection
from telbridge.sessions.base import Opening
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.link import Patience
from telbridge.sessions.provider import (
    Ability,
    Provider,
    VendorSettings,
    Way,
    deep_merged,
    merged,
    problems,
)
from telbridge.sessions.providers import PROVIDERS

log = structlog.get_logger()

LOCAL: Final = "local"
REFRESH_S: Final = 20 * 60.0
"""Fetched secrets live for an hour at the least."""
TRY_AGAIN_S: Final = 30.0


class Sessions:
    """What the sessions of all calls of a worker have in common."""

    def __init__(self, settings: Settings, agent_port: int | None, agents: Iterable[str] = ()) -> None:
        """`agents`: those that the dialplans name beside the one of the settings. Blocks where one wants a
        secret that has to be fetched: before any call. ConfigErrors if a secret is missing."""
        self._settings, self._agent_port = settings, agent_port
        self._patience = Patience(
            connect_s=settings.call.connect_timeout_s, setup_s=settings.call.setup_timeout_s
        )
        self._fetched: dict[str, Mapping[str, str]] = {}
        self._usual: dict[str, tuple[Json, VendorSettings]] = {}
        self._asked: dict[str, _Asked] = {}
        errors: list[ConfigError] = []
        for name in dict.fromkeys([settings.call.agent, *agents]):
            try:
                self._prepare(name)
            except SecretMissing as missing:
                section = self.provider(name).name
                key = missing.key if missing.key.startswith(f"{section}.") else f"{section}.{missing.key}"
                errors.append(ConfigError("settings", key, missing.what, missing.instead))
        if errors:
            raise ConfigErrors(errors)

    def _prepare(self, name: str) -> None:
        provider = self.provider(name)
        settings = self._vendor(name)
        self._fetched[name] = provider.fetch_secrets(settings)
        provider.open(settings, Opening("check", PCMU_8K, self.environ(name)))

    def of_call(self, facts: CallFacts, http: aiohttp.ClientSession, log: Any) -> CallAgents:
        """The agents of one call."""
        return CallAgents(self, facts, http, self._patience, log)

    def provider(self, name: str) -> Provider[Any]:
        """KeyError if there is none of this name; "local" speaks one of the others' APIs."""
        return PROVIDERS[self._settings.call.local_api if name == LOCAL else name]

    @property
    def default(self) -> str:
        """The agent that answers where nothing else is said."""
        return self._settings.call.agent

    def environ(self, name: str) -> Mapping[str, str]:
        fetched = self._fetched.get(name)
        return {**os.environ, **fetched} if fetched else os.environ

    def settings_of(self, name: str, neutral: NeutralSettings, vendor: Json) -> VendorSettings:
        """All that such a session is asked for. UpdateImpossible for a vendor's value that does not fit."""
        last = self._asked.get(name)
        if last is not None and last.neutral == neutral and last.vendor == vendor:
            return last.settings
        usual, settings = self._of_settings(name)
        asked = deep_merged(usual, neutral.model_dump(exclude_unset=True))
        if vendor:
            settings = merged(settings, vendor, spoken=False, running=False)
        complete: VendorSettings = self.provider(name).with_neutral(
            settings, NeutralSettings.model_validate(asked)
        )
        self._asked[name] = _Asked(neutral, vendor, complete)
        return complete

    def _of_settings(self, name: str) -> tuple[Json, VendorSettings]:
        """What the settings ask of every such session: neutral ones, and the vendor's."""
        if name not in self._usual:
            asked = self._settings.session.model_dump(exclude_unset=True)
            if name == LOCAL:
                asked = _able(self.provider(name), _local(self._settings.local_agent)) | asked
            self._usual[name] = asked, self._vendor(name)
        return self._usual[name]

    def _vendor(self, name: str) -> VendorSettings:
        if name != LOCAL:
            return self._settings.vendor(name)
        assert self._agent_port is not None
        embedded: VendorSettings = self.provider(name).embedded(self._agent_port)
        return embedded

    async def keep_secrets_fresh(self) -> None:
        """Until cancelled; ends at once if none has to be fetched."""
        wait_s = REFRESH_S
        while any(self._fetched.values()):
            await asyncio.sleep(wait_s)
            wait_s = REFRESH_S if await self._refreshed() else TRY_AGAIN_S

    async def _refreshed(self) -> bool:
        for name in [name for name, secrets in self._fetched.items() if secrets]:
            try:
                self._fetched[name] = await asyncio.to_thread(
                    self.provider(name).fetch_secrets, self._vendor(name)
                )
            except SecretMissing as missing:
                log.warning("secret_not_refreshed", what=str(missing))
                return False
            except Exception as fault:  # noqa: BLE001 - the vendor's library; later no call would get in
                log.warning("secret_not_refreshed", what=type(fault).__name__)
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the last call asked of an agent, and what came of it: most calls ask for the same."""

    neutral: NeutralSettings
    vendor: Json
    settings: VendorSettings


@dataclass(frozen=True, slots=True)
class CallAgents:
    """Implements `telbridge.call.ports.Agents`."""

    sessions: Sessions
    facts: CallFacts
    http: aiohttp.ClientSession
    patience: Patience
    log: Any

    def open(self, wanted: Wanted, *, said: Sequence[Said] = (), replies_from: int = 0) -> Session:
        name = wanted.agent or self.sessions.default
        try:
            provider = self.sessions.provider(name)
            settings = self.sessions.settings_of(name, wanted.neutral, wanted.vendor)
            opening = Opening(self.facts.call_id, self.facts.wire_format, self.sessions.environ(name))
            protocol = provider.open(settings, opening)
        except (SecretMissing, UpdateImpossible, KeyError) as why:
            raise SessionImpossible(f"{name}: {why}") from None
        if said:
            protocol = protocol.successor(said) or protocol
        return AgentConnection(
            protocol,
            self.http,
            log=self.log,
            patience=self.patience,
            replies_from=replies_from,
            says_exactly=provider.abilities[Ability.SAY].way is not Way.IMPOSSIBLE,
        )


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
