"""The dialplans that calls get: read, watched, and replaced as a whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog

from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.dialplan import walking
from telbridge.dialplan.actions import Say, SwitchAgent
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.loader import DialplanSet, examine, load, restore
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.dialplan.model import Dialplan, Greeting, Tool
from telbridge.dialplan.plan import Plan, Resolved
from telbridge.dialplan.templates import literal
from telbridge.serving.agent_apis import AgentApis
from telbridge.serving.last_good import LastGood
from telbridge.serving.recordings import Recordings, Stamp, missing_functions, stamp, with_sound
from telbridge.sessions.dialplan_agents import LOCAL

HANG_UP_TOOL: Final = "hang_up"
POLL_S: Final = 1.0
"""Between two looks at the folder. What changes is read when it has been still for one of them."""
MOST_WATCHED: Final = 10_000
"""Files looked at, in case the folder is the wrong one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All dialplans at one moment, with the WAV files that they name."""

    plans: DialplanSet
    recordings: Mapping[str, bytes]
    """PCM_8K, by the name in the dialplans."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one call gets; it keeps it to its end, whatever is loaded meanwhile."""

    plan: Plan
    recordings: Mapping[str, bytes]


def read(path: Path, agents: AgentApis, recordings: Recordings | None = None) -> Loaded:
    """A folder of dialplans, or one file. Blocks. DialplanErrors, with the mistakes of all files."""
    found = examine(path, agents)
    mistakes = [*found.mistakes, *missing_functions(found.plans)]
    # Of a folder with mistakes nothing is kept, so nothing of it may be remembered as read.
    reader = recordings if recordings is not None and not mistakes else Recordings()
    try:
        heard = reader.of(found.plans)
    except DialplanErrors as errors:
        mistakes += errors.mistakes
    if mistakes:
        raise DialplanErrors(mistakes)
    return Loaded(with_sound(found.plans, heard), heard)


class Dialplans:
    """Of one worker."""

    def __init__(
        self,
        settings: Settings,
        *,
        local_runs: bool = True,
        poll_s: float = POLL_S,
        last_good: LastGood | None = None,
    ) -> None:
        """Reads the folder of the settings, and blocks meanwhile: before any call. Without one, every call
        gets a dialplan made from the settings. `local_runs`: the embedded agent is there. `last_good`: what a
        worker before this one had; it stands in for a folder with mistakes. ConfigErrors."""
        self._last_good = last_good
        self._folder, self._poll_s = settings.dialplans.folder, poll_s
        self._agents = AgentApis(settings, local_runs=local_runs)
        self._recordings = Recordings()
        self._wanted = asyncio.Event()
        self._reading = asyncio.Lock()
        self._log = structlog.get_logger()
        self._seen: Mapping[Path, Stamp | None] = {}
        if self._folder is None:
            self._loaded = Loaded(DialplanSet((built_in(settings),), "settings"), {})
            return
        before = _stamps(self._folder)
        try:
            self._loaded = read(self._folder, self._agents, self._recordings)
        except DialplanErrors as errors:
            kept = self._kept()
            if kept is None:
                raise as_config_errors(errors) from None
            self._loaded = kept
            self._tell(errors)
        else:
            self._keep()
        self._seen = {**before, **self._recordings.stamps}

    def _kept(self) -> Loaded | None:
        """What the last worker had."""
        kept = self._last_good.take() if self._last_good is not None else None
        if kept is None:
            return None
        sources, heard = kept
        try:
            return Loaded(with_sound(restore(sources, self._agents), heard), heard)
        except DialplanErrors:
            return None

    def _keep(self) -> None:
        if self._last_good is not None:
            self._last_good.keep(self._loaded.plans.sources, self._loaded.recordings)

    def _tell(self, errors: DialplanErrors) -> None:
        for mistake in errors.mistakes:
            self._log.error("dialplan_mistake", what=str(mistake))
        self._log.error("dialplans_kept", version=self.plans.version)

    @property
    def plans(self) -> DialplanSet:
        """Those of now."""
        return self._loaded.plans

    def plan_for(self, facts: Facts, at: datetime) -> Chosen | None:
        """What a call gets that arrives at this moment; None: no dialplan is for it."""
        loaded = self._loaded
        plan = loaded.plans.plan_for(facts, at)
        return None if plan is None else Chosen(plan, loaded.recordings)

    @property
    def agents(self) -> set[str]:
        """The agent APIs that they name beside the one of the settings."""
        return {
            name
            for plan in self.plans.plans
            for name in _agents_of(plan)
            if name and name not in plan.sessions
        }

    @property
    def needs_voice(self) -> bool:
        """Whether some words are for our own voice by what the dialplans say."""
        return any(_speaks_itself(plan.dialplan) for plan in self.plans.plans)

    def ask_reload(self) -> None:
        """For SIGHUP: `watch` reads the folder again, changed or not."""
        self._wanted.set()

    async def reload(self) -> bool:
        """Read the folder again; whether that gave a new version. If anything is wrong all stays as it was,
        and each mistake is one line in the log."""
        if self._folder is None:
            return False
        async with self._reading:
            self._seen = await asyncio.to_thread(self._look, self._folder)
            before = await asyncio.to_thread(_stamps, self._folder)
            try:
                loaded = await asyncio.to_thread(read, self._folder, self._agents, self._recordings)
            except DialplanErrors as errors:
                self._tell(errors)
                return False
            except Exception:  # noqa: BLE001 - the wall between files and calls
                self._log.exception("dialplans_kept", version=self.plans.version)
                return False
            self._loaded, self._seen = loaded, {**before, **self._recordings.stamps}
            await asyncio.to_thread(self._keep)
        names = [plan.name for plan in self.plans.plans]
        self._log.info("dialplans_loaded", version=self.plans.version, dialplans=names)
        return True

    async def watch(self) -> None:
        """Until cancelled: reload when asked to, or when files changed and then stayed still. Ends at once
        if there is no folder."""
        last = self._seen
        while self._folder is not None:
            asked = await self._asked_within(self._poll_s)
            now = await asyncio.to_thread(self._look, self._folder)
            if asked or (now == last != self._seen):
                await self.reload()
            last = now

    async def _asked_within(self, wait_s: float) -> bool:
        try:
            await asyncio.wait_for(self._wanted.wait(), wait_s)
        except TimeoutError:
            return False
        self._wanted.clear()
        return True

    def _look(self, folder: Path) -> Mapping[Path, Stamp | None]:
        """All that a reload depends on."""
        return {**_stamps(folder), **{path: stamp(path) for path in self._recordings.stamps}}


