"""Whether every name in a template or condition exists where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from telbridge.dialplan import facts, walking
from telbridge.dialplan.actions import Collect, Set, SwitchAgent, Webhook
from telbridge.dialplan.asking import Around
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.lines import Path
from telbridge.dialplan.mistakes import Finding, nearest
from telbridge.dialplan.model import Dialplan, Session
from telbridge.dialplan.rules import EVENTS


def names(plan: Dialplan, around: Around) -> Iterator[Finding]:
    """Of the dialplan, and of the shared profiles that it uses."""
    known = own_names(plan, around.hours)
    masked = {name for name, ask in _collections(plan).items() if ask.masked}
    for text in walking.texts(plan):
        yield from _wrong(text, known, masked)
    for path, name, profile in _borrowed(plan, around.profiles):
        for text in walking.texts(profile):
            for finding in _wrong(text, known, masked):
                yield Finding(path, f"profile `{name}`: {finding.what}", finding.instead)


def broken(profiles: Mapping[str, Session]) -> Iterator[Finding]:
    """Templates of a shared file that are none. Which names exist, each dialplan knows that uses it."""
    for name, profile in profiles.items():
        for text in walking.texts(profile):
            if text.broken is not None:
                what, _, instead = str(text.broken).partition(": ")
                yield Finding(("profiles", name, *text.path), what, instead)


def _borrowed(plan: Dialplan, profiles: Mapping[str, Session]) -> Iterator[tuple[Path, str, Session]]:
    """The shared profiles that are used, each once, with the place that leads to it."""
    uses: list[tuple[Path, str]] = [(("session", "extends"), name) for name in plan.session.extends]
    for own, session in plan.profiles.items():
        uses += [(("profiles", own, "extends"), name) for name in session.extends]
    for path, action in walking.actions(plan):
        if isinstance(action, SwitchAgent):
            uses.append(((*path, "switch_agent"), action.switch_agent))
    seen = set(plan.profiles)
    while uses:
        path, name = uses.pop(0)
        if name in seen or name not in profiles:
            continue
        seen.add(name)
        yield path, name, profiles[name]
        uses += [(path, base) for base in profiles[name].extends]


def _wrong(text: walking.Text, known: Mapping[str, list[str]], masked: set[str]) -> Iterator[Finding]:
    if text.broken is not None:
        what, _, instead = str(text.broken).partition(": ")
        yield Finding(text.path, what, instead)
    for name in text.names:
        if finding := _wrong_name(name, text, known):
            yield Finding(text.path, *finding)
        elif name[0] == "digits" and name[1] in masked and _shows(text, name[1]):
            what = f"the digits of `{name[1]}` are masked"
            yield Finding(text.path, what, f'send them with a webhook that says reveal = ["{name[1]}"]')


def _shows(text: walking.Text, name: str) -> bool:
    return text.revealed is not None and name not in text.revealed


def own_names(plan: Dialplan, hours: Mapping[str, Hours]) -> dict[str, list[str]]:
    """The names that the dialplan defines, by table."""
    found = [action for _, action in walking.actions(plan)]
    variables = [*plan.vars, *(name for action in found if isinstance(action, Set) for name in action.set)]
    variables += [name for tool in plan.tools.values() for name in tool.variables]
    answers = [action.as_ for action in found if isinstance(action, Webhook) and action.as_]
    return {
        "vars": list(dict.fromkeys(variables)),
        "digits": list(_collections(plan)),
        "answers": list(dict.fromkeys(answers)),
        "hours": list(hours),
    }


def _collections(plan: Dialplan) -> dict[str, Collect]:
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
