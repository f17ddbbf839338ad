"""One step of the engine while it is being made: the state so far, the orders so far."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from telbridge.dialplan.actions import ActionBase
from telbridge.dialplan.model import MAIN
from telbridge.dialplan.orders import Note, Order
from telbridge.dialplan.plan import Plan
from telbridge.dialplan.rules import Context, KeyRule
from telbridge.dialplan.state import Pending, Run, State

MOST_ACTIONS: Final = 300
MOST_GOTOS: Final = 20
"""In one step."""
MOST_PENDING: Final = 64

O = TypeVar("O", bound=Order)  # noqa: E741


class Work:
    """Mutable within one step only."""

    def __init__(self, plan: Plan, state: State, at_ns: int) -> None:
        self.plan = plan
        self.state = state.copy()
        """Of this step alone, so that it may change in place: a copy for each change took most of a step."""
        self.at_ns = at_ns
        self.orders: list[Order] = []
        self._moment: Mapping[str, Any] | None = None
        self.actions_left = MOST_ACTIONS
        self.gotos_left = MOST_GOTOS

    def set(self, **changes: Any) -> None:
        """Change the state."""
        for name, value in changes.items():
            object.__setattr__(self.state, name, value)

    def after(self, seconds: float) -> int:
        """A moment from now."""
        return self.at_ns + max(1, round(seconds * 1e9))

    def order(self, kind: type[O], *arguments: Any, **named: Any) -> O:
        """Give an order."""
        made = kind(self.state.next_id, *arguments, **named)
        self.set(next_id=self.state.next_id + 1)
        self.orders.append(made)
        return made

    def note(self, what: str, detail: str) -> None:
        """For the log."""
        self.order(Note, what, detail[:300])

    def scope(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """What conditions and templates see now."""
        state = self.state
        since = state.answered_ns if state.answered_ns is not None else self.at_ns
        more = {
            "vars": state.vars,
            "digits": state.digits,
            "answers": state.answers,
            "agent": state.agent,
            "context": state.context,
            "duration_s": round((self.at_ns - since) / 1e9),
            "cost": round(self.cost, 4),
        }
        return {**self._of_this_moment(), **more, **extra}

    def _of_this_moment(self) -> Mapping[str, Any]:
        if self._moment is None:
            state = self.state
            now = state.facts.started_at + timedelta(microseconds=(self.at_ns - state.started_ns) // 1000)
            self._moment = self.plan.scope(state.facts, now, {})
        return self._moment

    @property
    def price(self) -> float:
        """Of a minute with the agent of now."""
        prices = self.plan.dialplan.limits.per_minute
        return prices.get(self.state.agent, prices.get("other", 0.0))

    @property
    def cost(self) -> float:
        """Of the call so far."""
        since = self.state.priced_ns
        return self.state.spent + (0.0 if since is None else self.price * (self.at_ns - since) / 60e9)

    # ------------------------------------------------------------ runs

    def run(self, run_id: int) -> Run | None:
        """A list that is still on its way."""
        return next((run for run in self.state.runs if run.id == run_id), None)

    def put(self, run: Run) -> None:
        """A run as it is now."""
        self.set(runs=tuple(run if one.id == run.id else one for one in self.state.runs))

    def drop(self, run_id: int) -> None:
        """A run is over."""
        self.set(runs=tuple(one for one in self.state.runs if one.id != run_id))

    def may_fail(
        self, order: Order, action: str, on_error: tuple[ActionBase, ...] | None, extra: Any
    ) -> None:
        """Remember what to do if an order fails that nobody waits for."""
        pending = {**self.state.pending, order.id: Pending(action, on_error, extra)}
        while len(pending) > MOST_PENDING:
            del pending[next(iter(pending))]
        self.set(pending=pending)

    # ------------------------------------------------------------ where we are

    @property
    def context(self) -> Context:
        """The context of now."""
        return self.plan.dialplan.context(self.state.context)

    @property
    def keys(self) -> Mapping[str, tuple[KeyRule, ...]]:
        """The keys that are bound now."""
        context = self.context
        if context.inherit and self.state.context != MAIN:
            return {**self.plan.dialplan.keys, **context.keys}
        return context.keys

    @property
    def sounding(self) -> bool:
        """Something is being said to the caller, as far as is known."""
        state = self.state
        prompts = (state.collecting, state.asking)
        return (
            state.agent_speaks
            or any(one is not None and one.prompt is not None for one in prompts)
            or any(type(run.now).__name__ in ("Say", "Play") for run in state.runs)
        )
