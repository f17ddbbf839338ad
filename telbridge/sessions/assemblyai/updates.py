"""The configuration of an AssemblyAI session: what goes first, what changes, what was taken. Pure.

An answer names no message of ours. Answers come in the order of the updates: `session.updated` for one that
was taken, `session.error` for one that was not (voice-agent-api/session-configuration).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.assemblyai.prompt import Prompt
from telbridge.sessions.assemblyai.settings import (
    AssemblyAISettings,
    first_session,
    session_object,
    stored_agent_changes,
)
from telbridge.sessions.provider import deep_merged, merged

_PROMPT_KEYS: Final = frozenset({"system_prompt", "caller_facts"})


@dataclass(slots=True)
class Change:
    """One session.update after the first."""

    changes: Json
    """A tree of settings; empty for an update of our own (a note in the prompt)."""
    asked: int
    """How many wait to be told: one, nobody for a note, several for what a broken session left open."""


class Configuration:
    """The settings as they stand, with the changes on their way, and the prompt made of them."""

    def __init__(self, settings: AssemblyAISettings, prompt: Prompt, environ: Mapping[str, str]) -> None:
        self._taken = settings
        self._under_way: deque[Change] = deque()
        self._environ = environ
        self.prompt = prompt
        self.settings = settings
        """With everything that was asked for and not refused."""

    @property
    def in_doubt(self) -> bool:
        """Whether an update has no answer yet."""
        return bool(self._under_way)

    @property
    def unanswered(self) -> int:
        """Updates without an answer of which somebody waits to be told."""
        return sum(change.asked for change in self._under_way)

    def first(self, uplink: AudioFormat, downlink: AudioFormat, greeting: str | None) -> Json:
        """The `session` of the first update. `greeting`: the one still to be spoken."""
        session = first_session(self.settings, uplink, downlink, self._environ)
        if self.settings.agent_id is not None:
            return session
        session |= self.prompt_to_send()
        session.pop("greeting", None)
        if greeting is not None:
            session["greeting"] = greeting
        return deep_merged(session, self.settings.raw)

    def changeable(self) -> Json:
        """All that is set and may be sent after session.ready; empty if nothing is."""
        changes = stored_agent_changes(self.settings, self._environ) | self.prompt_to_send()
        return deep_merged(changes, self.settings.raw)

    def prompt_to_send(self) -> Json:
        """`system_prompt`, if there is anything of ours to say in it and nothing unknown is lost by it."""
        if self.prompt.is_ours(self.settings) and self.prompt.is_known(self.settings):
            return {"system_prompt": self.prompt.text(self.settings)}
        return {}

    def ask(self, changes: Json, *, ready: bool) -> None:
        """Note a change that is to go out; UpdateImpossible if it cannot. `ready`: what the server knows of
        a stored agent has been told."""
        settings = merged(self.settings, changes, spoken=True)
        of_the_prompt = bool(changes.keys() & _PROMPT_KEYS)
        if of_the_prompt and ready and not self.prompt.is_known(settings):
            raise UpdateImpossible("caller_facts", "the stored agent's prompt is unknown: set system_prompt")
        if not of_the_prompt and not self._message(settings, changes):
            raise UpdateImpossible("update", "nothing in it is sent to the API: write one of its own fields")
        self.settings = settings
        self._under_way.append(Change(changes, asked=1))

    def message(self, changes: Json) -> Json:
        """The `session` that carries these changes."""
        session = self._message(self.settings, changes)
        return session | self.prompt_to_send() if changes.keys() & _PROMPT_KEYS else session

    def ask_by_ourselves(self, *, told: int) -> None:
        """An update goes out that changes no setting. `told`: so many wait for its answer all the same."""
        self._under_way.append(Change({}, asked=told))

    def answered(self, *, taken: bool) -> Change | None:
        """The oldest one got its answer; None if none is under way."""
        if not self._under_way:
            return None
        change = self._under_way.popleft()
        if taken:
            self._taken = _with(self._taken, change.changes)
        else:
            self.settings = self._taken
            for later in self._under_way:
                self.settings = _with(self.settings, later.changes)
        return change

    def _message(self, settings: AssemblyAISettings, changes: Json) -> Json:
        part = part_of(session_object(settings, self._environ), changes)
        return deep_merged(part, changes.get("raw") or {})


def part_of(tree: Json, changes: Json) -> Json:
    """What of `tree` stands where `changes` has something; tables are gone into, all else is whole."""
    part: Json = {}
    for key, change in changes.items():
        if key not in tree:
            continue
        value = tree[key]
        inner = part_of(value, change) if isinstance(value, dict) and isinstance(change, dict) else value
        if inner != {}:
            part[key] = inner
    return part


def _with(settings: AssemblyAISettings, changes: Json) -> AssemblyAISettings:
    """A change that is valid only together with one that was refused has no place any more."""
    if not changes:
        return settings
    tree = deep_merged(settings.model_dump(exclude_unset=True), changes)
    try:
        return AssemblyAISettings.model_validate(tree)
    except ValueError:
        return settings
