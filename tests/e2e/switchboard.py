"""One running telbridge for calls to every agent API: each has a number, a dialplan and an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from telbridge.sessions.providers import PROVIDERS
from tests.e2e.bridge import Bridge, serving
from tests.ports import free_port

SECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "openai_realtime": {"url": "ws://127.0.0.1:{port}/v1/realtime", "transcription": "{}"},
    "deepgram": {"url": "ws://127.0.0.1:{port}/v1/agent/converse"},
    "assemblyai": {"url": "ws://127.0.0.1:{port}/v1/ws"},
    "azure_voice_live": {"url": "ws://127.0.0.1:{port}/voice-live/realtime", "model": "gpt-4.1"},
    "companion": {
        "url": "http://127.0.0.1:{port}",
        "companionId": "comp_1",
        "providerConfig": '{ voiceId = "alloy" }',
    },
}


def section(provider: str, port: int) -> dict[str, Any]:
    """Settings for an agent of that API at that port of ours."""
    return {
        key: value.format(port=port) if key == "url" else value for key, value in SECTIONS[provider].items()
    }


class Switchboard:
    """Takes the calls of several tests, one after the other."""

    def __init__(self, bridge: Bridge, ports: Mapping[str, int]) -> None:
        self.bridge = bridge
        self.ports = ports
        """Where each API is looked for: nothing listens there by itself."""
        self._logged, self._records = 0, 0

    def uri(self, provider: str) -> str:
        """To be called. What was logged before is of no interest any more."""
        self._logged, self._records = len(self.bridge.log), len(self.bridge.logged("call_ended"))
        return self.bridge.uri.replace("agent@", f"{_number(provider)}@")

    async def until_logged(self, event: str) -> dict[str, Any]:
        """The first such line of the call."""
        older = sum(line["event"] == event for line in self.bridge.log[: self._logged])
        return (await self.bridge.until_logged(event, count=older + 1))[older]

    async def record(self) -> dict[str, Any]:
        return (await self.bridge.records(self._records + 1))[self._records]


def _number(provider: str) -> str:
    return f"+493055504{list(PROVIDERS).index(provider):02}"


@asynccontextmanager
async def switchboard(build: str, folder: Path, plans: Mapping[str, str]) -> AsyncIterator[Switchboard]:
    """`plans`: what stands in each API's dialplan."""
    ports = {provider: free_port() for provider in plans}
    dialplans = folder / "dialplans"
    dialplans.mkdir()
    for provider, plan in plans.items():
        chosen = f'match.called = "{_number(provider)}"\nsession.agent = "{provider}"\n'
        (dialplans / f"{provider}.toml").write_text(chosen + plan, "utf-8")
    settings: dict[str, Any] = {provider: section(provider, port) for provider, port in ports.items()}
    settings |= {"dialplans": {"folder": str(dialplans)}, "call": {"agent": next(iter(plans))}}
    async with serving(build, folder, settings) as bridge:
        yield Switchboard(bridge, ports)
