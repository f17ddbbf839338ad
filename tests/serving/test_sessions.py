"""From settings to the session of a call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from telbridge.audio.formats import PCM_16K, PCMA_8K
from telbridge.call.events import CallFacts
from telbridge.call.ports import SessionImpossible
from telbridge.config import ConfigErrors, Settings
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.plan import Wanted
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.serving import sessions
from telbridge.serving.dialplans import HANG_UP_TOOL, built_in
from telbridge.serving.messages import WorkerStart
from telbridge.serving.sessions import Sessions
from telbridge.sessions.connection import make_http_session
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.providers import PROVIDERS

FACTS = CallFacts("c1", "sip", "alice", "bob", "127.0.0.1:5061", PCMA_8K)
KEYS = {
    "openai_realtime": {},
    "deepgram": {},
    "assemblyai": {},
    "azure_voice_live": {"resource": "mine"},
    "companion": {"companionId": "c", "providerConfig": {"voiceId": "alloy"}},
}


def settings_for(provider: str, **sections: Any) -> Settings:
    return Settings.model_validate({"call": {"agent": provider}, provider: KEYS[provider], **sections})


def wanted(settings: Settings) -> Wanted:
    """What a call without a dialplan of its own asks for."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    return built_in(settings).opening(Facts("c1", "sip", "alice", "bob", now), now).wanted


def asked_of(made: Sessions, settings: Settings) -> str:
    """All that such a session's API is asked for."""
    asked = wanted(settings)
    return made.settings_of(settings.call.agent, asked.neutral, asked.vendor).model_dump_json()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_missing_key_is_told_before_any_call(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI",
        "DEEPGRAM",
        "ASSEMBLYAI",
        "AZURE_VOICE_LIVE",
        "AZURE_VOICELIVE",
        "NAPSTER",
        "COMPANION",
    ):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    with pytest.raises(ConfigErrors) as caught:
        Sessions(settings_for(provider), None)
    (error,) = caught.value.errors
    assert error.key.startswith(f"{provider}.")
    assert error.instead


