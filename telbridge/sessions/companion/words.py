"""What is said to a Companion in its own channel: settings commands, and words in system messages. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from telbridge.call.events import Said
from telbridge.call.ports import Greeting
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.companion.settings import CompanionSettings
from telbridge.sessions.provider import deep_merged

MOST_HISTORY: Final = 16_000
"""Characters of a conversation that a new session is told; the latest. No limit is documented."""

_COMMAND_KEYS: Final = {
    "instructions": "instructions",
    "temperature": "temperature",
    "turnDetection": "turn_detection",
}
"""`set_settings` has its own spelling."""


def exactly(words: str) -> str:
    """The API reads nothing out by itself; this is as near as it comes."""
    return f"say exactly this once: {words}"


def opening_words(greeting: Greeting) -> str:
    """For `initialSpeech`, or for a system message."""
    if greeting.verbatim:
        return exactly(greeting.text)
    return f"The call has just been connected. {greeting.text or 'Greet the caller.'}"


def late_result(name: str, call_id: str, result: Json) -> str:
    """Of a tool call that got an interim output."""
    return f"The result of {name} (call {call_id}), which was pending, has come: {json.dumps(result)}"


def history(said: Sequence[Said]) -> str:
    """The conversation so far, for a session that takes it over."""
    lines = [f"{'Caller' if one.by_caller else 'You'}: {one.text}" for one in said]
    return (
        "The connection broke and is back; the call goes on. Do not greet again. "
        "The conversation so far:\n" + "\n".join(lines)[-MOST_HISTORY:]
    )


def first_settings(settings: CompanionSettings, raw: Json) -> Json:
    """The `set_settings` that opens a session: an agent's connection takes these fields only so, and what
    was once put into set_settings unnamed is asked for again."""
    named = dict.fromkeys(_COMMAND_KEYS) if settings.agent_id is not None else {}
    return settings_data(settings, {"providerConfig": {"settings": named}}, raw)


def settings_data(settings: CompanionSettings, changes: Json, raw: Json) -> Json:
    """The data of `set_settings` for the fields that `changes` names, complete as they are in `settings`:
    a key that is sent replaces what was there. `raw` last."""
    tree = settings.providerConfig.settings.model_dump(exclude_unset=True, exclude_none=True)
    config = changes.get("providerConfig") or {}
    asked = config.get("settings") or {}
    named = {command: tree[key] for key, command in _COMMAND_KEYS.items() if key in asked and key in tree}
    return deep_merged(named, raw)
