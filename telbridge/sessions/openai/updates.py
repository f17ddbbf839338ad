"""Changes of a running OpenAI session, one in flight at a time: a refusal often does not say whose it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telbridge.call.events import UpdateRefused
from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.openai.neutral import changed
from telbridge.sessions.openai.session import patch
from telbridge.sessions.openai.settings import Json, OpenAISettings


@dataclass(frozen=True, slots=True)
class Change:
    """What was asked by one `update`."""

    neutral: NeutralSettings
    vendor: Json


@dataclass(frozen=True, slots=True)
class InFlight:
    """An update that was sent and not yet answered."""

    event_id: str
    session: Json
    """As it was sent."""
    settings: OpenAISettings
    """As they are if it is taken."""
    change: Change | None
    """None: the first update, which configures the session."""


class Updates:
    """The settings as the API took them, and the changes on their way to it."""

    def __init__(self, settings: OpenAISettings, render: Callable[[OpenAISettings], Json]) -> None:
        """`render`: the whole session object of some settings. SecretMissing if a secret is not there."""
        self.taken = settings
        self.in_flight: InFlight | None = None
        self._render = render
        self._session = render(settings)
        self._waiting: deque[Change] = deque()

    @property
    def outstanding(self) -> Sequence[Change]:
        """What was asked and is not answered, oldest first."""
        sent = self.in_flight.change if self.in_flight is not None else None
        return [sent, *self._waiting] if sent is not None else list(self._waiting)

    def ask(self, change: Change, *, spoken: bool) -> None:
        """Queue a change; UpdateImpossible, and nothing is queued, if it makes no sense after the others."""
        settings = self.taken
        for earlier in self.outstanding:
            try:
                settings = changed(settings, earlier.neutral, earlier.vendor, spoken=spoken)
            except UpdateImpossible:
                continue  # The agent has spoken since, say: its own answer will tell.
        self._rendered(changed(settings, change.neutral, change.vendor, spoken=spoken))
        self._waiting.append(change)

    def inherit(self, changes: Sequence[Change]) -> None:
        """What a session before this one still had outstanding; judged when its turn comes."""
        self._waiting.extend(changes)

    def first(self, event_id: str) -> Json:
        """The update that configures the session, whole."""
        self.in_flight = InFlight(event_id, self._session, self.taken, None)
        return self._session

    def next(
        self, new_event_id: Callable[[], str], *, spoken: bool, speaking: bool
    ) -> InFlight | UpdateRefused | None:
        """The next update to send, made against what the API took so far; a refusal of our own where that
        has changed too much; None if there is nothing to send now.

        The speed can be changed between replies only: until then all wait, for their order counts.
        """
        if self.in_flight is not None or not self._waiting:
            return None
        change = self._waiting[0]
        try:
            settings = changed(self.taken, change.neutral, change.vendor, spoken=spoken)
            session = patch(self._session, self._rendered(settings))
        except UpdateImpossible as fault:
            self._waiting.popleft()
            return UpdateRefused("impossible_by_now", str(fault))
        if speaking and settings.speed != self.taken.speed:
            return None
        self._waiting.popleft()
        self.in_flight = InFlight(new_event_id(), session, settings, change)
        return self.in_flight

    def took(self) -> InFlight | None:
        """session.updated: what it answers, if anything."""
        answered, self.in_flight = self.in_flight, None
        if answered is not None and answered.settings is not self.taken:
            self.taken = answered.settings
            self._session = self._render(self.taken)
        return answered

    def refused(self) -> None:
        """The one in flight was not taken, no part of it."""
        self.in_flight = None

    def _rendered(self, settings: OpenAISettings) -> Json:
        try:
            return self._render(settings)
        except SecretMissing as fault:
            raise UpdateImpossible(fault.key, f"{fault.what}: {fault.instead}") from None
