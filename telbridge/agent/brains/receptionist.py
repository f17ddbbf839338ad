"""The default brain: a small receptionist, described by a TOML file (docs/local-agent.md).

It answers what the file says, asks for what a request lacks, repeats itself when asked, and hands the
caller on when it has not understood twice.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime, time
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telbridge.agent import toml_file
from telbridge.agent.brains.talking import (
    Asked,
    CallTool,
    Idle,
    Prompt,
    Say,
    Spoken,
    ToolDone,
    Typed,
    Unclear,
)
from telbridge.agent.understanding import SLOT_KINDS, WEEKDAYS, Matcher, pressed, yes_or_no

DEFAULT_SCRIPT: Final = Path(__file__).parent.parent / "scripts" / "receptionist.toml"
FACTS: Final = ("time", "today", "hours_today", "open_now", "business", "heard")
"""Placeholders that any text may hold, beside the slots."""
_HOURS: Final = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(_Table):
    """Something a request needs to know."""

    kind: Literal["number", "day", "time", "name", "text"]
    ask: str = Field(min_length=1)
    ask_again: str | None = None


class Intent(_Table):
    """Something callers want."""

    examples: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    key: str | None = Field(None, pattern=r"^[0-9*#]$", description="Telephone key that means the same.")
    answer: str = ""
    slots: tuple[str, ...] = ()
    confirm: str | None = Field(None, description="Question to be answered by yes before the answer.")
    tools: tuple[str, ...] = Field(
        (), description="Functions of the client; the first one offered is called."
    )
    arguments: dict[str, Any] = Field(default_factory=dict)
    repeat: bool = Field(False, description="Say the last answer once more.")

    @model_validator(mode="after")
    def _does_something(self) -> Intent:
        if not self.answer and not self.repeat:
            raise ValueError("needs an `answer` (or `repeat = true`)")
        if not (self.examples or self.keywords or self.key):
            raise ValueError("can never be meant: give `examples`, `keywords` or a `key`")
        return self


class Receptionist(_Table):
    """The file."""

    business: str = Field(min_length=1)
    greeting: str = Field(min_length=1)
    not_understood: tuple[str, ...] = Field(min_length=1)
    give_up: str = Field(min_length=1)
    give_up_after: int = Field(2, ge=1, le=10, description="Failures in a row before `give_up` is said.")
    give_up_tools: tuple[str, ...] = ()
    still_there: str = "Are you still there?"
    anything_else: str = Field("", description="Said behind the answer to a finished request.")
    timezone: str = ""
    hours: dict[Literal[WEEKDAYS], str] = Field(default_factory=dict)  # type: ignore[valid-type]
    slot: dict[str, Slot] = Field(default_factory=dict)
    intent: dict[str, Intent] = Field(min_length=1)

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str) -> str:
        try:
            ZoneInfo(value or "UTC")
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no such time zone: {value}") from None
        return value

    @field_validator("hours")
    @classmethod
    def _readable(cls, value: dict[str, str]) -> dict[str, str]:
        for weekday, hours in value.items():
            if hours != "closed" and not _HOURS.fullmatch(hours):
                raise ValueError(f"{weekday}: neither `closed` nor like 09:00-17:30: {hours}")
        return value

    def fixed_texts(self) -> list[str]:
        """What is said in the same words each time, the likeliest first."""
        texts = [self.greeting, *self.not_understood, self.still_there, self.give_up]
        for intent in self.intent.values():
            more = self.anything_else if intent.slots and not intent.tools else ""
            texts.append(f"{intent.answer} {more}".strip())
        for slot in self.slot.values():
            texts += [slot.ask, slot.ask_again or ""]
        return [text for text in texts if text and "{" not in text]

    def faults(self) -> list[str]:
        """What fits no single setting: names that lead nowhere."""
        found: list[str] = []
        keys: dict[str, str] = {}
        for name, intent in self.intent.items():
            unknown = [slot for slot in intent.slots if slot not in self.slot]
            found += [f"intent.{name}.slots: no such slot: {slot}" for slot in unknown]
            known = {*FACTS, *intent.slots}
            for setting in ("answer", "confirm"):
                for placeholder in _placeholders(getattr(intent, setting) or ""):
                    if placeholder not in known:
                        found.append(f"intent.{name}.{setting}: nothing known for {{{placeholder}}}")
            if intent.key is not None and keys.setdefault(intent.key, name) != name:
                found.append(f"intent.{name}.key: {intent.key} is taken by intent {keys[intent.key]}")
        return found


def load_receptionist(path: Path | None) -> Receptionist:
    """The script, or the one that comes with the package. ScriptError with one line a fault."""
    path = path or DEFAULT_SCRIPT
    script = toml_file.load(path, Receptionist)
    if faults := script.faults():
        raise toml_file.ScriptError([f"{path}: {fault}" for fault in faults])
    return script


class ReceptionistTalker:
    """One conversation with the receptionist."""

    def __init__(self, script: Receptionist, now: Callable[[], datetime] | None = None) -> None:
        self._script = script
        zone = ZoneInfo(script.timezone) if script.timezone else None
        self._now = now or (lambda: datetime.now(zone))
        self._matcher = Matcher(
            {name: intent.examples for name, intent in script.intent.items()},
            {name: intent.keywords for name, intent in script.intent.items()},
        )
        self._keys = {intent.key: name for name, intent in script.intent.items() if intent.key}
        self._pending: str | None = None
        self._asked: str | None = None
        self._confirming = False
        self._slots: dict[str, str] = {}
        self._failures = 0
        self._last = ""
        self._greeted = False

    def configured(self, instructions: str) -> None:
        """The script is the instruction."""

    def note(self, text: str) -> None:
        """Facts from the client are nothing to this script."""

    def said(self, text: str) -> None:
        if not self._greeted and text:
            self._greeted, self._last = True, text

    async def answer(self, prompt: Prompt) -> AsyncIterator[Say | CallTool]:
        for part in self.reply(prompt):
            yield part

    def reply(self, prompt: Prompt) -> list[Say | CallTool]:
        """What to say and do now."""
        match prompt:
            case Asked(instructions):
                # Some APIs carry a key that was pressed in what they ask for.
                asked_keys = pressed(instructions or "")
                return self._on_keys(asked_keys) if asked_keys else self._on_request()
            case Spoken(text):
                return self._on_words(text)
            case Typed(text):
                keys = pressed(text)
                return self._on_keys(keys) if keys else self._on_words(text)
            case Unclear():
                return self._failed("")
            case Idle():
                return [Say(self._script.still_there)]
            case ToolDone():
                return []

    def _on_request(self) -> list[Say | CallTool]:
        if self._greeted:
            return [Say(self._last or self._script.still_there)]
        self._greeted = True
        return self._say(self._script.greeting)

    def _on_words(self, text: str) -> list[Say | CallTool]:
        if self._pending is not None:
            return self._continue(self._pending, text)
        found = self._matcher.best(text)
        return self._failed(text) if found is None else self._start(found[0], text)

    def _on_keys(self, keys: str) -> list[Say | CallTool]:
        if self._pending is not None and self._asked is not None:
            return self._continue(self._pending, keys.rstrip("#"))
        intent = self._keys.get(keys[-1])
        return self._failed("") if intent is None else self._start(intent, "")

    # -- requests ---------------------------------------------------------------------------------------

    def _start(self, name: str, text: str) -> list[Say | CallTool]:
        intent = self._script.intent[name]
        self._failures = 0
        if intent.repeat:
            return [Say(self._last or self._script.greeting)]
        self._pending, self._confirming = name, False
        self._slots = {}
        self._fill(intent, text, asked=None)
        return self._next(name, intent)

    def _continue(self, name: str, text: str) -> list[Say | CallTool]:
        intent = self._script.intent[name]
        other = self._matcher.best(text)
        if self._confirming:
            agreed = yes_or_no(text)
            if agreed is not None:
                return self._confirmed(name, intent, agreed)
        elif self._fill(intent, text, asked=self._asked):
            self._failures = 0
            return self._next(name, intent)
        # Neither an answer to the question nor near it: perhaps the caller wants something else now.
        if other is not None and other[0] != name and other[1] >= 0.6:
            return self._start(other[0], text)
        return self._failed(text)

    def _fill(self, intent: Intent, text: str, asked: str | None) -> bool:
        """Take from the words what slots they hold; the one asked for may be said without more words."""
        found = False
        for slot in intent.slots:
            if slot in self._slots or not text:
                continue
            value = SLOT_KINDS[self._script.slot[slot].kind](text, bare=slot == asked)
            if value is not None:
                self._slots[slot] = value
                found = True
        return found

    def _next(self, name: str, intent: Intent) -> list[Say | CallTool]:
        missing = next((slot for slot in intent.slots if slot not in self._slots), None)
        self._asked = missing
        if missing is not None:
            return self._say(self._script.slot[missing].ask)
        if intent.confirm is not None:
            self._confirming = True
            return self._say(intent.confirm)
        return self._finish(intent)

    def _confirmed(self, name: str, intent: Intent, agreed: bool) -> list[Say | CallTool]:
        self._confirming = False
        if agreed:
            return self._finish(intent)
        self._slots = {}
        return self._next(name, intent)

    def _finish(self, intent: Intent) -> list[Say | CallTool]:
        self._pending = self._asked = None
        more = "" if intent.tools or not intent.slots else self._script.anything_else
        parts = self._say(f"{intent.answer} {more}".strip())
        if intent.tools:
            parts.append(CallTool(intent.tools, self._arguments(intent.arguments)))
        return parts

    def _failed(self, text: str) -> list[Say | CallTool]:
        self._failures += 1
        script = self._script
        if self._failures > script.give_up_after:
            self._failures, self._pending = 0, None
            parts = self._say(script.give_up)
            return [*parts, CallTool(script.give_up_tools, {})] if script.give_up_tools else parts
        if self._asked is not None and self._pending is not None:
            slot = script.slot[self._asked]
            return [Say(slot.ask_again or slot.ask)]
        sorry = script.not_understood[min(self._failures, len(script.not_understood)) - 1]
        return [Say(self._with_facts(sorry, heard=text))]

    # -- words ------------------------------------------------------------------------------------------

    def _say(self, text: str) -> list[Say | CallTool]:
        self._last = self._with_facts(text)
        return [Say(self._last)]

    def _arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {k: self._with_facts(v) if isinstance(v, str) else v for k, v in arguments.items()}

    def _with_facts(self, text: str, heard: str = "") -> str:
        if "{" not in text:
            return text
        now = self._now()
        hours = self._script.hours.get(WEEKDAYS[now.weekday()], "closed")
        facts = {
            "time": _clock(now.time()),
            "today": now.strftime("%A"),
            "hours_today": _spoken_hours(hours),
            "open_now": "open" if _is_open(hours, now.time()) else "closed",
            "business": self._script.business,
            "heard": heard,
        }
        return text.format_map({**facts, **self._slots})


def _placeholders(text: str) -> list[str]:
    try:
        return [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError:
        return [text]


def _clock(moment: time) -> str:
    """12-hour time, as it is said."""
    hour = moment.hour % 12 or 12
    half = "AM" if moment.hour < 12 else "PM"
    return f"{hour} {half}" if not moment.minute else f"{hour}:{moment.minute:02} {half}"


def _parse_hours(hours: str) -> tuple[int, int] | None:
    """Minutes of the day."""
    match = _HOURS.fullmatch(hours)
    if match is None:
        return None
    opens, closes = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    return opens, closes


def _spoken_hours(hours: str) -> str:
    span = _parse_hours(hours)
    if span is None:
        return "closed all day"
    opens, closes = (_clock(time(minutes // 60 % 24, minutes % 60)) for minutes in span)
    return f"open from {opens} to {closes}"


def _is_open(hours: str, now: time) -> bool:
    span = _parse_hours(hours)
    return span is not None and span[0] <= now.hour * 60 + now.minute < span[1]
