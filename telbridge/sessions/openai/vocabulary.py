"""Names of the OpenAI Realtime API: its server events, and the states of a session. Data, no code."""

from __future__ import annotations

from enum import Enum
from typing import Final

MOST_NAME: Final = 100
"""Of a name we do not know: it may become a log field, and a stranger chose its length."""

QUIET: Final = (
    "conversation.created",
    "conversation.item.added",
    "conversation.item.created",
    "conversation.item.deleted",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.segment",
    "conversation.item.retrieved",
    # Also unasked: some servers truncate by themselves after they cancelled a response.
    "conversation.item.truncated",
    "input_audio_buffer.cleared",
    "input_audio_buffer.committed",
    "input_audio_buffer.timeout_triggered",
    "mcp_list_tools.completed",
    "mcp_list_tools.in_progress",
    "rate_limits.updated",
    "response.content_part.added",
    "response.content_part.done",
    "response.function_call_arguments.delta",
    # The same call comes once more in response.output_item.done, with a status; that one counts.
    "response.function_call_arguments.done",
    "response.mcp_call.completed",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    # A reply may have several audio items, each with a done of its own: the reply's audio is complete
    # only with response.done.
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_item.added",
    "response.output_text.delta",
)
"""Types that tell a call nothing."""

BETA_NAMES: Final = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}


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
    """Past the API's longest session (60 min): it will close."""


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
    (State.EXPIRED, Step.UPDATED): State.EXPIRED,
    (State.READY, Step.EXPIRY): State.EXPIRED,
}
