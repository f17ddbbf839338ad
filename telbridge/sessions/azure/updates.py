"""Changes of a running Azure Voice Live session, one in flight at a time: an answer does not say which
update it answers, and a refused update is void as a whole. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from telbridge.call.events import UpdateRefused
from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.azure.checks import refusals
from telbridge.sessions.azure.neutral import changed
from telbridge.sessions.azure.session import patch
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.credentials import SecretMissing


@dataclass(frozen=True, slots=True)
class Change:
    """What was asked by one `update`."""

    neutral: NeutralSettings
    vendor: Json


@dataclass(frozen=True, slots=True)
class InFlight:
    """An update that was sent and not yet answered."""

    event_id: str
    settings: AzureSettings
    """As they are if it is taken."""
    change: Change | None
    """None: the first update, which configures the session."""


class Updates:
    """The settings as the API took them, and the changes on their way to it."""

    def __init__(self, settings: AzureSettings, render: Callable[[AzureSettings], Json]) -> None:
        """`render`: the whole session object of some settings. SecretMissing if a secret is not there."""
        self.taken = settings
        self.in_flight: InFlight | None = None
        self._render = render
        self._session = render(settings)
        self._waiting: deque[Change] = deque()

    def expected(self, *, spoken: bool) -> tuple[AzureSettings, list[UpdateRefused | None]]:
        """The settings with everything that was asked and not refused; and of each change that has no answer
        yet what becomes of it: None for one that is in them."""
        settings = self.taken
        outcomes: list[UpdateRefused | None] = []
        sent = self.in_flight.change if self.in_flight is not None else None
        for change in (*([] if sent is None else [sent]), *self._waiting):
            try:
                settings = self._changed(settings, change, spoken=spoken)
                outcomes.append(None)
            except UpdateImpossible as fault:  # Something it was made upon has been refused since.
                outcomes.append(_impossible(fault))
        return settings, outcomes

    def ask(self, change: Change, *, spoken: bool) -> None:
        """Queue a change; UpdateImpossible, and nothing is queued, if it makes no sense after the others."""
        self._rendered(self._changed(self.expected(spoken=spoken)[0], change, spoken=spoken))
        self._waiting.append(change)

    def first(self, event_id: str) -> Json:
        """The update that configures the session, whole."""
        self.in_flight = InFlight(event_id, self.taken, None)
        return self._session

    def next(self, event_id: str, *, spoken: bool) -> Json | UpdateRefused | None:
        """The next update to send, made against what the API took so far; a refusal of our own where that
        has changed too much; None if there is nothing to send now."""
        if self.in_flight is not None or not self._waiting:
            return None
        change = self._waiting.popleft()
        try:
            settings = self._changed(self.taken, change, spoken=spoken)
            session = patch(self._session, self._rendered(settings))
        except UpdateImpossible as fault:
            return _impossible(fault)
        self.in_flight = InFlight(event_id, settings, change)
        return session

    def took(self) -> InFlight | None:
        """session.updated: what it answers, if anything."""
        answered, self.in_flight = self.in_flight, None
        if answered is not None and answered.change is not None:
            self.taken = answered.settings
            self._session = self._render(self.taken)
        return answered

    def refused(self) -> None:
        """The one in flight was not taken, no part of it."""
        self.in_flight = None

    def _changed(self, settings: AzureSettings, change: Change, *, spoken: bool) -> AzureSettings:
        after = changed(settings, change.neutral, change.vendor, spoken=spoken)
        wrong_before = set(refusals(settings))
        for key, why in refusals(after):
            if (key, why) not in wrong_before:
                raise UpdateImpossible(key, why)
        return after

    def _rendered(self, settings: AzureSettings) -> Json:
        try:
            return self._render(settings)
        except SecretMissing as fault:
            raise UpdateImpossible(fault.key, f"{fault.what}: {fault.instead}") from None


def _impossible(fault: UpdateImpossible) -> UpdateRefused:
    return UpdateRefused("impossible_by_now", str(fault))
