"""The engine's memory of one call. Frozen: a step makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from operator import attrgetter
from typing import Any, Final

from telbridge.dialplan.actions import ActionBase, Collect
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.model import MAIN


class Origin(Enum):
    """What began a list of actions."""

    CONTEXT = auto()
    """Its keys, its way in, its menu: ends when another context is entered."""
    EVENT = auto()
    TOOL = auto()


@dataclass(frozen=True, slots=True)
class Run:
    """A list of actions on its way."""

    id: int
    rest: tuple[ActionBase, ...]
    origin: Origin
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Names of its own: facts of the event, arguments of the tool."""
    now: ActionBase | None = None
    """The action that is waited for."""
    order: int | None = None
    deadline_ns: int | None = None
    tool_call_id: str | None = None
    result: str = ""
    """For the agent, when all is done."""
    depth: int = 0
    """How many answers of webhooks led here."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An order that nobody waits for but that may fail."""

    action: str
    on_error: tuple[ActionBase, ...] | None
    extra: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Press:
    """A key that was taken, and by which methods it was told."""

    digit: str = field(repr=False)
    methods: frozenset[str]
    at_ns: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Collecting:
    """Digits that are being asked for."""

    run: int
    action: Collect
    tries_left: int
    digits: str = field(default="", repr=False)
    prompt: int | None = None
    """The order whose end is waited for; None: it was heard."""
    next_ns: int | None = None
    total_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """A menu that waits for a key."""

    tries_left: int
    prompt: int | None = None
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Noticing:
    """The notice before the call opens."""

    order: int | None
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Of one call."""

    facts: Facts
    started_ns: int
    agent: str
    answered_ns: int | None = None
    opened: bool = False
    """The notice is over."""
    connected: bool = False
    """Caller and agent hear each other."""
    hanging_up: bool = False
    """`HangUp` was ordered."""
    closing: bool = False
    """The call is over; `on.hangup` is being done."""
    ended: bool = False
    context: str = MAIN
    vars: Mapping[str, Any] = field(default_factory=dict)
    digits: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    next_id: int = 1
    runs: tuple[Run, ...] = ()
    pending: Mapping[int, Pending] = field(default_factory=dict)
    entering: int | None = None
    """The run after which the menu of the context asks."""
    asking: Asking | None = None
    collecting: Collecting | None = None
    noticing: Noticing | None = None
    presses: tuple[Press, ...] = ()
    typed: str = field(default="", repr=False)
    """The beginning of a sequence."""
    typed_since_ns: int = 0
    typed_until_ns: int | None = None
    discreet_until_ns: int = 0
    """Until then keys may still belong to masked digits."""
    caller_speaks: bool = False
    agent_speaks: bool = False
    held: bool = False
    quiet_since_ns: int | None = None
    silences: Mapping[str, int] = field(default_factory=dict)
    """By rule: in this quiet."""
    silences_in_row: Mapping[str, int] = field(default_factory=dict)
    """By rule: since the caller last gave a sign."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Events by name, and rules by place."""
    warned: frozenset[str] = frozenset()
    """Of which limits."""
    spent: float = 0.0
    """Cost up to `priced_ns`, by `limits.per_minute`."""
    priced_ns: int | None = None
    """Since when this agent is paid for; None: not answered yet."""
    tools: tuple[str, ...] | None = None
    """That the agent may call now; None: all of the dialplan."""
    deadline_ns: int | None = None
    """When the shell must pass a `Tick`, if nothing else happens before."""

    def copy(self) -> State:
        """Another one that is alike. `dataclasses.replace` takes a quarter of a step."""
        made = object.__new__(State)
        for put, value in zip(_PUT, _ALL(self), strict=True):
            put(made, value)
        return made


_NAMES: Final = tuple(one.name for one in fields(State))
_ALL: Final = attrgetter(*_NAMES)
_PUT: Final = tuple(vars(State)[name].__set__ for name in _NAMES)
