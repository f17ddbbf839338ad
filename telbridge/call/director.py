"""Drives the dialplan engine: what happens in a call goes in, the orders that follow are carried out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from telbridge.dialplan import engine
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.inputs import (
    Done,
    Ended,
    Failed,
    Happened,
    Input,
    Key,
    Tick,
    ToolCalled,
    ToolCancelled,
)
from telbridge.dialplan.orders import Order
from telbridge.dialplan.plan import Opening, Plan


@dataclass(frozen=True, slots=True)
class Script:
    """A dialplan and the call that it is for."""

    plan: Plan
    facts: Facts
    agent: str
    """The agent API that the call really gets at first."""


class Director:
    """One call's engine. Everything happens on the event loop; what an order answers at once waits for the
    orders before it."""

    def __init__(self, script: Script, perform: Callable[[Order], None], *, clock: Callable[[], int]) -> None:
        self._script, self._perform, self._clock = script, perform, clock
        self._state = engine.begin(script.plan, script.facts, clock(), script.agent)
        self._inputs: deque[Input] = deque()
        self._stepping = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.prepared = asyncio.Event()
        """What `on.ringing` looks up is known, or will not be."""

    @property
    def plan(self) -> Plan:
        return self._script.plan

    def opening(self) -> Opening:
        """How the call starts, with all that is known of it now."""
        return engine.opening(self.plan, self._state, self._clock())

    # ------------------------------------------------------------ what happens

    def happened(self, event: str, **facts: str) -> None:
        """An event by its name in a dialplan."""
        self._take(Happened(event, facts))

    def key(self, digit: str, method: str, duration_ms: int) -> None:
        self._take(Key(digit, method, duration_ms))

    def tool_called(self, tool_call_id: str, name: str, arguments: str) -> None:
        self._take(ToolCalled(tool_call_id, name, arguments))

    def tool_cancelled(self, tool_call_id: str) -> None:
        self._take(ToolCancelled(tool_call_id))

    def done(self, order: int, answer: Any = None) -> None:
        self._take(Done(order, answer))

    def failed(self, order: int, error: str) -> None:
        self._take(Failed(order, error))

    def ended(self, cause: str) -> None:
        """The call is over: only what `on.hangup` says is done any more."""
        self._take(Ended(cause))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ steps

    def _take(self, happening: Input) -> None:
        self._inputs.append(happening)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inputs:
                self._step(self._inputs.popleft())
        finally:
            self._stepping = False
        self._wind_up()

    def _step(self, happening: Input) -> None:
        step = engine.step(self.plan, self._state, happening, self._clock())
        self._state = step.state
        for order in step.orders:
            self._perform(order)

    def _wind_up(self) -> None:
        """The next deadline, and whether the call can be opened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ns = self._state.deadline_ns
        if deadline_ns is not None:
            wait_s = max(0.0, (deadline_ns - self._clock()) / 1e9)
            self._timer = self._loop.call_later(wait_s, self._take, Tick())
        if not engine.preparing(self._state):
            self.prepared.set()
