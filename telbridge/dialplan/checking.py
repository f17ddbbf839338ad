"""What a dialplan says that can't be meant: names that don't exist, actions that nobody reaches …"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

from pydantic import ValidationError

from telbridge.dialplan import facts, matching, vocabulary, walking
from telbridge.dialplan.actions import (
    Collect,
    Connect,
    Goto,
    HangUp,
    HoldMusic,
    Metric,
    Play,
    Set,
    Stop,
    SwitchAgent,
    TagCall,
    Transfer,
    Update,
    Webhook,
)
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.lines import Path
from telbridge.dialplan.mistakes import Finding, in_file, nearest
from telbridge.dialplan.model import MAIN, Dialplan, Session
from telbridge.dialplan.plan import NEUTRAL, Resolved, described, resolved
from telbridge.dialplan.rules import EVENTS, ToolRule
from telbridge.dialplan.templates import Template, Tree, holes, rendered
from telbridge.dialplan.vocabulary import Json, NeutralSettings

_URL: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/|$)")
_SAFE_URL: Final = re.compile(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")


class Agents(Protocol):
    """The agent APIs that there are, as the loader must know them."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def default(self) -> str:
        """The one of the settings."""

    def problems(
        self, agent: str, neutral: NeutralSettings, vendor: Json, *, running: bool
    ) -> Iterable[tuple[str, str, str]]:
        """Dotted key as it stands in the session (`voice`, `turn_detection.mode`, `openai_realtime.speed`),
        what is wrong, what to write instead; for a session to be opened or (`running`) a change of it."""


@dataclass(frozen=True)
class Around:
    """What a dialplan may use besides itself."""

    profiles: Mapping[str, Session]
    hours: Mapping[str, Hours]
    agents: Agents


def findings(plan: Dialplan, around: Around) -> Iterator[Finding]:
    """Everything that is wrong."""
    circles = list(_extends(plan, around))
    yield from circles
    yield from _references(plan, around)
    yield from _lists(plan)
    yield from _details(plan)
    yield from _ringing(plan)
    yield from _names(plan, around)
    if not circles:
        yield from _sessions(plan, around)


def files(plan: Dialplan) -> Iterator[tuple[Path, str]]:
    """Every WAV file that is named."""
    for path, action in walking.actions(plan):
        for key, value in (
            ("play", getattr(action, "play", None)),
            ("prompt_wav", getattr(action, "prompt_wav", None)),
            ("music", getattr(action, "music", None)),
            ("hold_music", getattr(action, "hold_music", None)),
        ):
            if isinstance(value, str) and isinstance(action, (Play, Collect, Transfer, HoldMusic)):
                yield (*path, key), value
    for index, greeting in enumerate(plan.greeting):
        if greeting.wav is not None:
            yield ("greeting", index, "wav"), greeting.wav
    if plan.notice is not None and plan.notice.wav is not None:
        yield ("notice", "wav"), plan.notice.wav
    for name, context in plan.contexts.items():
        if context.menu is not None and context.menu.prompt_wav is not None:
            yield ("contexts", name, "menu", "prompt_wav"), context.menu.prompt_wav


# ------------------------------------------------------------------ references


def _extends(plan: Dialplan, around: Around) -> Iterator[Finding]:
    for path, session in (
        (("session",), plan.session),
        *((("profiles", name), profile) for name, profile in plan.profiles.items()),
    ):
        place: Path = (*path, "extends")
        for name in session.extends:
            if name not in around.profiles:
                hint = nearest(name, list(around.profiles)) if around.profiles else f"write [profiles.{name}]"
                yield Finding(place, f"no such profile `{name}`", hint)
            elif circle := _circle(name, around.profiles, ()):
                yield Finding(place, f"profiles in a circle: {' → '.join(circle)}", "take one of them out")


def _circle(name: str, profiles: Mapping[str, Session], seen: tuple[str, ...]) -> tuple[str, ...] | None:
    if name in seen:
        return (*seen, name)
    for base in profiles[name].extends if name in profiles else ():
        if circle := _circle(base, profiles, (*seen, name)):
            return circle
    return None


