"""From settings to the session of a call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from telbridge.audio.formats import PCM_16K, PCMA_8K, PCMU_8K
from telbridge.call.call import HANG_UP_TOOL
from telbridge.call.events import CallFacts
from telbridge.config import ConfigErrors, Settings
from telbridge.serving import sessions
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
    made = Sessions(Settings.model_validate({"call": {"local_api": api}}), 1)
    async with make_http_session() as http:
        session = made.new(FACTS, http, structlog.get_logger())
    # The law of the line, where the API takes it.
    assert session.uplink_format == (PCM_16K if api == "companion" else PCMA_8K)
    assert HANG_UP_TOOL in made._vendor.model_dump_json()


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
    shown = made._vendor.model_dump_json()
    assert "Be brief." in shown
    if provider != "companion":  # Its tools are made at the vendor beforehand.
        assert HANG_UP_TOOL in shown
    quiet = settings.model_copy(
        update={"call": settings.call.model_copy(update={"agent_may_hang_up": False})}
    )
    assert HANG_UP_TOOL not in Sessions(quiet, None)._vendor.model_dump_json()


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
    assert made._fetched == {token: "token-1"}
    keeping = asyncio.create_task(made.keep_secrets_fresh())
    seen = set()
    async with asyncio.timeout(5):
        while fetching.times < 4:
            seen.add(made._fetched[token])
            await asyncio.sleep(0)
    keeping.cancel()
    assert "token-2" not in seen
    assert {"token-1", "token-3"} <= seen | {made._fetched[token]}


async def test_where_nothing_is_fetched_nothing_keeps_running() -> None:
    made = Sessions(Settings(), 1)
    await asyncio.wait_for(made.keep_secrets_fresh(), 1)
    assert made._protocol("c", PCMU_8K).uplink_format == PCMU_8K
