"""The agent APIs as the checker of dialplans sees them: what each cannot do, locks, or does not take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from telbridge.dialplan.asking import Asked
from telbridge.dialplan.mistakes import explained
from telbridge.sessions.provider import (
    Ability,
    Lock,
    Provider,
    VendorSettings,
    Way,
    deep_merged,
    locks,
    neutral_keys,
)
from telbridge.sessions.providers import PROVIDERS

LOCAL: Final = "local"
"""The embedded agent, which speaks one of the APIs."""
_NEEDED: Final[Mapping[str, Ability]] = {
    "say": Ability.SAY,
    "reply": Ability.REPLY_NOW,
    "text as caller": Ability.TEXT_AS_CALLER,
    "text as context": Ability.TEXT_AS_CONTEXT,
    "greeting verbatim": Ability.GREETING_VERBATIM,
    "greeting generated": Ability.GREETING_GENERATED,
}
_LOCKED: Final[Mapping[Lock, str]] = {
    Lock.CONNECT: "belongs to the connection",
    Lock.START: "can only be set before the session starts",
    Lock.SPOKEN: "cannot change once the agent has spoken",
}
_INSTEAD: Final = "set it in the session, or `switch_agent` to a profile that has it"

Problem = tuple[str, str, str]


@dataclass(frozen=True)
class DialplanAgents:
    """For `dialplan.loader.load`."""

    default: str = LOCAL
    """`call.agent` of the settings."""
    local_api: str = "openai_realtime"
    """`call.local_api` of the settings."""
    sections: Mapping[str, VendorSettings | None] = field(default_factory=dict)
    """What the settings file says of each API; a dialplan's table is merged over it."""

    @property
    def names(self) -> Sequence[str]:
        """Of all agents."""
        return [LOCAL, *PROVIDERS]

    def cannot(self, agent: str, action: str) -> str | None:
        """Why this API cannot do it."""
        provider = self._provider(agent)
        support = provider.abilities[_NEEDED[action]]
        return f"{provider.title} cannot do this: {support.how}" if support.way is Way.IMPOSSIBLE else None

    def problems(self, agent: str, asked: Asked) -> Iterator[Problem]:
        """Of neutral settings and of the API's own."""
        provider = self._provider(agent)
        yield from _neutral_problems(provider, asked)
        if agent == LOCAL:
            for key in asked.vendor:
                yield (
                    f"{LOCAL}.{key}",
                    "the embedded agent has no such setting",
                    "write [local_agent] in the settings",
                )
            return
        if asked.running:
            for key, lock in locks(provider.settings, asked.vendor):
                if _is_locked(lock, asked):
                    yield f"{agent}.{key}", f"{_LOCKED[lock]} with {provider.title}", _INSTEAD
        yield from _vendor_problems(provider, self.sections.get(agent), asked)

    def _provider(self, agent: str) -> Provider[Any]:
        return PROVIDERS[self.local_api if agent == LOCAL else agent]


def _is_locked(lock: Lock | None, asked: Asked) -> bool:
    return asked.running and lock is not None and (lock is not Lock.SPOKEN or asked.spoken)


def _neutral_problems(provider: Provider[Any], asked: Asked) -> Iterator[Problem]:
    filled = [Ability(key) for key in sorted(asked.filled) if key in set(Ability)]
    for key in (*neutral_keys(asked.neutral), *filled):
        support = provider.abilities[key]
        if support.way is Way.IMPOSSIBLE:
            what = f"{provider.title} cannot do this: {support.how}"
            yield str(key), what, "remove it, or choose another agent"
        elif support.lock is not None and _is_locked(support.lock, asked):
            yield str(key), f"{_LOCKED[support.lock]} with {provider.title}", _INSTEAD


def _vendor_problems(
    provider: Provider[Any], section: VendorSettings | None, asked: Asked
) -> Iterator[Problem]:
    """Values, and for a whole session also what is missing and what does not go together."""
    base = section.model_dump(exclude_unset=True) if section is not None else {}
    tree = deep_merged(base, asked.vendor)
    try:
        settings = provider.settings.model_validate(tree)
    except ValidationError as error:
        yield from _faults(provider, error, tree, asked)
        return
    if asked.running or asked.filled:
        return
    try:
        settings = provider.with_neutral(settings, asked.neutral)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        yield provider.name, f"{key}: {fault['msg']}"[:200], "change it, or the setting that asks for it"
        return
    for key, text in provider.refusals(settings):
        what, _, instead = text.partition(": ")
        yield f"{provider.name}.{key}", what, instead


def _faults(
    provider: Provider[Any], error: ValidationError, tree: Mapping[str, Any], asked: Asked
) -> Iterator[Problem]:
    """One for each key. Of a change only what it says itself: the rest it does not know."""
    seen: set[str] = set()
    for fault in error.errors():
        if asked.running and fault["type"] == "missing":
            continue
        finding = explained(fault, tree, provider.settings)
        key = ".".join(map(str, (provider.name, *finding.path)))
        if key in seen or _is_filled(key, asked) or (asked.running and not finding.path):
            continue
        seen.add(key)
        yield key, finding.what, finding.instead


def _is_filled(key: str, asked: Asked) -> bool:
    return any(f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in asked.filled)