def _references(plan: Dialplan, around: Around) -> Iterator[Finding]:
    contexts = [MAIN, *plan.contexts]
    if MAIN in plan.contexts:
        yield Finding(("contexts", MAIN), "is the top of the file", "take another name")
    if plan.start not in contexts:
        yield Finding(("start",), f"no such context `{plan.start}`", nearest(plan.start, contexts))
    if plan.match is not None and isinstance(plan.match.hours, str):
        yield from _hours(("match", "hours"), plan.match.hours, around)
    agents = [*around.profiles, *around.agents.names]
    found = dict(walking.actions(plan))
    for path, action in found.items():
        if isinstance(action, Goto) and action.goto not in contexts:
            yield Finding((*path, "goto"), f"no such context `{action.goto}`", nearest(action.goto, contexts))
        if isinstance(action, SwitchAgent) and action.switch_agent not in agents:
            name = action.switch_agent
            yield Finding(
                (*path, "switch_agent"), f"no such profile or agent `{name}`", nearest(name, agents)
            )
    connects = any(isinstance(action, Connect) for action in found.values())
    if plan.agent_waits and not connects:
        yield Finding(
            ("agent_waits",), "nothing ever connects the agent", 'write the action "connect" somewhere'
        )
    for path, action in found.items():
        if isinstance(action, Connect) and not plan.agent_waits and path[:2] != ("notice", "refused"):
            yield Finding(
                path, "the agent is connected from the start", "remove it, or write agent_waits = true"
            )
    targets = {action.goto for action in found.values() if isinstance(action, Goto)} | {plan.start}
    asks = any(isinstance(action, Webhook) for action in found.values())
    for name in plan.contexts:
        if name not in targets and not asks:
            yield Finding(
                ("contexts", name), "nothing leads here", f'write {{ goto = "{name}" }} or start = "{name}"'
            )
    for index, rule in enumerate(plan.on.tool_called):
        if isinstance(rule, ToolRule) and rule.tool is not None and rule.tool not in plan.tools:
            place: Path = ("on", "tool_called", index, "tool")
            yield Finding(place, f"no such tool `{rule.tool}`", nearest(rule.tool, list(plan.tools)))


def _hours(path: Path, text: str, around: Around) -> Iterator[Finding]:
    name, _ = matching.hours_name(text)
    if name not in around.hours:
        hint = nearest(name, list(around.hours)) if around.hours else f"write [hours.{name}]"
        yield Finding(path, f"no such hours `{name}`", hint)


# ------------------------------------------------------------------ lists and details


def _lists(plan: Dialplan) -> Iterator[Finding]:
    for path, actions in walking.lists(plan):
        for index, action in enumerate(actions[:-1]):
            if action.when is None and (action.ends_list or isinstance(action, Stop)):
                yield Finding(
                    (*path, index + 1), "is never reached", f"put it before `{walking.name_of(action)}`"
                )
                break
        for index, action in enumerate(actions):
            if ("on", "hangup") in pairwise(path) and not action.after_hang_up:
                what = f"`{walking.name_of(action)}` cannot be done after hang-up"
                yield Finding((*path, index), what, "write set, tag, metric or webhook")


def _details(plan: Dialplan) -> Iterator[Finding]:
    for path, action in walking.actions(plan):
        if isinstance(action, Collect) and action.min > action.max:
            yield Finding(
                (*path, "min"), f"{action.min} is more than max, {action.max}", "write min up to max"
            )
        if isinstance(action, Collect) and action.prompt is not None and action.prompt_wav is not None:
            yield Finding((*path, "prompt_wav"), "is a second prompt", "write prompt or prompt_wav")
        if isinstance(action, Webhook):
            yield from _url((*path, "webhook"), action.webhook)
            if action.reveal and not _SAFE_URL.match(action.webhook.source):
                yield Finding(
                    (*path, "reveal"), "masked digits would go over an open line", "write an https URL"
                )
    for name, tool in plan.tools.items():
        if tool.http is not None:
            yield from _url(("tools", name, "http"), tool.http)
        for key in tool.optional:
            if key not in tool.parameters:
                yield Finding(
                    ("tools", name, "optional"),
                    f"no such parameter `{key}`",
                    nearest(key, [*tool.parameters]),
                )
    for name, context in plan.contexts.items():
        if context.menu is not None:
            menu: Path = ("contexts", name, "menu")
            if not context.keys:
                yield Finding(menu, "has no keys to choose from", f"write contexts.{name}.keys.1 = …")
            if (context.menu.prompt is None) is (context.menu.prompt_wav is None):
                yield Finding(menu, "must ask one way", "write prompt or prompt_wav")
    yield from _limits(plan)


_WHILE_RINGING: Final = (Set, TagCall, Metric, Webhook, HangUp, Stop)


def _ringing(plan: Dialplan) -> Iterator[Finding]:
    """Before the answer there is nobody to speak to, and no session to change."""
    for path, action in walking.actions(plan):
        if ("on", "ringing") in pairwise(path) and not isinstance(action, _WHILE_RINGING):
            what = f"`{walking.name_of(action)}` cannot be done while it rings"
            yield Finding(path, what, "write set, tag, metric, webhook, hangup or stop; or on.answered")


def _limits(plan: Dialplan) -> Iterator[Finding]:
    limits = plan.limits
    if limits.cost is not None and not limits.per_minute:
        yield Finding(("limits", "cost"), "has no price", "write limits.per_minute.other = 0.10, say")
    warns = "warn_s" in limits.model_fields_set
    if warns and limits.duration_s is not None and limits.warn_s >= limits.duration_s:
        yield Finding(("limits", "warn_s"), "is not before the end", f"write less than {limits.duration_s:g}")


