"""A dialplan made ready for calls: profiles resolved, tools as the agent sees them, a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from telbridge.dialplan import vocabulary
from telbridge.dialplan.facts import Facts, of_call, time_of
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.model import Dialplan, Greeting, Match, Session, Tool
from telbridge.dialplan.templates import Tree, rendered
from telbridge.dialplan.vocabulary import Json, NeutralSettings

NEUTRAL: Final = frozenset(NeutralSettings.model_fields)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A session with all that it builds on; its templates are not filled yet."""

    agent: str | None
    """None: the one of the settings."""
    neutral: Mapping[str, Tree]
    vendor: Mapping[str, Mapping[str, Tree]]
    """By the name of the agent API."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the agent now: filled and valid."""

    agent: str | None
    neutral: NeutralSettings
    vendor: Json
    """For this agent API only."""
    left_out: tuple[str, ...] = ()
    """Dotted keys whose template gave a value that the key does not take."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a call starts; asked for while it rings."""

    wanted: Wanted
    greeting: Greeting | None
    greeting_text: str
    """Of `greeting`, filled; "" for a WAV."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One dialplan, ready."""

    name: str
    file: str
    version: str
    """Hash of what the file and the shared files say, and of the recordings named; the record of a call has
    it."""
    dialplan: Dialplan
    sessions: Mapping[str, Resolved]
    """The profiles by name, and "" for the dialplan's own."""
    all_hours: Mapping[str, Hours]
    agents: tuple[str, ...]
    """The agent APIs that there are."""
    default_agent: str = "local"
    """The one of the settings, for sessions that name none."""

    @property
    def match(self) -> Match | None:
        return self.dialplan.match

    @property
    def zone(self) -> str:
        return self.dialplan.zone

    def scope(self, facts: Facts, at: datetime, more: Mapping[str, Any]) -> dict[str, Any]:
        """What conditions and templates see."""
        names = of_call(facts)
        names["time"] = time_of(at, self.zone)
        names["hours"] = {name: one.why_not(at, self.zone) is None for name, one in self.all_hours.items()}
        names["vars"] = self.dialplan.vars
        names.update(more)
        return names

    def session(self, name: str) -> Resolved:
        """A profile, or the dialplan's own session with another agent API."""
        found = self.sessions.get(name)
        if found is not None:
            return found
        own = self.sessions[""]
        return Resolved(name, own.neutral, own.vendor)

    def offered(self, session: Resolved) -> tuple[str, ...] | None:
        """The tools that a session or a change of it names; None: it names none."""
        named = session.neutral.get("tools")
        return None if named is None else tuple(name for name in named if name in self.dialplan.tools)

    def wanted(self, session: Resolved, scope: Mapping[str, Any], *, change: bool = False) -> Wanted:
        """The session with its templates filled and its tools described: those it names, or all of the
        dialplan. Of a change (`update`) only what it names."""
        tree = {key: value for key, value in session.neutral.items() if key != "tools"}
        neutral, left_out = valid(rendered(tree, scope))
        names = self.offered(session)
        if names is None and not change:
            names = tuple(self.dialplan.tools) or None
        if names is not None:
            tools = tuple(described(name, self.dialplan.tools[name]) for name in names)
            neutral = neutral.model_copy(update={"tools": tools})
        vendor = rendered(session.vendor.get(session.agent or self.default_agent, {}), scope)
        return Wanted(session.agent, neutral, vendor, left_out)

    def opening(self, facts: Facts, at: datetime) -> Opening:
        """For a call that arrives at this moment and of which nothing else is known (`engine.opening` knows
        what `on.ringing` found out)."""
        return self.opened(self.scope(facts, at, {"agent": self.sessions[""].agent or self.default_agent}))

    def opened(self, scope: Mapping[str, Any]) -> Opening:
        """How a call starts that knows this."""
        greetings = self.dialplan.greeting
        greeting = next((one for one in greetings if one.when is None or one.when.holds(scope)), None)
        words = (greeting.say or greeting.generate) if greeting else None
        return Opening(self.wanted(self.sessions[""], scope), greeting, words.text(scope) if words else "")


def resolved(session: Session, profiles: Mapping[str, Session]) -> Resolved:
    """Profiles first, in their order, then what the session says itself. Names must exist, no circles."""
    agent: str | None = None
    tree: Json = {}
    for name in session.extends:
        base = resolved(profiles[name], profiles)
        agent = base.agent or agent
        tree = _merged(tree, {**base.neutral, **base.vendor})
    tree = _merged(tree, session.settings)
    neutral = {key: value for key, value in tree.items() if key in NEUTRAL}
    vendor = {key: value for key, value in tree.items() if key not in NEUTRAL}
    return Resolved(session.agent or agent, neutral, vendor)


def _merged(tree: Json, changes: Mapping[str, Any]) -> Json:
    """Table by table; a table of another `type` is another table."""
    result = dict(tree)
    for key, value in changes.items():
        old = result.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("type") in (None, old.get("type"))
        )
        result[key] = _merged(old, value) if same and isinstance(old, dict) else value
    return result


def valid(tree: Mapping[str, Any]) -> tuple[NeutralSettings, tuple[str, ...]]:
    """The settings, and the keys that had to be left out: a template cannot break a call."""
    left_out: list[str] = []
    kept: Json = dict(tree)
    while True:
        try:
            return NeutralSettings.model_validate(kept), tuple(left_out)
        except ValidationError as error:
            wrong = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]} or set(kept)
        left_out += sorted(wrong)
        kept = {key: value for key, value in kept.items() if key not in wrong}


_TEXT: Final = {"type": "string"}


def described(name: str, tool: Tool) -> vocabulary.Tool:
    """The tool as the agent sees it."""
    return vocabulary.Tool(name=name, description=tool.description, parameters=parameters(tool))


def parameters(tool: Tool) -> Json:
    """The JSON Schema of a tool's arguments."""
    if tool.schema_ is not None:
        return tool.schema_
    properties: Json = dict(tool.parameters)
    if tool.use == "transfer":
        properties["to"] = {"type": "string", "enum": list(tool.to)}
    elif tool.use == "send_dtmf":
        properties["digits"] = {"type": "string", "description": "keys 0-9, * and #"}
    elif tool.use == "set_variable":
        properties |= {"name": {"type": "string", "enum": list(tool.variables)}, "value": dict(_TEXT)}
    required = [key for key in properties if key not in tool.optional]
    return {"type": "object", "properties": properties, "required": required}
