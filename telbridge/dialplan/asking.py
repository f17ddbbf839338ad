"""Whether the agent APIs can do what a dialplan asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import ValidationError

from telbridge.dialplan import walking
from telbridge.dialplan.actions import ActionBase, Reply, Say, SendText, SwitchAgent, Update
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.lines import Path
from telbridge.dialplan.mistakes import Finding, in_file, nearest
from telbridge.dialplan.model import Dialplan, Session
from telbridge.dialplan.plan import NEUTRAL, Resolved, described, resolved
from telbridge.dialplan.templates import Tree, holes, rendered
from telbridge.dialplan.vocabulary import Json, NeutralSettings

PLAIN: Final = NEUTRAL - {"tools"}
"""Settings that mean the same here and in the settings file."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a dialplan asks of one agent API, in a session that it opens or as a change of a running one."""

    neutral: NeutralSettings
    vendor: Json
    """Of this API. What comes from a template is there, but not what it will be."""
    filled: frozenset[str] = frozenset()
    """Dotted keys, neutral ones and `NAME.…` of the API, whose value comes from a template. The neutral ones
    are not in `neutral`."""
    running: bool = False
    spoken: bool = True
    """The agent may have spoken before this change."""


class Agents(Protocol):
    """The agent APIs that there are, as the loader must know them."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def default(self) -> str:
        """The one of the settings."""

    def problems(self, agent: str, asked: Asked) -> Iterable[tuple[str, str, str]]:
        """Dotted key as it stands in the session (`voice`, `turn_detection.mode`, `openai_realtime.speed`),
        what is wrong, what to write instead."""

    def cannot(self, agent: str, action: str) -> str | None:
        """Why this API cannot do one of `ABILITIES`; None: it can, or something else does it in its place."""


ABILITIES: Final = (
    "say", "reply", "text as caller", "text as context", "greeting verbatim", "greeting generated",
)  # fmt: skip
"""What actions and greetings need of an agent."""


@dataclass(frozen=True)
class Around:
    """What a dialplan may use besides itself."""

    profiles: Mapping[str, Session]
    hours: Mapping[str, Hours]
    agents: Agents


def sessions(plan: Dialplan, around: Around) -> Iterator[Finding]:
    """Of the session, the profiles and all updates. `extends` must have been found right."""
    for name, profile in plan.profiles.items():
        yield from keys(("profiles", name), profile.settings, plan, around.agents)
    yield from keys(("session",), plan.session.settings, plan, around.agents)
    own = resolved(plan.session, around.profiles)
    used = [own.agent or around.agents.default]
    yield from _opened(("session",), own, plan, around.agents)
    found = list(walking.actions(plan))
    for path, action in found:
        if isinstance(action, SwitchAgent):
            session = _switched_to(action.switch_agent, own, around)
            used.append(session.agent or around.agents.default)
            yield from _switch(path, action.switch_agent, session, plan, around.agents)
    agents = [name for name in dict.fromkeys(used) if name in around.agents.names]
    for path, action in found:
        if isinstance(action, Update):
            yield from _update((*path, "update"), action.update, plan, around.agents, agents)
    yield from _abilities(plan, found, around.agents, agents)


def shared(profiles: Mapping[str, Session], agents: Agents) -> Iterator[Finding]:
    """Of the profiles of a shared file: the keys; what they come to is looked at where they are used."""
    for name, profile in profiles.items():
        plain = {key: value for key, value in profile.settings.items() if key != "tools"}
        yield from keys(("profiles", name), plain, Dialplan(), agents)


def _switched_to(name: str, own: Resolved, around: Around) -> Resolved:
    profile = around.profiles.get(name)
    return Resolved(name, own.neutral, own.vendor) if profile is None else resolved(profile, around.profiles)


# ------------------------------------------------------------------ keys and neutral values


def keys(path: Path, tree: Mapping[str, Tree], plan: Dialplan, agents: Agents) -> Iterator[Finding]:
    """The keys themselves and the neutral values, whichever agent it will be."""
    for key, value in tree.items():
        if key == "tools":
            yield from _tools((*path, key), value, plan)
        elif key not in NEUTRAL and key not in agents.names:
            what = "no such agent API" if isinstance(value, dict) else "no such setting"
            yield Finding((*path, key), what, nearest(key, [*sorted(NEUTRAL), *agents.names]))
        elif key not in NEUTRAL and not isinstance(value, dict):
            yield Finding((*path, key), "must be a table", f"write {key}.NAME = …")
    yield from _neutral(path, {key: value for key, value in tree.items() if key in PLAIN}, plan)


def _tools(path: Path, names: Tree, plan: Dialplan) -> Iterator[Finding]:
    if not isinstance(names, list):
        yield Finding(path, "must be a list of names", "write the names of [tools.NAME], or [] for none")
        return
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in plan.tools:
            hint = nearest(str(name), list(plan.tools)) if plan.tools else f"write [tools.{name}]"
            yield Finding((*path, index), f"no such tool `{name}`", hint)


def _neutral(path: Path, tree: Mapping[str, Tree], plan: Dialplan) -> Iterator[Finding]:
    filled = [place for place, _ in holes(tree)]
    try:
        NeutralSettings.model_validate(sample(tree, plan))
    except ValidationError as error:
        for fault in error.errors():
            place = in_file(fault["loc"], tree, missing=True)
            if not _covers(place, filled):
                yield Finding((*path, *place), *_neutral_words(fault, place))


def _neutral_words(fault: Any, place: Path) -> tuple[str, str]:
    field = NeutralSettings.model_fields.get(str(place[0]))
    meaning = (field.description if field else "") or ""
    if fault["type"] == "extra_forbidden":
        return "no such setting", meaning
    message = str(fault["msg"])
    return f"{fault['input']!r}: {message[0].lower()}{message[1:]}"[:200], meaning


def _covers(place: Path, filled: Sequence[Path]) -> bool:
    """Whether a template stands at this place or in it: its value cannot be known."""
    return any(hole[: len(place)] == place or place[: len(hole)] == hole for hole in filled)


def sample(tree: Any, plan: Dialplan) -> Any:
    """Filled with the variables as they are at first; what cannot be known is nothing."""
    try:
        return rendered(tree, {"vars": plan.vars})
    except ValueError:
        return tree  # An expression that is none: told of at its place.


# ------------------------------------------------------------------ by one agent API


def _asked(agent: str, session: Resolved, plan: Dialplan, *, running: bool) -> Asked | None:
    """None if the neutral part is wrong by itself, which has been told."""
    table = session.vendor.get(agent, {})
    table = dict(table) if isinstance(table, Mapping) else {}
    filled = [place for place, _ in holes({agent: table, **session.neutral})]
    fixed = {key: value for key, value in _without(session.neutral, filled).items() if key in PLAIN}
    if isinstance(names := session.neutral.get("tools"), list):
        fixed["tools"] = tuple(described(name, plan.tools[name]) for name in names if name in plan.tools)
    try:
        neutral = NeutralSettings.model_validate(fixed)
    except ValidationError:
        return None
    # An agent that waits has not spoken until it is connected; when that is, no checker can know.
    spoken = not plan.agent_waits
    return Asked(neutral, sample(table, plan), frozenset(map(_dotted, filled)), running, spoken)


def _without(tree: Any, places: Sequence[Path], path: Path = ()) -> Any:
    if isinstance(tree, Mapping):
        return {
            key: _without(value, places, (*path, key))
            for key, value in tree.items()
            if not any(
                place[: len(path) + 1] == (*path, key) and len(place) == len(path) + 1 for place in places
            )
        }
    return tree


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _problems(
    agents: Agents, agent: str, session: Resolved, plan: Dialplan, *, running: bool
) -> Iterator[tuple[Path, str, str]]:
    asked = _asked(agent, session, plan, running=running)
    for key, what, instead in agents.problems(agent, asked) if asked is not None else ():
        place: Path = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        yield place, what, instead


def _opened(path: Path, session: Resolved, plan: Dialplan, agents: Agents) -> Iterator[Finding]:
    """Whether this agent API can do what the session asks."""
    agent = session.agent or agents.default
    if agent not in agents.names:
        yield Finding((*path, "agent"), f"no such agent API `{agent}`", nearest(agent, list(agents.names)))
        return
    for place, what, instead in _problems(agents, agent, _with_tools(session, plan), plan, running=False):
        yield Finding((*path, *place), what, instead)


def _with_tools(session: Resolved, plan: Dialplan) -> Resolved:
    names = session.neutral.get("tools", list(plan.tools))
    neutral = {key: value for key, value in session.neutral.items() if key != "tools"}
    return Resolved(session.agent, {**neutral, "tools": names} if names else neutral, session.vendor)


def _switch(path: Path, name: str, session: Resolved, plan: Dialplan, agents: Agents) -> Iterator[Finding]:
    if name in plan.profiles:
        yield from _opened(("profiles", name), session, plan, agents)
        return
    for finding in _opened((), session, plan, agents):
        key = ".".join(map(str, finding.path))
        yield Finding((*path, "switch_agent"), f"{name}, {key}: {finding.what}", finding.instead)


def _update(path: Path, tree: Tree, plan: Dialplan, agents: Agents, used: Sequence[str]) -> Iterator[Finding]:
    if not isinstance(tree, dict) or not tree:
        yield Finding(path, "changes nothing", 'write update.instructions = "…", say')
        return
    wrong = list(keys(path, tree, plan, agents))
    yield from wrong
    if wrong:
        return
    for key in tree:
        if key not in NEUTRAL and key not in used:
            yield Finding((*path, key), f"{key} is never the agent here", f"write {' or '.join(used)}")
    neutral = {key: value for key, value in tree.items() if key in NEUTRAL}
    vendor = {key: value for key, value in tree.items() if key not in NEUTRAL}
    for agent in used:
        for place, what, instead in _problems(
            agents, agent, Resolved(agent, neutral, vendor), plan, running=True
        ):
            yield Finding((*path, *place), what, instead)


# ------------------------------------------------------------------ actions


def _abilities(
    plan: Dialplan, found: Iterable[tuple[Path, ActionBase]], agents: Agents, used: Sequence[str]
) -> Iterator[Finding]:
    for path, needed in (*_needed(found), *_greetings(plan)):
        for agent in used:
            why = agents.cannot(agent, needed)
            if why is not None:
                yield Finding(path, why, "remove it, or choose another agent")


def _needed(found: Iterable[tuple[Path, ActionBase]]) -> Iterator[tuple[Path, str]]:
    for path, action in found:
        if isinstance(action, Reply):
            yield (*path, "reply"), "reply"
        elif isinstance(action, SendText):
            yield (*path, "send_text"), f"text as {action.as_}"
        elif isinstance(action, Say) and action.by == "agent":
            yield (*path, "say"), "say"


def _greetings(plan: Dialplan) -> Iterator[tuple[Path, str]]:
    for index, greeting in enumerate(plan.greeting):
        if greeting.generate is not None:
            yield ("greeting", index, "generate"), "greeting generated"
        elif greeting.say is not None:
            yield ("greeting", index, "say"), "greeting verbatim"
