"""A call without a telephone: drives the engine, keeps its time, answers its orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from telbridge.dialplan import orders
from telbridge.dialplan.engine import begin, step
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.inputs import Done, Ended, Failed, Happened, Input, Key, Tick, ToolCalled
from telbridge.dialplan.orders import Order
from telbridge.dialplan.plan import Plan
from tests.dialplan.support import facts

T = TypeVar("T", bound=Order)
WAITED_FOR = (
    orders.Say, orders.Play, orders.Transfer, orders.SendDtmf, orders.CallWebhook, orders.SwitchAgent,
    orders.CallHttp, orders.CallPython,
)  # fmt: skip


class Line:
    """Speech is heard at once unless `slow`; everything else that is waited for, the test answers."""

    def __init__(
        self, plan: Plan, call: Facts | None = None, *, slow: bool = False, answered: bool = True
    ) -> None:
        self.plan = plan
        self.slow = slow
        self.now_s = 0.0
        self.state = begin(plan, call or facts(), 0, plan.sessions[""].agent or "openai_realtime")
        self.all: list[Order] = []
        if answered:
            self.event("answered")

    def put(self, happening: Input) -> list[Order]:
        """One input now; what came of it, with the answers to speech."""
        made = step(self.plan, self.state, happening, round(self.now_s * 1e9))
        self.state = made.state
        self.all += made.orders
        found = list(made.orders)
        if not self.slow:
            for order in made.orders:
                if isinstance(order, (orders.Say, orders.Play)):
                    found += self.put(Done(order.id))
        return found

    def event(self, name: str, **known: str) -> list[Order]:
        return self.put(Happened(name, known))

    def key(self, digits: str, method: str = "rfc4733", *, pause_s: float = 0.3) -> list[Order]:
        """Keys one after the other, no two at the same moment."""
        found: list[Order] = []
        for index, digit in enumerate(digits):
            if index:
                found += self.wait(pause_s)
            found += self.put(Key(digit, method, 100))
        return found

    def wait(self, seconds: float) -> list[Order]:
        """Time passes; ticks come when they were asked for."""
        end, found = self.now_s + seconds, list[Order]()
        while self.state.deadline_ns is not None and self.state.deadline_ns <= round(end * 1e9):
            self.now_s = self.state.deadline_ns / 1e9
            found += self.put(Tick())
        self.now_s = end
        return found

    def done(self, order: Order, answer: Any = None) -> list[Order]:
        return self.put(Done(order.id, answer))

    def fail(self, order: Order, error: str = "486 Busy Here") -> list[Order]:
        return self.put(Failed(order.id, error))

    def tool(self, name: str, arguments: str = "{}", call: str = "t1") -> list[Order]:
        return self.put(ToolCalled(call, name, arguments))

    def hang_up(self, cause: str = "caller_hung_up") -> list[Order]:
        return self.put(Ended(cause))


def only(found: list[Order], kind: type[T], where: Callable[[T], bool] = lambda _: True) -> T:
    """The one order of a kind."""
    wanted = [one for one in found if isinstance(one, kind) and where(one)]
    assert len(wanted) == 1, f"{len(wanted)} of {kind.__name__} in {found}"
    return wanted[0]


def said(found: list[Order]) -> list[str]:
    return [one.text for one in found if isinstance(one, orders.Say)]


def kinds(found: list[Order]) -> list[str]:
    return [type(one).__name__ for one in found]
