"""Which agent a call talks to: from settings to a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp

from telbridge.call.events import CallFacts
from telbridge.call.ports import Session
from telbridge.config import Settings
from telbridge.sessions.connection import AgentConnection
from telbridge.sessions.openai_realtime import OpenAIRealtime
from telbridge.sessions.openai_settings import OpenAISettings, ServerVad, Transcription

NewSession = Callable[[CallFacts, aiohttp.ClientSession, Any], Session]


def session_factory(settings: Settings, agent_url: str | None) -> NewSession:
    """A function that makes the session of a call. Raises ConfigErrors if a secret is missing."""
    api, api_key = _api(settings, agent_url)

    def new_session(facts: CallFacts, http: aiohttp.ClientSession, log: Any) -> Session:
        protocol = OpenAIRealtime(api, wire_format=facts.wire_format, api_key=api_key)
        return AgentConnection(
            protocol,
            http,
            log=log,
            connect_timeout_s=settings.call.connect_timeout_s,
            setup_timeout_s=settings.call.setup_timeout_s,
        )

    return new_session


def _api(settings: Settings, agent_url: str | None) -> tuple[OpenAISettings, str | None]:
    if settings.call.agent == "openai_realtime":
        return settings.openai_realtime, settings.openai_realtime.api_key.resolve("openai_realtime.api_key")
    assert agent_url is not None
    return _local(settings, agent_url), None


def _local(settings: Settings, agent_url: str) -> OpenAISettings:
    """The embedded agent speaks OpenAI's protocol; what it needs to be told stands in [local_agent]."""
    local = settings.local_agent
    return OpenAISettings(
        url=agent_url,
        model="telbridge-local",
        transcription=Transcription(),
        turn_detection=ServerVad(
            silence_duration_ms=local.end_of_turn_ms, interrupt_response=local.barge_in.enabled
        ),
    )