def _stamps(folder: Path) -> Mapping[Path, Stamp | None]:
    return {path: stamp(path) for path in _watched(folder)}


def _watched(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield from folder.parent.glob("*.toml")
        return
    try:
        yield from (
            path
            for path in islice(folder.rglob("*"), MOST_WATCHED)
            if path.suffix.lower() in (".toml", ".wav")
        )
    except OSError:
        return  # Gone while it was looked at: seen next time.


def as_config_errors(errors: DialplanErrors) -> ConfigErrors:
    """So that whoever starts a worker reads them like those of the settings."""
    return ConfigErrors(
        [
            ConfigError(f"{one.file}:{one.line}" if one.line else one.file, one.key, one.what, one.instead)
            for one in errors.mistakes
        ]
    )


# ------------------------------------------------------------------ what plans need


def uses_local_agent(settings: Settings) -> bool:
    """Whether any call may be given to the embedded agent. Blocks; mistakes are for the worker to tell."""
    if settings.call.agent == LOCAL:
        return True
    folder = settings.dialplans.folder
    if folder is None:
        return False
    try:
        plans = load(folder, AgentApis(settings)).plans
    except DialplanErrors:
        return False
    return any(LOCAL in _agents_of(plan) for plan in plans)


def _agents_of(plan: Plan) -> Iterator[str | None]:
    yield from (session.agent for session in plan.sessions.values())
    yield from (
        action.switch_agent for _, action in walking.actions(plan.dialplan) if isinstance(action, SwitchAgent)
    )


def _speaks_itself(dialplan: Dialplan) -> bool:
    """Before the agent is connected, or where the dialplan says so."""
    if dialplan.notice is not None and dialplan.notice.say is not None:
        return True
    return any(isinstance(one, Say) and one.by == "local" for _, one in walking.actions(dialplan))


# ------------------------------------------------------------------ without a folder


def built_in(settings: Settings) -> Plan:
    """What stands in [call] as a dialplan, so that there is one way for all calls."""
    call = settings.call
    parts: dict[str, Any] = {"description": "made from the settings"}
    if call.greeting:
        way = "say" if call.greeting_verbatim else "generate"
        # A text of the settings is no template, whatever stands in it.
        parts["greeting"] = (Greeting(**{way: "…"}).model_copy(update={way: literal(call.greeting)}),)
    if call.agent_may_hang_up:
        parts["tools"] = {HANG_UP_TOOL: Tool(description=_HANG_UP, use="hangup")}
    version = hashlib.sha256(repr((call.greeting, call.greeting_verbatim, *parts)).encode()).hexdigest()[:12]
    agents = tuple(AgentApis(settings).names)
    session = {"": Resolved(None, {}, {})}
    return Plan("settings", "", version, Dialplan(**parts), session, {}, agents, call.agent)


def is_built_in(plan: Plan) -> bool:
    """Made by `built_in`: no file says it."""
    return not plan.file


_HANG_UP: Final = "End the phone call. Call it when the caller has said goodbye or wants to stop."
