"""The configuration of one Deepgram session as the API knows it: the first Settings and later changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import Said
from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.base import Opening
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.deepgram.neutral import FITS_STORED, neutral_changes
from telbridge.sessions.deepgram.settings import (
    PHONE,
    DeepgramSettings,
    session_formats,
    settings_message,
    with_notes,
)
from telbridge.sessions.deepgram.updates import prompt_updates, updates
from telbridge.sessions.provider import deep_merged, merged, neutral_keys
from telbridge.sessions.wire import optional_table


@dataclass(frozen=True, slots=True, repr=False)
class Carried:
    """What a session has from the one before it. It holds words: no repr."""

    said: tuple[Said, ...] = ()
    notes: tuple[str, ...] = ()
    injections: tuple[Json, ...] = ()
    """What was to be said and never sent."""
    greeting: str | None = None
    greeted: bool = False
    """The greeting of the settings is not to be spoken, or not again."""
    last_reply: int = 0
    updates: int = 0
    """Changes that were under way; they are in the settings by now."""


class Configuration:
    """Holds secrets once they are in the message; shows none."""

    def __init__(self, settings: DeepgramSettings, opening: Opening) -> None:
        """SecretMissing if a secret is not where the settings say."""
        self.settings = settings
        self.uplink, self.downlink = session_formats(settings, opening.wire_format)
        self._environ = opening.environ
        self._message = self._message_of(settings)
        self._accepted = (settings, self._message)

    def _message_of(self, settings: DeepgramSettings) -> Json:
        return settings_message(settings, self._environ, uplink=self.uplink, downlink=self.downlink)

    @property
    def formats(self) -> tuple[AudioFormat, AudioFormat]:
        return self.uplink, self.downlink

    @property
    def is_stored(self) -> bool:
        """Whether the agent is one stored at Deepgram, of which only the id is known here."""
        return isinstance(self.settings.agent, str)

    @property
    def greets(self) -> bool:
        """Whether the settings themselves have a greeting; what a stored agent has is not known."""
        return optional_table(self._message, "agent").get("greeting") is not None

    @property
    def turns_can_be_ended(self) -> bool:
        """ForceEndTurn is for Flux only; what a stored agent listens with is not known."""
        listen = optional_table(optional_table(self._message, "agent"), "listen")
        return optional_table(listen, "provider").get("version") == "v2"

    def first_message(
        self, *, greeting: str | None, greeted: bool, said: Sequence[Said], notes: Sequence[str]
    ) -> Json:
        """The Settings. A stored agent takes nothing beside its id: the rest follows in `first_notes`.
        `greeting` replaces the one of the settings, `greeted` leaves that out."""
        message = with_notes(self._message, notes)
        if not isinstance(message["agent"], dict):
            return message
        agent: Json = dict(message["agent"])
        if greeted:
            agent.pop("greeting", None)
        if greeting is not None:
            agent["greeting"] = greeting
        if said:
            context = optional_table(agent, "context")
            before = context.get("messages")
            told = [*(before if isinstance(before, list) else ()), *map(_history, said)]
            agent["context"] = {**context, "messages": told}
        return {**message, "agent": agent}

    def first_notes(self, said: Sequence[Said], notes: Sequence[str]) -> list[str]:
        """What a stored agent is told behind its own prompt, once it is there; for another one nothing."""
        if not self.is_stored:
            return []
        lines = [f"{'Caller' if one.by_caller else 'You'}: {one.text}" for one in said]
        so_far = ["\n".join(("The conversation so far:", *lines))] if lines else []
        return [*self.settings.appendix, *notes, *so_far]

    def change(
        self, neutral: NeutralSettings, vendor: Json, *, spoken: bool, notes: Sequence[str], settled: bool
    ) -> list[tuple[Json, str]]:
        """The messages that make the change, each with the type of its acknowledgement; none for what is
        ours alone. `settled`: no earlier change is under way. UpdateImpossible: nothing is changed."""
        if self.is_stored and (strange := [key for key in neutral_keys(neutral) if key not in FITS_STORED]):
            raise UpdateImpossible(str(strange[0]), "a stored agent's own settings are not known here")
        changes = deep_merged(self._defaults_under(vendor), neutral_changes(self.settings, neutral))
        changes = deep_merged(changes, vendor)
        settings = merged(self.settings, changes, spoken=spoken)
        try:
            message = self._message_of(settings)
        except SecretMissing as missing:
            raise UpdateImpossible(missing.key, f"{missing.what}: {missing.instead}") from None
        wanted = updates(self._message, message, notes)
        if self.is_stored:
            wanted += prompt_updates(self.settings.appendix, settings.appendix)
        if settled:
            self._accepted = (self.settings, self._message)
        self.settings, self._message = settings, message
        return wanted

    def _defaults_under(self, vendor: Json) -> Json:
        """What is sent where nothing is set, for blocks of which only a detail is to be changed."""
        blocks: Json = optional_table(vendor, "agent")
        details = [
            name
            for name in PHONE
            if isinstance(blocks.get(name), dict)
            and getattr(self.settings.agent, name, None) is None
            and not {"type", "model", "version"} & optional_table(blocks[name], "provider").keys()
        ]
        return {"agent": {name: PHONE[name] for name in details}} if details else {}

    def take_back(self) -> None:
        """The API refused what is under way."""
        self.settings, self._message = self._accepted


def _history(one: Said) -> Json:
    return {"type": "History", "role": "user" if one.by_caller else "assistant", "content": one.text}
