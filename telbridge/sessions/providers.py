"""All agent APIs that telbridge speaks; a new one is one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from telbridge.sessions import assemblyai, azure_voicelive, companion, deepgram, openai_realtime
from telbridge.sessions.provider import Provider

PROVIDERS: Final[Mapping[str, Provider[Any]]] = {
    provider.name: provider
    for provider in (
        openai_realtime.PROVIDER,
        deepgram.PROVIDER,
        assemblyai.PROVIDER,
        azure_voicelive.PROVIDER,
        companion.PROVIDER,
    )
}
