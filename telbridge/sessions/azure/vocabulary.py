"""Names of the Azure Voice Live API: its server events, and the states of a session. Data.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" (2026-07-15); `ServerEventType` of
azure-ai-voicelive 1.3.1. The dialect is the beta shape of OpenAI Realtime with Azure's own events.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from telbridge.sessions.endings import remedies

QUIET: Final = (
    "conversation.item.deleted",
    # Not sent with azure-speech at all.
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.retrieved",
    # Also unasked, with auto_truncate.
    "conversation.item.truncated",
    "input_audio_buffer.cleared",
    "input_audio_buffer.committed",
    "mcp_list_tools.completed",
    "mcp_list_tools.in_progress",
    "output_audio_buffer.cleared",
    "rate_limits.updated",
    "response.animation_blendshapes.delta",
    "response.animation_blendshapes.done",
    "response.animation_viseme.delta",
    "response.animation_viseme.done",
    # A reply may have several audio items, each with a done of its own: the reply's audio is complete
    # only with response.done.
    "response.audio.done",
    "response.audio_timestamp.delta",
    "response.audio_timestamp.done",
    "response.audio_transcript.annotation.added",
    "response.content_part.added",
    "response.content_part.done",
    "response.file_search_call.completed",
    "response.file_search_call.in_progress",
    "response.file_search_call.searching",
    "response.foundry_agent_call.completed",
    "response.foundry_agent_call.failed",
    "response.foundry_agent_call.in_progress",
    "response.foundry_agent_call_arguments.delta",
    "response.foundry_agent_call_arguments.done",
    "response.function_call_arguments.delta",
    "response.invocation.delta",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.output_item.added",
    "response.video.delta",
    "response.web_search_call.completed",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
    "session.avatar.connecting",
    "session.avatar.switch_to_idle",
    "session.avatar.switch_to_speaking",
)
"""Types that tell a call nothing."""

MOST_NAME: Final = 100
"""Of a name we do not know: it may become a log field, and a stranger chose its length."""

BUSY: Final = "conversation_already_has_active_response"
HARMLESS: Final = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})
"""Errors of something that was done already."""
ALREADY_SHORTER: Final = "already shorter"
"""Of a refused truncate, which has no code of its own: nothing is left to cut, so nothing is lost."""

REMEDY: Final = remedies(
    key="api_key, bearer_token or the machine's identity",
    rights="the identity's roles: it needs Cognitive Services User and Foundry User",
    address="resource, url and api_version",
    request="url, api_version and model",
)
"""By HTTP status. Their meaning is Azure's general one; Voice Live's own is not documented."""


class State(Enum):
    """Of the session."""

    CONNECTING = "connecting"
    """Nothing heard from the API yet."""
    CONFIGURING = "configuring"
    """The first update is under way."""
    READY = "ready"
    REFUSED = "refused"
    """The API took no session or not our configuration."""
    EXPIRED = "expired"
    """Past the API's longest session: it will close."""


class Step(Enum):
    """What moves the session."""

    CREATED = "session.created"
    UPDATED = "session.updated"
    REFUSAL = "refusal"
    EXPIRY = "session_expired"


NEXT: Final = {
    (State.CONNECTING, Step.CREATED): State.CONFIGURING,
    (State.CONNECTING, Step.REFUSAL): State.REFUSED,
    (State.CONFIGURING, Step.UPDATED): State.READY,
    (State.CONFIGURING, Step.REFUSAL): State.REFUSED,
    (State.READY, Step.UPDATED): State.READY,
    (State.READY, Step.EXPIRY): State.EXPIRED,
}


def short(name: str | None) -> str:
    """A name that the API gave, or none, fit for a log."""
    return (name or "unknown")[:MOST_NAME]
