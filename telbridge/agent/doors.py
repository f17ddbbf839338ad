"""All APIs that the embedded agent speaks; a new one is one row here."""

from __future__ import annotations

from typing import Final

from telbridge.agent.facade import Door
from telbridge.agent.facades.assemblyai import door as door_assemblyai
from telbridge.agent.facades.azure import door as door_azure
from telbridge.agent.facades.companion import door as door_companion
from telbridge.agent.facades.deepgram import door as door_deepgram
from telbridge.agent.facades.openai import door as door_openai

DOORS: Final[tuple[Door, ...]] = (
    door_openai.routes,
    door_deepgram.routes,
    door_assemblyai.routes,
    door_azure.routes,
    door_companion.routes,
)
