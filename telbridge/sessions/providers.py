"""All agent APIs that telbridge speaks; a new one is one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from telbridge.sessions.assemblyai import protocol as assemblyai
from telbridge.sessions.azure import protocol as azure
from telbridge.sessions.companion import protocol as companion
from telbridge.sessions.deepgram import protocol as deepgram
from telbridge.sessions.openai import protocol as openai
from telbridge.sessions.provider import Provider

PROVIDERS: Final[Mapping[str, Provider[Any]]] = {
    provider.name: provider
    for provider in (
        openai.PROVIDER,
        deepgram.PROVIDER,
        assemblyai.PROVIDER,
        azure.PROVIDER,
        companion.PROVIDER,
    )
}