def _url(path: Path, template: Template) -> Iterator[Finding]:
    head = template.parts[0]
    if not isinstance(head, str) or not _URL.match(head):
        yield Finding(path, "has no fixed scheme and host", 'write it as "https://host/path/{{ … }}"')


# ------------------------------------------------------------------ names in templates and conditions


def _names(plan: Dialplan, around: Around) -> Iterator[Finding]:
    known = own_names(plan, around.hours)
    masked = {name for name, ask in _asked(plan).items() if ask.masked}
    for text in walking.texts(plan):
        if text.broken is not None:
            what, _, instead = str(text.broken).partition(": ")
            yield Finding(text.path, what, instead)
        for name in text.names:
            if finding := _wrong_name(name, text, known):
                yield Finding(text.path, *finding)
            elif (
                name[0] == "digits"
                and name[1] in masked
                and text.revealed is not None
                and name[1] not in text.revealed
            ):
                what = f"the digits of `{name[1]}` are masked"
                yield Finding(text.path, what, f'send them with a webhook that says reveal = ["{name[1]}"]')


def own_names(plan: Dialplan, hours: Mapping[str, Hours]) -> dict[str, list[str]]:
    """The names that the dialplan defines, by table."""
    found = [action for _, action in walking.actions(plan)]
    variables = [*plan.vars, *(name for action in found if isinstance(action, Set) for name in action.set)]
    variables += [name for tool in plan.tools.values() for name in tool.variables]
    answers = [action.as_ for action in found if isinstance(action, Webhook) and action.as_]
    return {
        "vars": list(dict.fromkeys(variables)),
        "digits": list(_asked(plan)),
        "answers": list(dict.fromkeys(answers)),
        "hours": list(hours),
    }


def _asked(plan: Dialplan) -> dict[str, Collect]:
    """All collections by name; masked wins where two have the same name."""
    asked: dict[str, Collect] = {}
    for _, action in walking.actions(plan):
        if isinstance(action, Collect) and not (action.collect in asked and asked[action.collect].masked):
            asked[action.collect] = action
    return asked


