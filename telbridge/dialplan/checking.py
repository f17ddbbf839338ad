"""What a dialplan says that can't be meant: names that don't exist, actions that nobody reaches …"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from telbridge.dialplan import asking, matching, naming, walking
from telbridge.dialplan.actions import (
    Collect,
    Connect,
    Goto,
    HangUp,
    HoldMusic,
    Metric,
    Play,
    Record,
    Set,
    Stop,
    SwitchAgent,
    TagCall,
    Transfer,
    Webhook,
)
from telbridge.dialplan.asking import Around
from telbridge.dialplan.lines import Path
from telbridge.dialplan.mistakes import Finding, nearest
from telbridge.dialplan.model import MAIN, Dialplan, Session
from telbridge.dialplan.rules import ToolRule
from telbridge.dialplan.templates import Template

MOST_EXTENDS: Final = 12
"""Profiles that build on each other."""
_URL: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/|$)")
_SAFE_URL: Final = re.compile(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")


def findings(plan: Dialplan, around: Around) -> Iterator[Finding]:
    """Everything that is wrong."""
    circles = list(_extends(plan, around))
    yield from circles
    yield from _references(plan, around)
    yield from _lists(plan)
    yield from _details(plan)
    yield from _ringing(plan)
    yield from _recording(plan)
    for name in plan.limits.per_minute:
        known = [*around.agents.names, "other"]
        if name not in known:
            yield Finding(("limits", "per_minute", name), f"no such agent API `{name}`", nearest(name, known))
    yield from naming.names(plan, around)
    if not circles:
        yield from asking.sessions(plan, around)


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
    yield from _built_on(("session",), plan.session, around.profiles)
    yield from extends(plan.profiles, around.profiles)


def extends(own: Mapping[str, Session], profiles: Mapping[str, Session]) -> Iterator[Finding]:
    """What some profiles of a file build on, among all that there are."""
    told: set[frozenset[str]] = set()
    for name, profile in own.items():
        circle = _circle(name, profiles, ())
        if circle is None or frozenset(circle) not in told:
            yield from _built_on(("profiles", name), profile, profiles)
        told.add(frozenset(circle or ()))


def _built_on(path: Path, session: Session, profiles: Mapping[str, Session]) -> Iterator[Finding]:
    place: Path = (*path, "extends")
    for name in session.extends:
        if name not in profiles:
            hint = nearest(name, list(profiles)) if profiles else f"write [profiles.{name}]"
            yield Finding(place, f"no such profile `{name}`", hint)
        elif circle := _circle(name, profiles, ()):
            yield Finding(place, f"profiles without an end: {' → '.join(circle)}", "take one of them out")


def _circle(name: str, profiles: Mapping[str, Session], seen: tuple[str, ...]) -> tuple[str, ...] | None:
    if name in seen or len(seen) >= MOST_EXTENDS:
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


def _recording(plan: Dialplan) -> Iterator[Finding]:
    """Consent that nobody gives, or that leads to nothing."""
    starts = [
        (*path, "record")
        for path, action in walking.actions(plan)
        if isinstance(action, Record) and action.record in (True, "start")
    ]
    if plan.notice is not None and plan.notice.consent:
        starts.append(("notice", "consent"))
    if plan.recording == "off":
        for path in starts:
            yield Finding(path, "these calls are not recorded", 'write recording = "after_consent"')
    asks = any(isinstance(action, Webhook) for _, action in walking.actions(plan))
    if plan.recording == "after_consent" and not starts and not asks:
        yield Finding(("recording",), "nothing ever starts it", 'write the action "record" somewhere')


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