@pytest.mark.parametrize("api", PROVIDERS)
async def test_the_embedded_agent_needs_no_key_in_whichever_api_it_is_spoken_to(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    settings = Settings.model_validate({"call": {"local_api": api}})
    made = Sessions(settings, 1)
    async with make_http_session() as http:
        session = made.of_call(FACTS, http, structlog.get_logger()).open(wanted(settings))
    # The law of the line, where the API takes it.
    assert session.uplink_format == (PCM_16K if api == "companion" else PCMA_8K)
    assert HANG_UP_TOOL in asked_of(made, settings)


def test_the_settings_survive_the_way_to_the_worker_with_what_was_set_and_no_more() -> None:
    settings = settings_for(
        "deepgram", session={"instructions": "Be brief."}, deepgram={"url": "ws://127.0.0.1:1"}
    )
    line = WorkerStart(settings=settings, agent_port=None).model_dump_json(exclude_unset=True)
    there = WorkerStart.model_validate_json(line).settings
    assert there == settings
    assert there.session.model_fields_set == {"instructions"}
    assert there.vendor("deepgram").model_fields_set == {"url"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_asked_of_any_agent_reaches_the_settings_of_each(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {
        **KEYS[provider],
        "url": "http://127.0.0.1:1" if provider == "companion" else "ws://127.0.0.1:1",
    }
    section.pop("resource", None)
    settings = settings_for(provider, session={"instructions": "Be brief."}, **{provider: section})
    made = Sessions(settings, None)
    shown = asked_of(made, settings)
    assert "Be brief." in shown
    if provider != "companion":  # Its tools are made at the vendor beforehand.
        assert HANG_UP_TOOL in shown
    quiet = settings.model_copy(
        update={"call": settings.call.model_copy(update={"agent_may_hang_up": False})}
    )
    assert HANG_UP_TOOL not in asked_of(Sessions(quiet, None), quiet)


class Fetching:
    """Fetches another token each time; the second time fails."""

    def __init__(self) -> None:
        self.times = 0
        self.fetched = asyncio.Event()

    def __call__(self, settings: object) -> Mapping[str, str]:
        self.times += 1
        if self.times == 2:
            raise SecretMissing("k", "no network", "wait")
        return {"TELBRIDGE_AZURE_ENTRA_TOKEN": f"token-{self.times}"}


async def test_a_fetched_secret_is_fetched_again_and_a_failure_keeps_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching = Fetching()
    azure = PROVIDERS["azure_voice_live"]
    monkeypatch.setitem(
        sessions.PROVIDERS,  # type: ignore[arg-type]
        "azure_voice_live",
        type(azure)(**{name: getattr(azure, name) for name in azure.__slots__} | {"fetch_secrets": fetching}),
    )
    monkeypatch.setattr(sessions, "REFRESH_S", 0.0)
    monkeypatch.setattr(sessions, "TRY_AGAIN_S", 0.0)
    made = Sessions(
        settings_for("azure_voice_live", azure_voice_live={"resource": "mine", "entra": True}), None
    )
    token = "TELBRIDGE_AZURE_ENTRA_TOKEN"
    assert made.environ("azure_voice_live")[token] == "token-1"
    keeping = asyncio.create_task(made.keep_secrets_fresh())
    seen = set()
    async with asyncio.timeout(20):
        while fetching.times < 4:
            seen.add(made.environ("azure_voice_live")[token])
            await asyncio.sleep(0)
    keeping.cancel()
    assert "token-2" not in seen
    assert {"token-1", "token-3"} <= seen | {made.environ("azure_voice_live")[token]}


async def test_where_nothing_is_fetched_nothing_keeps_running() -> None:
    made = Sessions(Settings(), 1)
    await asyncio.wait_for(made.keep_secrets_fresh(), 20)


async def test_what_a_dialplan_wants_stands_over_the_settings() -> None:
    section = {"url": "ws://127.0.0.1:1", "speed": 1.1, "raw": {"new": 1}}
    session = {"instructions": "Be brief.", "voice": "marin"}
    made = Sessions(settings_for("openai_realtime", session=session, openai_realtime=section), None)
    wish = NeutralSettings(instructions="Take orders.")
    shown = made.settings_of("openai_realtime", wish, {"speed": 0.9}).model_dump()
    assert shown["instructions"] == "Take orders."
    assert shown["speed"] == 0.9
    assert (shown["voice"], shown["raw"]) == ("marin", {"new": 1}), "what the dialplan does not name stays"


async def test_a_session_that_cannot_be_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    made = Sessions(Settings(), 1)
    async with make_http_session() as http:
        agents = made.of_call(FACTS, http, structlog.get_logger())
        for name, why in (("deepgram", "deepgram: "), ("nobody", "nobody: ")):
            with pytest.raises(SessionImpossible, match=why):
                agents.open(Wanted(name, NeutralSettings(), {}))


def test_what_is_asked_again_is_not_made_again_and_what_differs_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    settings = settings_for("openai_realtime", session={"voice": "marin"})
    made = Sessions(settings, None)
    first = made.settings_of("openai_realtime", NeutralSettings(language="de"), {"speed": 1.2})
    assert made.settings_of("openai_realtime", NeutralSettings(language="de"), {"speed": 1.2}) is first
    other = made.settings_of("openai_realtime", NeutralSettings(language="fr"), {"speed": 1.2})
    plain = made.settings_of("openai_realtime", NeutralSettings(), {})
    shown = [one.model_dump(include={"language", "speed", "voice"}) for one in (first, other, plain)]
    assert shown == [
        {"language": "de", "speed": 1.2, "voice": "marin"},
        {"language": "fr", "speed": 1.2, "voice": "marin"},
        {"language": None, "speed": 1.0, "voice": "marin"},
    ]