def _wrong_name(
    name: tuple[str, ...], text: walking.Text, known: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    root, shown = name[0], ".".join(name)
    if root == "arguments" and text.arguments is not None and root in text.extra:
        if len(name) > 1 and name[1] not in text.arguments:
            return f"no such argument `{name[1]}`", nearest(name[1], text.arguments)
        return None
    if root in text.extra:
        return None if len(name) == 1 or root == "arguments" else (f"`{root}` has no parts", f"write {root}")
    if root in facts.PLAIN:
        return None if len(name) == 1 else (f"`{root}` has no parts", f"write {root}")
    if root in facts.OPEN_TABLES:
        return None if len(name) == 2 else (f"`{shown}` is not one of them", facts.OPEN_TABLES[root])
    if root == "time" or root in known:
        names = list(facts.TIME) if root == "time" else known[root]
        if len(name) < 2:
            return f"`{root}` is a table", f"write {root}.NAME; {nearest('', names)}"
        if name[1] in names and (len(name) == 2 or root == "answers"):
            return None
        return f"no such name `{shown}`", _nearest_in(root, name[1], names)
    events = [event for event, kind in EVENTS.items() if root in kind.facts]
    if events:
        return f"`{root}` does not exist here", f"it does in {', '.join(f'on.{event}' for event in events)}"
    everything = [*facts.PLAIN, "time", *facts.OPEN_TABLES, *facts.OWN_TABLES, *text.extra]
    return f"no such name `{shown}`", nearest(root, list(dict.fromkeys(everything)))


_HOW: Final = {
    "vars": "write it under [vars], or `set` it",
    "digits": "`collect` it first",
    "answers": "give a webhook this name with `as`",
    "hours": "write [hours.NAME]",
}


def _nearest_in(table: str, name: str, names: list[str]) -> str:
    hint = nearest(name, names) if names else ""
    if hint.startswith("did you mean"):
        return hint.replace("`", f"`{table}.", 1)
    return _HOW.get(table, hint)


# ------------------------------------------------------------------ sessions and updates


def _sessions(plan: Dialplan, around: Around) -> Iterator[Finding]:
    own = resolved(plan.session, around.profiles)
    used = {own.agent or around.agents.default}
    for name, profile in plan.profiles.items():
        yield from _session(("profiles", name), profile.settings, plan, around)
    yield from _session(("session",), plan.session.settings, plan, around)
    yield from _agent(("session",), own, plan, around)
    for path, action in walking.actions(plan):
        if isinstance(action, SwitchAgent):
            target = around.profiles.get(action.switch_agent)
            other = (
                resolved(target, around.profiles)
                if target
                else Resolved(action.switch_agent, own.neutral, own.vendor)
            )
            used.add(other.agent or around.agents.default)
            yield from _agent((*path, "switch_agent"), other, plan, around)
    for path, action in walking.actions(plan):
        if isinstance(action, Update):
            yield from _update((*path, "update"), action.update, plan, around, used)


def _session(path: Path, tree: Mapping[str, Tree], plan: Dialplan, around: Around) -> Iterator[Finding]:
    """The keys themselves, whichever agent it will be."""
    for key, value in tree.items():
        if key == "tools":
            yield from _tools((*path, key), value, plan)
        elif key not in NEUTRAL and key not in around.agents.names:
            what = "no such agent API" if isinstance(value, dict) else "no such setting"
            known = [*sorted(NEUTRAL - {"tools"}), *around.agents.names, "extends", "agent"]
            yield Finding((*path, key), what, nearest(key, known))
        elif key not in NEUTRAL and not isinstance(value, dict):
            yield Finding((*path, key), "must be a table", f"write {key}.NAME = …")
    yield from _neutral(path, {key: value for key, value in tree.items() if key in NEUTRAL - {"tools"}}, plan)


def _tools(path: Path, names: Tree, plan: Dialplan) -> Iterator[Finding]:
    if not isinstance(names, list):
        yield Finding(path, "must be a list of names", "write the names of [tools.NAME], or [] for none")
        return
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in plan.tools:
            hint = nearest(str(name), list(plan.tools)) if plan.tools else f"write [tools.{name}]"
            yield Finding((*path, index), f"no such tool `{name}`", hint)


def _described(names: Tree, plan: Dialplan) -> tuple[vocabulary.Tool, ...]:
    """As the agent would see them; those that do not exist have been told of."""
    return tuple(described(name, plan.tools[name]) for name in names if name in plan.tools)


def _neutral(path: Path, tree: Mapping[str, Tree], plan: Dialplan) -> Iterator[Finding]:
    filled = {place for place, _ in holes(tree)}
    try:
        NeutralSettings.model_validate(_sample(tree, plan))
    except ValidationError as error:
        for fault in error.errors():
            place = in_file(fault["loc"], tree, missing=True)
            if place in filled:
                continue
            what, instead = _neutral_words(fault, place)
            yield Finding((*path, *place), what, instead)


def _neutral_words(fault: Any, place: Path) -> tuple[str, str]:
    field = NeutralSettings.model_fields.get(str(place[0]))
    described = (field.description if field else "") or ""
    if fault["type"] == "extra_forbidden":
        return "no such setting", described
    message = str(fault["msg"])
    return f"{fault['input']!r}: {message[0].lower()}{message[1:]}", described


def _sample(tree: Any, plan: Dialplan) -> Any:
    """Filled with the variables as they are at first; what cannot be known is some text."""
    try:
        return rendered(tree, {"vars": plan.vars})
    except ValueError:
        return tree


def _agent(path: Path, session: Resolved, plan: Dialplan, around: Around) -> Iterator[Finding]:
    """Whether this agent API can do what is asked."""
    agent = session.agent or around.agents.default
    if agent not in around.agents.names:
        yield Finding(
            (*path, "agent"), f"no such agent API `{agent}`", nearest(agent, list(around.agents.names))
        )
        return
    tree = _sample(session.neutral, plan)
    if names := tree.pop("tools", list(plan.tools)):
        tree["tools"] = _described(names, plan)
    try:
        neutral = NeutralSettings.model_validate(tree)
    except ValidationError:
        return  # Said already, at its own key.
    vendor = _sample(session.vendor.get(agent, {}), plan)
    for key, what, instead in around.agents.problems(agent, neutral, vendor, running=False):
        yield Finding((*path, *key.split(".")), what, instead)


def _update(path: Path, tree: Tree, plan: Dialplan, around: Around, used: set[str]) -> Iterator[Finding]:
    if not isinstance(tree, dict) or not tree:
        yield Finding(path, "changes nothing", 'write update.instructions = "…", say')
        return
    before = list(_session(path, tree, plan, around))
    yield from before
    if before:
        return
    fixed = {
        key: _described(value, plan) if key == "tools" else value
        for key, value in _sample(tree, plan).items()
        if key in NEUTRAL and not list(holes(tree[key]))
    }
    neutral = NeutralSettings.model_validate(fixed)
    for key in tree:
        if key not in NEUTRAL and key not in used:
            yield Finding(
                (*path, key), f"{key} is never the agent here", f"the agent is {' or '.join(sorted(used))}"
            )
    for agent in sorted(used):
        vendor = _sample(tree.get(agent, {}), plan)
        for key, what, instead in around.agents.problems(agent, neutral, vendor, running=True):
            yield Finding((*path, *key.split(".")), what, instead)
