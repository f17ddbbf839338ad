"""Opening hours: spans of the week in a time zone, and days that are closed."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SPAN: Final = re.compile(r"(?:([A-Za-z, -]+?)\s+)?(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")
_DAY: Final = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)")
_SPAN_HELP: Final = 'write it as "Mon-Fri 09:00-17:00"'
_DAY_HELP: Final = 'write it as "2026-12-24", "12-24" for every year, or "12-24..12-26"'
_WHOLE_DAY: Final = 24 * 60

Span = tuple[frozenset[int], int, int]
"""Days of the week (Monday 0), first minute, minute after the last."""
MonthDay = tuple[int | None, int, int]


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; ValueError in our words."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write an IANA name such as 'Europe/Berlin'") from None


def span(text: str) -> Span:
    """ "Mon-Fri 09:00-17:00", "Sat,Sun 10:00-12:00", "22:00-06:00" (every day, over midnight)."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} are no hours: {_SPAN_HELP}")
    first, last = (_minutes(text, found[2], found[3]), _minutes(text, found[4], found[5]))
    if first == last:
        raise ValueError(f"{text!r} lasts no time: {_SPAN_HELP}, or 00:00-24:00 for the whole day")
    return frozenset(_days(text, found[1])), first, last


def _minutes(text: str, hour: str, minute: str) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > _WHOLE_DAY:
        raise ValueError(f"{text!r}: {hour}:{minute} is no time of day: {_SPAN_HELP}")
    return minutes


def _days(text: str, names: str | None) -> set[int]:
    if names is None:
        return set(range(7))
    days: set[int] = set()
    for part in names.split(","):
        first, _, last = (piece.strip().lower()[:3] for piece in part.partition("-"))
        if first not in DAYS or (last and last not in DAYS):
            raise ValueError(
                f"{text!r}: {part.strip()!r} is no day: days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"
            )
        start, end = DAYS.index(first), DAYS.index(last or first)
        days |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
    return days


def closed_days(text: str) -> tuple[MonthDay, MonthDay]:
    """ "2026-12-24", "12-24", "12-24..01-02": the first and the last of them."""
    first, dots, last = text.strip().partition("..")
    start = _day(text, first)
    end = _day(text, last) if dots else start
    if (start[0] is None) is not (end[0] is None) or (start[0] is not None and end < start):
        raise ValueError(f"{text!r}: its last day is not after its first: {_DAY_HELP}")
    return start, end


def _day(text: str, part: str) -> MonthDay:
    found = _DAY.fullmatch(part.strip())
    if not found:
        raise ValueError(f"{text!r} is no day: {_DAY_HELP}")
    year, month, day = (int(figure) if figure else None for figure in found.groups())
    assert month is not None
    assert day is not None
    try:
        date(year or 2024, month, day)
    except ValueError:
        raise ValueError(f"{text!r}: there is no such day: {_DAY_HELP}") from None
    return year, month, day


def _is_in(day: date, days: tuple[MonthDay, MonthDay]) -> bool:
    (year, *first), (last_year, *last) = days
    if year is not None and last_year is not None:
        return (year, *first) <= (day.year, day.month, day.day) <= (last_year, *last)
    today = [day.month, day.day]
    return first <= today <= last if first <= last else today >= first or today <= last


def _a_span(text: str) -> str:
    span(text)
    return text


def _some_days(text: str) -> str:
    closed_days(text)
    return text


class Hours(BaseModel):
    """When something is open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    zone: Annotated[
        str | None, Field(description="time zone, such as Europe/Berlin; default: the dialplan's")
    ] = None
    open: Annotated[
        tuple[Annotated[str, AfterValidator(_a_span)], ...],
        Field(min_length=1, description='such as ["Mon-Fri 09:00-17:00"]'),
    ]
    closed: Annotated[
        tuple[Annotated[str, AfterValidator(_some_days)], ...],
        Field(description='holidays: "2026-12-24", "12-24" (every year), "12-24..01-02"'),
    ] = ()
    _spans: tuple[Span, ...] = PrivateAttr()
    _closed: tuple[tuple[MonthDay, MonthDay], ...] = PrivateAttr()

    @field_validator("zone")
    @classmethod
    def _a_zone(cls, name: str | None) -> str | None:
        return name if name is None else zone(name).key

    @model_validator(mode="after")
    def _compile(self) -> Hours:
        self._spans = tuple(map(span, self.open))
        self._closed = tuple(map(closed_days, self.closed))
        return self

    def why_not(self, moment: datetime, zone_name: str) -> str | None:
        """Nothing if it is open at this moment (any zone), else the reason."""
        here = moment.astimezone(zone(self.zone or zone_name))
        if self._open_on(here.date(), here.time(), over_midnight=False):
            return None
        yesterday = here.date() - timedelta(days=1)
        if self._open_on(yesterday, here.time(), over_midnight=True):
            return None
        shown = f"{WEEKDAYS[here.weekday()][:3]} {here:%Y-%m-%d %H:%M} ({here.tzinfo})"
        if any(_is_in(here.date(), days) for days in self._closed):
            return f"{shown} is a closed day"
        return f"{shown} is not in {', '.join(self.open)}"

    def _open_on(self, day: date, at: time, *, over_midnight: bool) -> bool:
        """Open at `at` by the hours that begin on `day`."""
        if any(_is_in(day, days) for days in self._closed):
            return False
        minute = at.hour * 60 + at.minute
        for days, first, last in self._spans:
            if day.weekday() not in days:
                continue
            if over_midnight and last < first and minute < last:
                return True
            if not over_midnight and first <= minute and (minute < last or last < first):
                return True
        return False
