"""From the Settings as they were to the Settings as they shall be: the messages that make the change.

The prompt is changed by UpdateThink with the whole block, never by UpdatePrompt, which only adds to the
prompt that is there (developers.deepgram.com/docs/voice-agent-update-prompt; seen live by others too).
UpdateThink replaces prompt and functions at once. UpdateListen is merged into what is there, but for
`language_hints`, which is cleared where it is missing (/docs/voice-agent-update-listen): the whole
provider is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.deepgram.settings import noted
from telbridge.sessions.provider import Lock
from telbridge.sessions.wire import optional_table

_UPDATES: Final = {
    "listen": ("UpdateListen", "ListenUpdated"),
    "think": ("UpdateThink", "ThinkUpdated"),
    "think_live": ("UpdateThink_Live", "ThinkLiveUpdated"),
    "speak": ("UpdateSpeak", "SpeakUpdated"),
}
PROMPT_ACK: Final = "PromptUpdated"
ACKS: Final = frozenset({PROMPT_ACK, *(ack for _, ack in _UPDATES.values())})


def updates(old: Json, new: Json, notes: Sequence[str]) -> list[tuple[Json, str]]:
    """The messages, each with the type of its acknowledgement. `notes`: what was added to the prompt
    since, and has to stay. UpdateImpossible if one change has no message."""
    for key in sorted(old.keys() | new.keys()):
        if key != "agent" and old.get(key) != new.get(key):
            raise _locked(key)
    before, after = old["agent"], new["agent"]
    if before == after:
        return []
    if not isinstance(before, dict) or not isinstance(after, dict):
        raise _locked("agent")
    messages = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        if key not in _UPDATES or key not in after:
            raise _locked(f"agent.{key}")
        kind, ack = _UPDATES[key]
        messages.append(({"type": kind, key: _block(key, before.get(key), after[key], notes)}, ack))
    return messages


def prompt_updates(old: Sequence[str], new: Sequence[str]) -> list[tuple[Json, str]]:
    """For a stored agent, whose think block is not known here: what is new is put after its prompt."""
    return [({"type": "UpdatePrompt", "prompt": text}, PROMPT_ACK) for text in new if text not in old]


def _block(key: str, before: object, after: Json, notes: Sequence[str]) -> object:
    if key == "think":
        return noted(after, notes)
    if key == "listen" and isinstance(before, dict):
        old, new = optional_table(before, "provider"), optional_table(after, "provider")
        return {**after, "provider": _listen_provider(old, new)}
    return after


def _listen_provider(before: Json, after: Json) -> Json:
    """Key terms may change mid-session with Flux only; Nova is not even told those it has."""
    if after.get("version") == "v2":
        return after
    if before.get("keyterms") != after.get("keyterms"):
        raise _locked("agent.listen.provider.keyterms")
    return {name: value for name, value in after.items() if name != "keyterms"}


def _locked(key: str) -> UpdateImpossible:
    return UpdateImpossible(key, f"can't be changed now, {Lock.START.value}")
