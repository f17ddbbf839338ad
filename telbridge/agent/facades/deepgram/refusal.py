"""What Deepgram's Voice Agent says when it does not go on: codes and descriptions.

Codes and most descriptions: developers.deepgram.com/docs/voice-agent-errors-warnings. The words of
CLIENT_MESSAGE_TIMEOUT and UNPARSABLE_CLIENT_MESSAGE are those of the live service, seen in public issues (for
example github.com/deepgram-devs/flask-agent-function-calling-demo/issues/17); the page has other ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple


class Refusal(NamedTuple):
    """The inside of an `Error` or a `Warning`."""

    code: str
    description: str


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """The client said something the service does not take; an `Error` with this, then the end."""

    refusal: Refusal


BEFORE_SETTINGS: Final = Refusal(
    "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS",
    "The client sent a message on the WebSocket before sending a Settings message.",
)
ALREADY_APPLIED: Final = Refusal(
    "SETTINGS_ALREADY_APPLIED", "A Settings message arrived after settings were already established."
)
NO_KNOWN_FORMAT: Final = Refusal(
    "UNPARSABLE_CLIENT_MESSAGE",
    "Text message received from client did not match any of the formats we expect.",
)
SILENT_CLIENT: Final = Refusal(
    "CLIENT_MESSAGE_TIMEOUT",
    "We waited too long for a websocket message. Please ensure that you're sending binary messages "
    "containing user speech.",
)
SILENT_BEFORE_SETTINGS: Final = Refusal(
    "CLIENT_MESSAGE_TIMEOUT",
    "We waited too long for a websocket message. Please ensure that you send a 'Settings' message at the "
    "beginning of the session.",
)
OTHER_AUDIO: Final = Refusal(
    "USER_AUDIO_FORMAT", "The user audio did not match the format the client declared."
)
INVALID_AGENT: Final = Refusal("INVALID_AGENT_ID", "The Agent ID is invalid.")
NOT_LISTENING: Final = Refusal(
    "FAILED_TO_START_LISTENING", "The server failed to open the listen (speech-to-text) connection."
)
NOT_SPEAKING: Final = Refusal(
    "FAILED_TO_SPEAK", "The agent could not speak after exhausting all retries and fallbacks."
)
NO_SUCH_FUNCTION: Final = Refusal(
    "NON_EXISTENT_FUNCTION_CALLED", "A function call referenced a function that does not exist."
)
SESSION_OVER: Final = Refusal(
    "MAXIMUM_SESSION_LENGTH_REACHED",
    "The session was closed after reaching the maximum session length of 2 hours.",
)

# -- warnings -----------------------------------------------------------------------------------------

SESSION_NEARLY_OVER: Final = Refusal(
    "MAXIMUM_SESSION_LENGTH_APPROACHING",
    "The session will automatically close in 5 minutes after reaching the maximum session length of 2 hours.",
)
PROMPT_TOO_LONG: Final = Refusal(
    "PROMPT_TOO_LONG", "The prompt exceeded the maximum allowed length and was truncated."
)
SLOW_THINK: Final = Refusal("SLOW_THINK_REQUEST", "A think provider request is taking a long time.")
THINK_FAILED: Final = Refusal("THINK_REQUEST_FAILED", "A think provider request failed.")
FUNCTION_FAILED: Final = Refusal("FUNCTION_CALL_FAILED", "A function call failed.")
CANNOT_FORCE_END: Final = Refusal(
    "FORCE_END_TURN_UNSUPPORTED",
    "ForceEndTurn requires a Deepgram V2 (Flux) listen provider. The current turn was not ended.",
)
CANNOT_UPDATE_LISTEN: Final = Refusal(
    "UPDATE_LISTEN_UNSUPPORTED_FIELDS_CHANGED", "Keyterms can only be updated mid-session for Flux models."
)


def unparsable(path: str) -> RefusedError:
    """A known message whose `path` does not fit; whole if the path is empty."""
    if not path:
        return RefusedError(NO_KNOWN_FORMAT)
    text = f"Error parsing client message. Check the {path} field against the API spec."
    return RefusedError(Refusal("UNPARSABLE_CLIENT_MESSAGE", text))


def invalid(description: str) -> RefusedError:
    """A message that parsed and says something that cannot be. No page gives the words of these."""
    return RefusedError(Refusal("INVALID_SETTINGS", description))
