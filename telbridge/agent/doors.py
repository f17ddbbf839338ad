"""All APIs that the embedded agent speaks; a new one is one row here."""

from __future__ import annotations

from typing import Final

from telbridge.agent import door_assemblyai, door_azure, door_companion, door_deepgram, door_openai
from telbridge.agent.facade import Door

DOORS: Final[tuple[Door, ...]] = (
    door_openai.routes,
    door_deepgram.routes,
    door_assemblyai.routes,
    door_azure.routes,
    door_companion.routes,
)
